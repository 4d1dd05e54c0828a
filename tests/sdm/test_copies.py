"""Copies are found for what they are, and nothing else is."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.labels import VIEWS
from echo_lib.provenance import Run, Stage, StageError
from echo_lib.sdm import copies

SIZE = 128


@pytest.fixture
def noise():
    def noise(seed, count):
        blocks = np.random.default_rng(seed).integers(0, 256, (count, 16, 16), dtype=np.uint8)
        return blocks.repeat(SIZE // 16, axis=1).repeat(SIZE // 16, axis=2)

    return noise


def test_a_copy_is_found_whatever_its_brightness_speckle_and_side(noise):
    others = noise(0, 5)
    darker = (others[3] * 0.5 + 20).astype(np.uint8)
    speckled = np.clip(others[1] + np.random.default_rng(1).normal(0, 10, (SIZE, SIZE)), 0, 255)
    images = np.stack([darker, others[2][:, ::-1], speckled.astype(np.uint8)])
    best, which, mirrored = copies.nearest(images, others)
    assert which.tolist() == [3, 2, 1]
    assert mirrored.tolist() == [False, True, False]
    assert best[:2] == pytest.approx([1, 1], abs=1e-3)
    assert 0.97 < best[2] < 1


def test_another_image_correlates_less(noise):
    best, _, _ = copies.nearest(noise(2, 20), noise(3, 20))
    assert best.max() < 0.4


def test_correlation_is_pearsons(noise):
    image, other = noise(4, 1), noise(5, 1)
    a, b = (x[0].reshape(64, 2, 64, 2).mean(axis=(1, 3)) for x in (image, other))
    by_hand = [np.corrcoef(a.ravel(), side.ravel())[0, 1] for side in (b, b[:, ::-1])]
    assert copies.nearest(image, other)[0][0] == pytest.approx(max(by_hand))


def test_an_image_of_one_grey_value_is_like_none(noise):
    flat = np.full((SIZE, SIZE), 7, np.uint8)
    best, _, _ = copies.nearest(np.stack([noise(6, 1)[0], flat]), noise(6, 3))
    assert best == pytest.approx([1, 0])


def write_pairs(run, stage, file, lines, images, *, inputs=()):
    """An index and its images, as stages "prepared" and "synthetic" leave them."""
    found = Stage.open(run, stage, config={}, inputs=inputs)
    index = pd.DataFrame(lines, columns=["name", "patient", "view", "phase", "split"])
    index["image"] = [f"{stage}/{name}.png" for name in index.name]
    index["label_map"] = [f"{stage}/map.png" for _ in index.name]
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(found.folder / "map.png")
    for name, image in zip(index.name, images, strict=True):
        Image.fromarray(image).save(found.folder / f"{name}.png")
    index.to_csv(found.folder / file, index=False)
    found.finish([*found.folder.glob("*.png"), found.folder / file])


@pytest.fixture
def run(tmp_path, noise):
    """Three training patients, two others; one synthetic image is a mirrored training frame.

    And a function that writes stage "synthetic" anew, from the stages named.
    """
    run = Run(load_profile("smoke"), 0, None, tmp_path)
    held_out = run.profile.data.evaluation_split
    lines, images = [], noise(8, 2 * 5)
    for view in VIEWS:
        for n in range(5):
            split = "training" if n < 3 else held_out
            lines.append((f"{view}_ED_{n}", f"p{n}", view, "ED", split))
    es = [(f"{view}_ES_0", "p0", view, "ES", "training") for view in VIEWS]
    write_pairs(run, "prepared", "frames.csv", lines + es, [*images, *noise(9, 2)])
    made = [(f"{view}_ED_0_0", "p0", view, "ED", "training") for view in VIEWS]
    drawn = [images[1][:, ::-1], noise(10, 1)[0]]
    for view in VIEWS:
        stage = Stage.open(run, f"sdm/{view}", config={})
        (stage.folder / "weights.safetensors").write_bytes(view.encode())
        stage.finish([stage.folder / "weights.safetensors"])

    def write_synthetic(inputs):
        write_pairs(run, "synthetic", "pairs.csv", made, drawn, inputs=inputs)

    write_synthetic(())
    return run, write_synthetic


def test_stage_lines_and_summary(run):
    run, _ = run
    summary = copies.measure(run)
    lines = pd.read_csv(run.folder / "copies/images.csv").set_index("name")
    copied, other = lines.loc["2CH_ED_0_0"], lines.loc["4CH_ED_0_0"]
    if VIEWS[0] == "4CH":
        copied, other = other, copied
    assert copied.nearest == f"{copied.view}_ED_1"
    assert copied.mirrored
    assert copied.correlation == pytest.approx(1, abs=1e-6)
    assert other.correlation < 0.5
    assert not lines.nearest.str.contains("ES").any()  # the SDM has not seen them
    assert summary.n.tolist() == [2, 1, 2, 1]
    assert set(summary.group) == {copies.REAL, copies.BENT}
    real = lines[(lines.group == copies.REAL) & (lines.view == VIEWS[0])]
    first = summary[(summary.group == copies.REAL) & (summary.view == VIEWS[0])].iloc[0]
    assert first["mean"] == pytest.approx(real.correlation.mean(), abs=1e-5)
    assert first.largest == pytest.approx(real.correlation.max(), abs=1e-5)
    assert first.percentile_95 == pytest.approx(real.correlation.quantile(0.95), abs=1e-5)


def test_an_sdm_that_gives_frames_for_their_maps_is_found_out(run, monkeypatch):
    run, write_synthetic = run
    write_synthetic([f"sdm/{view}" for view in VIEWS])
    frames = pd.read_csv(run.folder / "prepared/frames.csv").set_index("name")

    def by_heart(view, label_maps, config, *, generators):
        known = [f"{view}_ED_{n}" for n in range(3)]
        images = [np.asarray(Image.open(run.folder / frames.image[name])) for name in known]
        assert len(label_maps) == len(generators) == 3
        return torch.from_numpy(np.stack(images))

    monkeypatch.setattr(copies, "denoiser_of", lambda run, view: view)
    monkeypatch.setattr(copies, "sample", by_heart)
    summary = copies.measure(run).set_index(["group", "view"])
    for view in VIEWS:
        given = summary.loc[(copies.GIVEN, view)]
        assert given[["n", "mean", "own"]].tolist() == pytest.approx([3, 1, 1])
        assert summary.loc[(copies.REAL, view), "own"] == 0


def test_a_finished_stage_returns_what_it_wrote(run):
    run, _ = run
    first = copies.measure(run)
    again = copies.measure(run)
    pd.testing.assert_frame_equal(first, again, atol=1e-5, rtol=0)


def test_it_needs_the_synthetic_images(run):
    run, _ = run
    (run.folder / "synthetic/manifest.json").unlink()
    with pytest.raises(StageError, match="'synthetic' is not finished"):
        copies.measure(run)
