import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import segmentation
from benchmarks.plain_loop import plain_transform
from echo_lib.config import load_profile
from echo_lib.segmentation.augmentation import apply, draw


@pytest.fixture
def profile():
    return load_profile("smoke", {"data.image_size_px": 32, "segmentation.layers": 4})


def test_the_plain_loop_transforms_as_the_library_does(profile):
    frames = segmentation.draw_frames(8, 64, torch.device("cpu"))
    drawn = [draw(profile.segmentation, np.random.default_rng(seed)) for seed in range(8)]
    images, label_maps = apply(frames.images, frames.label_maps, torch.tensor(drawn))
    for number, one in enumerate(drawn):
        pair = frames.images[number, 0].numpy(), frames.label_maps[number].numpy()
        grey, label_map = plain_transform(*map(Image.fromarray, pair), one)
        same = np.isclose(grey, images[number, 0].numpy(), atol=1e-5)
        same &= label_map == label_maps[number].numpy()
        assert same.mean() > 0.998  # but where a pixel lies between two


def test_rates_are_over_the_plain_loop_and_over_the_library():
    keys = [
        ("data path", "plain, 2 workers"), ("data path", "library"),
        ("training step", "plain, 2 workers"), ("training step", "library"),
        ("tried: training step", "4 seeds, batched parameters"),
    ]  # fmt: skip
    seconds = dict(zip(keys, (2.0, 0.25, 3.0, 2.0, 10.0), strict=True))
    calls = {key: (None, 40 if "seeds" in key[1] else 10) for key in keys}
    rows = segmentation.rows_of(calls, seconds, workers=2)
    assert [row["of_plain"] for row in rows] == pytest.approx([1, 8, 1, 1.5, 1.2])
    assert [row["of_ours"] for row in rows] == pytest.approx([1 / 8, 1, 2 / 3, 1, 0.8])
    found = segmentation.targets(rows, torch.device("cpu"))
    assert [(line["found"], line["met"]) for line in found] == [(8, True), (1.5, True)]


def test_every_call_runs_and_the_record_is_written(profile, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segmentation, "load_profile", lambda name: profile)
    out = tmp_path / "bench.json"
    arguments = ["--images", "8", "--rounds", "1", "--workers", "1", "--out", str(out)]
    segmentation.main([*arguments, "--profile", "smoke"])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [row["how"] for row in record["rows"]] == [
        "plain, no worker", "plain, 1 workers", "library", "plain, 1 workers", "library",
        "channels last", "bfloat16", "compiled", "4 seeds, batched parameters",
    ]  # fmt: skip
    assert all(row["images_per_second"] > 0 for row in record["rows"])
    assert (record["size_px"], record["machine"]["cores"] > 0) == (32, True)
    assert "| data path" in capsys.readouterr().out
    assert out.with_suffix(".md").is_file()
