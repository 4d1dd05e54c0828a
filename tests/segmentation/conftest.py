"""A tiny run with prepared frames: discs on a dark ground, 32 px."""

import numpy as np
import pandas
import pytest
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.provenance import Run, Stage

SIZE = 32
OVERRIDES = {
    "name": "tiny",
    "data.image_size_px": SIZE,
    "data.evaluation_split": "test",
    "segmentation.layers": 4,
    "segmentation.epochs": 4,
    "segmentation.batch_size": 4,
    "segmentation.loss": "dice_cross_entropy",
    "segmentation.checkpoint_every": 2,
    "segmentation.table_seeds": [0, 1],
    "segmentation.extra_seeds": [0, 1],
}


def draw_frame(generator):
    """A disc (LV) in a ring (myocardium) over a disc (atrium), as image and SDM map."""
    y, x = np.mgrid[:SIZE, :SIZE]
    row, column = generator.uniform(10, 14), generator.uniform(12, 20)
    distance = np.hypot(y - row, x - column)
    label_map = np.full((SIZE, SIZE), 2, np.uint8)
    label_map[distance < 8] = 3
    label_map[distance < 5] = 1
    label_map[np.hypot(y - row - 12, x - column) < 4] = 4
    grey = np.array([0, 40, 90, 200, 60])[label_map] + generator.normal(0, 8, label_map.shape)
    return grey.clip(0, 255).astype(np.uint8), label_map


def write_frames(folder):
    """Eight training and four validation frames, with ``frames.csv``; the files written."""
    generator, lines, files = np.random.default_rng(0), [], []
    for number, split in enumerate(["training"] * 8 + ["validation"] * 4, start=1):
        patient, view = f"patient{number:04d}", ("2CH", "4CH")[number % 2]
        name, line = f"{patient}_{view}_ED", {}
        arrays = dict(zip(("image", "label_map"), draw_frame(generator), strict=True))
        for kind, array in arrays.items():
            line[kind] = f"prepared/real/{split}/{view}_ED/{kind}s/{name}.png"
            files.append(folder.parent / line[kind])
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(files[-1])
        lines.append(
            {"name": name, "patient": patient, "view": view, "phase": "ED", "split": split, **line}
        )
    pandas.DataFrame(lines).to_csv(folder / "frames.csv", index=False)
    return [*files, folder / "frames.csv"]


def write_pairs(folder):
    """Two pairs of every frame, as a stage of generated images has them; the files written."""
    generator, lines, files = np.random.default_rng(1), [], []
    frames = pandas.read_csv(folder.parent / "prepared" / "frames.csv")
    for frame in frames.to_dict("records"):
        for k in range(2):
            line, name = frame | {"name": f"{frame['name']}_{k}"}, f"{frame['name']}_{k}.png"
            arrays = dict(zip(("image", "label_map"), draw_frame(generator), strict=True))
            for kind, array in arrays.items():
                line[kind] = f"{folder.name}/{kind}s/{name}"
                files.append(folder.parent / line[kind])
                files[-1].parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(files[-1])
            lines.append(line)
    pandas.DataFrame(lines).to_csv(folder / "pairs.csv", index=False)
    return [*files, folder / "pairs.csv"]


def generate_pairs(run, name):
    """Finish the stage ``name``, "synthetic" or "translated", with 16 training pairs."""
    stage = Stage.open(run, name, config={})
    stage.finish(write_pairs(stage.folder))


def make_run(root, **overrides):
    run = Run(load_profile("paper", OVERRIDES | overrides), 0, None, root)
    stage = Stage.open(run, "prepared", config={"data": run.profile.data})
    stage.finish(write_frames(stage.folder))
    return run


@pytest.fixture
def generate():
    return generate_pairs


@pytest.fixture
def tiny_run(tmp_path):
    return make_run(tmp_path)


@pytest.fixture
def new_run():
    return make_run
