"""The samplers side by side: fixed maps, one noise, resumable."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echo_lib.config import ComparisonConfig
from echo_lib.data.datasets import load_pairs
from echo_lib.provenance import Stage, StageError
from echo_lib.sdm import comparison, training
from echo_lib.sdm.comparison import Setting, settings_of


@pytest.fixture(scope="module")
def run(new_run, tmp_path_factory):
    """A run with untrained networks, whose maps are of the validation split."""
    run = new_run(
        tmp_path_factory.mktemp("compared"),
        sdm__training__steps=1,
        sdm__comparison__maps=4,
        sdm__comparison__steps=[3, 2],
        sdm__comparison__reference_steps=6,
    )
    folder = run.folder / "prepared"
    maps = pd.read_csv(folder / "maps.csv").assign(split="validation")
    maps.to_csv(folder / "maps.csv", index=False)
    stage = Stage.open(run, "prepared", config={"data": run.profile.data})
    stage.finish([p for p in folder.rglob("*") if p.suffix in (".png", ".csv")])
    for view in ("2CH", "4CH"):
        training.train(run, view)
    return run


def test_settings_begin_with_the_cheapest_and_end_with_the_reference():
    config = ComparisonConfig(maps=4, steps=(20, 5), reference_steps=20)
    assert settings_of(config) == [
        ("ddpm", 5), ("ddim", 5), ("dpm_solver_pp", 5), ("ddim", 20), ("dpm_solver_pp", 20),
        ("ddpm", 20),
    ]  # fmt: skip
    assert str(Setting("ddim", 5)) == "ddim-5"


def test_maps_are_spread_over_views_phases_and_patients():
    lines = [
        {"name": f"p{n}_{view}_{phase}", "view": view, "phase": phase, "split": split}
        for split, count in (("training", 9), ("validation", 6))
        for n in range(count)
        for view in ("2CH", "4CH")
        for phase in ("ED", "ES")
    ]
    chosen = comparison._fixed_maps(pd.DataFrame(lines), 8)
    assert (chosen.split == "validation").all()
    assert chosen.groupby(["view", "phase"]).size().tolist() == [2, 2, 2, 2]
    assert chosen.name.str[:2].tolist() == ["p0", "p3"] * 4
    with pytest.raises(ValueError, match="no label maps in the validation split"):
        comparison._fixed_maps(pd.DataFrame(lines[:4]), 8)


def test_an_interrupted_comparison_ends_in_the_same_images(run):
    class Killed(Exception):
        pass

    def dies(done, total):
        if done >= 10:
            raise Killed

    with pytest.raises(StageError, match="'comparison' is not finished"):
        comparison.read(run)
    with pytest.raises(Killed):
        comparison.compare(run, on_batch=dies)
    kept = {p: p.stat().st_mtime_ns for p in (run.folder / "comparison").rglob("*.png")}
    manifest = comparison.compare(run)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    (run.folder / "comparison/manifest.json").unlink()
    for path in (run.folder / "comparison").rglob("*.png"):
        path.unlink()
    assert comparison.compare(run)["outputs_digest"] == manifest["outputs_digest"]
    assert comparison.compare(run)["facts"] == {"maps": 4}

    index = comparison.read(run)
    assert len(index) == 7 * 4
    assert index.groupby(["sampler", "steps"], sort=False).ngroups == 7
    pairs = load_pairs(run.folder, index)
    assert pairs.images.shape == (28, 1, 16, 16)
    by_setting = {key: part for key, part in index.groupby(["sampler", "steps"])}
    assert by_setting["ddpm", 6].label_map.tolist() == by_setting["ddim", 2].label_map.tolist()


def test_a_setting_is_what_sampling_with_it_gives(run):
    comparison.compare(run)
    index = comparison.read(run)
    part = index[(index.sampler == "ddim") & (index.steps == 3) & (index["view"] == "4CH")]
    config = dataclasses.replace(run.profile.sdm.sampling, sampler="ddim", steps=3)
    denoiser = comparison.denoiser_of(run, "4CH")
    expected = comparison.draw(run, denoiser, part, config)
    kept = np.stack([np.array(Image.open(run.folder / image)) for image in part.image])
    assert np.array_equal(kept, expected)
