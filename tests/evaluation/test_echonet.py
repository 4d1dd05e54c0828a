"""EchoNet-Dynamic from its files to the ledger's row, as notebook 06 goes."""

import csv
import dataclasses
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd
import pytest
import torch

from echo_lib.checkpoints import save_weights
from echo_lib.config import load_profile
from echo_lib.data import echonet
from echo_lib.evaluation import ledger, metrics, results
from echo_lib.labels import CAMUS_LA, CAMUS_LV, CAMUS_MYOCARDIUM
from echo_lib.provenance import Run, Stage, require
from echo_lib.rows import PAPER_ROWS, stage_name
from echo_lib.segmentation import prediction
from echo_lib.segmentation.unet import build_unet

# A bright cavity of 64 x 32 px on frame 4; left, right, top, bottom.
CAVITY = (16, 48, 16, 80)
# What the experts are said to have traced there, and the Dice by hand.
TRACED = {
    "0XA": ((16, 64, 16, 80), 2 * 2048 / (2048 + 3072)),  # half as wide again
    "0XB": ((32, 64, 16, 80), 2 * 1024 / (2048 + 2048)),  # half beside it
    "0XC": ((16, 48, 16, 48), 2 * 1024 / (2048 + 1024)),  # its upper half
}
SMALL = (50, 60, 20, 30)  # traced on frame 1, which is bright all over


def frame(number):
    """Of six frames of 112 x 112 px."""
    grey = np.full((112, 112), 220 if number == 1 else 20, np.uint8)
    left, right, top, bottom = CAVITY
    if number == 4:
        grey[top:bottom, left:right] = 220
    return grey


def write_video(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for number in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number), format="gray")))
        container.mux(stream.encode())


def tracing(name, number, box):
    """The long axis, then five chords."""
    left, right, top, bottom = box
    lines = [(left, top, left, bottom)]
    lines += [(left, y, right, y) for y in np.linspace(top, bottom, 5)]
    return [(f"{name}.avi", *line, number) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three traced test videos, one that is not traced, and one of another split."""
    root = tmp_path_factory.mktemp("echonet")
    (root / "Videos").mkdir()
    names = [*TRACED, "0XD", "0XE"]
    splits = dict.fromkeys(names, "TEST") | {"0XE": "TRAIN"}
    videos = [(n, 60, 40, 100, 112, 112, 30, 6, split) for n, split in splits.items()]
    boxes = {name: box for name, (box, _) in TRACED.items()} | {"0XE": CAVITY}
    traces = [
        line
        for name, box in boxes.items()
        for line in tracing(name, 1, SMALL) + tracing(name, 4, box)
    ]
    for file_name, header, lines in (
        ("FileList.csv", echonet.FILE_LIST, videos),
        ("VolumeTracings.csv", echonet.TRACINGS, traces),
    ):
        with open(root / file_name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *lines])
    for name in names:
        write_video(root / "Videos" / f"{name}.avi")
    return root


def bright_is_cavity():
    """A network of one 1 x 1 convolution: what is brighter than half is the LV cavity."""
    model = torch.nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[CAMUS_LV] = 1
        model.bias.zero_()
        model.bias[[CAMUS_LV, CAMUS_MYOCARDIUM, CAMUS_LA]] = torch.tensor([-0.5, -1.0, -1.0])
    return prediction.Network(2, model.eval(), mean=0.0, std=1.0, variant="as_released")


def test_the_ledger_s_row_holds_the_dice_worked_by_hand(folder):
    tested = echonet.load(folder, size_px=112)
    assert tested.index[["name", "frame"]].to_numpy().tolist() == [[name, 4] for name in TRACED]
    assert tested.untraced == ("0XD",)
    found = prediction.predict(bright_is_cavity(), tested.images)
    assert (found == CAMUS_LV).sum(axis=(1, 2)).tolist() == [2048] * 3
    videos = metrics.ventricle_dice(found, tested.masks, tested.index)
    by_hand = [dice for _, dice in TRACED.values()]  # 0.8, 0.5, 0.667
    assert videos["dice"].tolist() == pytest.approx(by_hand)
    cases = pd.DataFrame(columns=list(metrics.CASE_COLUMNS))
    table = ledger.ledger(cases, rows=PAPER_ROWS, echonet=videos).set_index("row")
    line = table.loc["echonet"]
    assert (line["tested_on"], line["structure"]) == ("echonet", "LV endo")
    assert line["ours"] == pytest.approx(100 * (0.8 + 0.5 + 2 / 3) / 3)
    assert line["difference"] == pytest.approx(65.5556 - 87.83, abs=1e-3)
    assert line["std_as_paper"] == pytest.approx(100 * np.std(by_hand))
    assert line["std_patients"] == pytest.approx(100 * np.std(by_hand, ddof=1))
    assert (line["n_patients"], line["n_cases"]) == (3, 3)
    # One resample in 27 is thrice the least, and one thrice the largest.
    assert (line["low"], line["high"]) == pytest.approx((50, 80))
    assert line["verdict"] == ledger.BELOW
    assert table.loc["echonet_gilbert", "difference"] == pytest.approx(65.5556 - 85.6, abs=1e-3)


@pytest.fixture
def run(tmp_path):
    """A run whose row "sdm_all" has weights: a U-Net of four layers, as it is initialised."""
    run = Run(dataclasses.replace(load_profile("smoke"), name="tiny"), 0, None, tmp_path)
    Stage.open(run, "prepared", config={}).finish([])
    stage = Stage.open(run, stage_name("sdm_all", 0), config={})
    metadata = {"layers": 4, "mean": 0.2, "std": 0.25, "variant": "as_written"}
    weights = stage.folder / "weights.safetensors"
    save_weights(weights, build_unet(SimpleNamespace(layers=4)).state_dict(), metadata=metadata)
    stage.finish([weights])
    return run


def test_the_weights_of_a_run_are_tested_and_its_files_hold_the_numbers(folder, run):
    tested = echonet.load(folder, size_px=run.profile.data.image_size_px)
    weights = run.folder / stage_name("sdm_all", 0) / "weights.safetensors"
    found = prediction.predict(prediction.load_network(weights), tested.images)
    videos = metrics.ventricle_dice(found, tested.masks, tested.index)
    cavities = found == CAMUS_LV
    both, either = (cavities & tested.masks), cavities.astype(int) + tested.masks
    expected = 2 * both.sum(axis=(1, 2)) / either.sum(axis=(1, 2))
    assert videos["dice"].to_numpy() == pytest.approx(expected)
    assert len(set(expected)) == 3
    truths = np.where(tested.masks, CAMUS_LV, 0)
    cases = metrics.dice(found, truths, tested.index, row="sdm_all", seed=0)
    results.write_results(run, cases, echonet=videos)
    written = require(run, "evaluation")["outputs"]
    assert "echonet.csv" in written
    saved = pd.read_csv(run.folder / "evaluation" / "echonet.csv")
    assert saved["name"].tolist() == list(TRACED)
    assert saved["dice"].to_numpy() == pytest.approx(expected, abs=1e-5)
    line = pd.read_csv(run.folder / "evaluation" / "ledger.csv").set_index("row").loc["echonet"]
    assert line["ours"] == pytest.approx(100 * expected.mean(), abs=1e-3)
    assert line["n_patients"] == 3
    text = (run.folder / "evaluation" / "ledger.md").read_text(encoding="utf-8")
    shown = f"| 87.83 ± 7.21 | {100 * expected.mean():.1f} |"
    assert f"| All SDM frames, on EchoNet-Dynamic A4C ED | LV endo {shown}" in text
