"""Sampling: an image belongs to its map, whatever shares its batch or interrupts the run."""

import numpy as np
import pytest
import torch
from PIL import Image

from echo_lib.data.datasets import load_label_maps, read_index
from echo_lib.provenance import StageError, require
from echo_lib.sdm import sampling, training
from echo_lib.seeding import torch_generator


@pytest.fixture
def run(new_run, tmp_path):
    run = new_run(tmp_path, sdm__training__steps=20, sdm__training__learning_rate=0.01)
    for view in ("2CH", "4CH"):
        training.train(run, view)
    return run


def images(run):
    paths = sorted((run.folder / "synthetic/images").rglob("*.png"))
    return {path.name: path.read_bytes() for path in paths}


def test_dataset_has_one_image_per_map_under_the_map_s_name(run):
    manifest = sampling.sample_dataset(run)
    pairs, maps = read_index(run.folder, "synthetic"), read_index(run.folder, "maps")
    assert manifest["facts"]["images"] == 6
    assert pairs.name.tolist() == maps.name.tolist()
    for pair in pairs.itertuples():
        assert Image.open(run.folder / pair.image).size == (16, 16)
        assert pair.image.endswith(f"{pair.name}.png")


def test_interrupted_sampling_ends_in_the_same_files_and_keeps_finished_ones(run, monkeypatch):
    class Killed(Exception):
        pass

    def dies(done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        sampling.sample_dataset(run, on_batch=dies)
    kept = {path: path.stat().st_mtime_ns for path in (run.folder / "synthetic").rglob("*.png")}
    assert len(kept) == 3
    with pytest.raises(StageError, match="'synthetic' is not finished"):
        require(run, "synthetic")
    sampling.sample_dataset(run)
    resumed = images(run)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    for path in (run.folder / "synthetic").rglob("*"):
        if path.is_file():
            path.unlink()
    sampling.sample_dataset(run)
    assert images(run) == resumed


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver_pp"])
@pytest.mark.parametrize(("precision", "levels"), [("float32", 1), ("bfloat16", 4)])
def test_an_image_does_not_depend_on_its_batch_but_for_rounding(run, sampler, precision, levels):
    index = read_index(run.folder, "maps").head(3)
    maps = load_label_maps(run.folder, index)
    denoiser = sampling.load_denoiser(run.folder / "sdm/2CH/weights.safetensors")
    config = run.profile.sdm.sampling.__class__(
        sampler=sampler, steps=4, eta=0.5, guidance=0.5, batch_size=1, precision=precision
    )

    def generators():
        return [torch_generator("sample", 0, name) for name in index.name]

    together = sampling.sample(denoiser, maps, config, generators=generators())
    for k, generator in enumerate(generators()):
        alone = sampling.sample(denoiser, maps[k : k + 1], config, generators=[generator])
        assert np.abs(alone[0].int() - together[k].int()).max() <= levels
    assert not torch.equal(together[0], together[1])


def test_weights_without_a_header_are_refused(run, tmp_path):
    from echo_lib.checkpoints import save_weights

    path = tmp_path / "bare.safetensors"
    save_weights(path, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="no network config"):
        sampling.load_denoiser(path)


def test_a_process_a_view_gives_the_same_dataset(run):
    assert sampling.sample_dataset(run, views=("4CH",)) is None
    manifest = sampling.sample_dataset(run, views=("2CH",))
    for path in (run.folder / "synthetic").rglob("*"):
        if path.is_file():
            path.unlink()
    assert sampling.sample_dataset(run)["outputs_digest"] == manifest["outputs_digest"]
