"""Sampling: an image belongs to its map, whatever shares its batch or interrupts the run."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch._dynamo.exc import TorchDynamoException

from echo_lib.checkpoints import save_weights
from echo_lib.config import as_yaml
from echo_lib.data.datasets import load_label_maps, read_index
from echo_lib.provenance import Run, StageError, require, sha256_file
from echo_lib.sdm import denoiser as denoising
from echo_lib.sdm import sampling, training, verification
from echo_lib.seeding import seed_for, torch_generator


@pytest.fixture(scope="module")
def trained(new_run, tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    run = new_run(root, sdm__training__steps=20, sdm__training__learning_rate=0.01)
    for view in ("2CH", "4CH"):
        training.train(run, view)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A run with trained networks, to sample with."""
    shutil.copytree(trained.run_root, tmp_path, dirs_exist_ok=True)
    return dataclasses.replace(trained, run_root=tmp_path)


def images(run):
    paths = sorted((run.folder / "synthetic/images").rglob("*.png"))
    return {path.name: path.read_bytes() for path in paths}


def remove_samples(run):
    shutil.rmtree(run.folder / "synthetic")


def configured(run, **changes):
    return dataclasses.replace(run.profile.sdm.sampling, **changes)


def drawn(run, denoiser, index, config):
    maps = load_label_maps(run.folder, index)
    generators = [torch_generator("sample", 0, name) for name in index.name]
    return sampling.sample(denoiser, maps, config, generators=generators)


@pytest.fixture
def denoiser(run):
    return sampling.load_denoiser(run.folder / "sdm/2CH/weights.safetensors")


def test_dataset_has_one_image_per_map_under_the_map_s_name(run):
    manifest = sampling.sample_dataset(run)
    pairs, maps = read_index(run.folder, "synthetic"), read_index(run.folder, "maps")
    facts = manifest["facts"]
    assert (facts["images"], facts["computed_in"]) == (6, "float32")
    assert facts["images_per_second_of_a_process"] * facts["seconds_sampling"] > 0
    assert pairs.name.tolist() == maps.name.tolist()
    for pair in pairs.itertuples():
        assert Image.open(run.folder / pair.image).size == (16, 16)
        assert pair.image.endswith(f"{pair.name}.png")


def test_records_say_what_each_image_was_made_of(run):
    manifest = sampling.sample_dataset(run)
    records = pd.read_csv(run.folder / "synthetic/images.csv")
    assert "images.csv" in manifest["outputs"]
    assert len(records) == 6
    for record in records.itertuples():
        assert record.seed == seed_for("sample", 0, record.name)
        assert record.generator == f"sample/0/{record.name}"
        for kind in ("label_map", "weights", "image"):
            path = run.folder / getattr(record, kind)
            assert getattr(record, f"{kind}_sha256") == sha256_file(path)
    assert records.weights.nunique() == 2


def test_interrupted_sampling_ends_in_the_same_files_and_keeps_finished_ones(run):
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
    calls = []
    sampling.sample_dataset(run, on_batch=lambda done, total: calls.append((done, total)))
    assert calls == [(5, 6), (6, 6)]  # the two finished batches are not drawn again
    resumed = images(run)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    remove_samples(run)
    sampling.sample_dataset(run)
    assert images(run) == resumed


def test_the_pace_counts_every_process(run):
    sampling.sample_dataset(run, views=("2CH",))
    facts = sampling.sample_dataset(run, views=("4CH",))["facts"]
    log = (run.folder / "synthetic" / sampling.LOG).read_text().splitlines()
    views, counts, seconds = zip(*(line.split(",") for line in log), strict=True)
    assert set(views) == {"2CH", "4CH"}
    assert sum(map(int, counts)) == 6
    assert facts["seconds_sampling"] == pytest.approx(sum(map(float, seconds)), abs=0.06)


def test_a_process_a_view_gives_the_same_dataset(run):
    assert sampling.sample_dataset(run, views=("4CH",)) is None
    manifest = sampling.sample_dataset(run, views=("2CH",))
    remove_samples(run)
    assert sampling.sample_dataset(run)["outputs_digest"] == manifest["outputs_digest"]


def test_shards_make_the_same_dataset_and_the_last_one_finishes_it(run):
    whole = sampling.sample_dataset(run)["outputs_digest"]
    remove_samples(run)
    made = []
    for number in (3, 1, 2):
        manifest = sampling.sample_dataset(run, shard=sampling.Shard(number, 3))
        made.append(len(images(run)))
    assert made == [2, 5, 6]  # batches of 2, 1, 2 and 1 images
    assert manifest["outputs_digest"] == whole


def test_a_shard_of_nothing_is_no_fault(run):
    assert sampling.sample_dataset(run, shard=sampling.Shard(9, 9)) is None
    assert images(run) == {}


def test_shards_are_parsed_and_cover_everything_once():
    assert sampling.Shard.parse("3/16") == (3, 16)
    for wrong in ("0/4", "5/4", "4", "a/b", "-1/4"):
        with pytest.raises(ValueError, match="expected NUMBER/COUNT"):
            sampling.Shard.parse(wrong)
    items = list(range(10))
    shares = [sampling.Shard(number, 4).of(items) for number in range(1, 5)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_torchrun_processes_share_a_shard(monkeypatch):
    monkeypatch.setattr(sampling.distributed, "world_size", lambda: 4)
    found = set()
    for rank in range(4):
        monkeypatch.setattr(sampling.distributed, "rank", lambda rank=rank: rank)
        found |= {sampling.Shard(k, 2).of_process() for k in (1, 2)}
    assert found == {(number, 8) for number in range(1, 9)}


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver_pp"])
@pytest.mark.parametrize(("precision", "levels"), [("float32", 1), ("bfloat16", 4)])
def test_an_image_does_not_depend_on_its_batch_but_for_rounding(
    run, denoiser, sampler, precision, levels
):
    index = read_index(run.folder, "maps").head(3)
    config = configured(run, sampler=sampler, eta=0.5, guidance=0.5, precision=precision)
    together = drawn(run, denoiser, index, config)
    for k in range(3):
        alone = drawn(run, denoiser, index.iloc[k : k + 1], config)
        assert np.abs(alone[0].int() - together[k].int()).max() <= levels
    assert not torch.equal(together[0], together[1])


def test_the_map_alone_decides_the_condition(run, denoiser):
    index = read_index(run.folder, "maps").head(1)
    maps, config = load_label_maps(run.folder, index), configured(run, precision="float32")

    def image(label_maps, **changes):
        generators = [torch_generator("sample", 0, "one")]
        use = dataclasses.replace(config, **changes)
        return sampling.sample(denoiser, label_maps, use, generators=generators)

    assert torch.equal(image(maps), image(maps))
    assert not torch.equal(image(maps), image(maps.flip(-2)))
    # Guidance 0 is the plain model; the null condition of any other is the map of no label.
    assert not torch.equal(image(maps), image(maps, guidance=1.0))


def test_the_cache_changes_no_image_beyond_rounding(run, denoiser):
    index = read_index(run.folder, "maps").head(3)
    config = configured(run, precision="float32", guidance=0.5)
    kept = drawn(run, denoiser, index, dataclasses.replace(config, cache_gib=1.0))
    recomputed = drawn(run, denoiser, index, dataclasses.replace(config, cache_gib=0.0))
    assert np.abs(kept.int() - recomputed.int()).max() <= 1


def test_cache_and_compilation_are_no_part_of_the_stage(run):
    sampling.sample_dataset(run)
    other = configured(run, cache_gib=0.25, compile=True)
    sdm = dataclasses.replace(run.profile.sdm, sampling=other)
    again = dataclasses.replace(run, profile=dataclasses.replace(run.profile, sdm=sdm))
    before = images(run)
    assert sampling.sample_dataset(again)["facts"]["images"] == 6
    assert images(run) == before
    assert not list(run.folder.glob("synthetic.superseded-*"))


def test_a_failed_compilation_is_told_and_sampling_goes_on(run, denoiser, monkeypatch, capsys):
    def broken(model):
        def call(*args):
            raise TorchDynamoException("no compiler here\nmore")

        return call

    monkeypatch.setattr(denoising.torch, "compile", broken)
    path = run.folder / "sdm/2CH/weights.safetensors"
    compiled = sampling.load_denoiser(path, compiled=True)
    index, config = read_index(run.folder, "maps").head(1), configured(run)
    assert torch.equal(drawn(run, compiled, index, config), drawn(run, denoiser, index, config))
    assert capsys.readouterr().out.count("torch.compile failed (no compiler here)") == 1


def test_weights_without_a_header_are_refused(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_weights(path, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="no network config"):
        sampling.load_denoiser(path)


def test_shipped_weights_of_camus_come_before_those_of_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr(denoising, "PACKAGE", tmp_path / "echo_lib")
    assert sampling.shipped_weights("4CH") == tmp_path / "weights/phantom_4CH.safetensors"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/camus_4CH.safetensors").touch()
    assert sampling.shipped_weights("4CH").name == "camus_4CH.safetensors"
    assert sampling.shipped_weights("2CH").name == "phantom_2CH.safetensors"


@pytest.fixture
def sampled(run):
    sampling.sample_dataset(run)
    (run.folder / "profile.yaml").write_text(as_yaml(run.profile), encoding="utf-8")
    return run


def test_verify_draws_the_same_images_again(sampled, capsys):
    found = verification.verify(sampled, count=3)
    assert len(found.redrawn) in (3, 4)  # whole batches of 2 and 1
    assert found.redrawn.levels.max() == 0
    assert found.faults == ()
    with pytest.raises(SystemExit) as ended:
        sampling.main(["verify", str(sampled.folder), "--count", "6"])
    assert ended.value.code == 0
    assert "6 drawn again, 6 of them equal to the bit" in capsys.readouterr().out


def test_verify_tells_of_an_altered_image(sampled, capsys):
    pairs = read_index(sampled.folder, "synthetic")
    path = sampled.folder / pairs.image[0]
    image = np.array(Image.open(path))
    image[3, 3] ^= 64
    Image.fromarray(image).save(path)
    assert verification.report(sampled, count=6) == 1
    text = capsys.readouterr().out
    assert f"{pairs.image[0]}: altered" in text
    assert f"{pairs.image[0]}: drawn again it differs by 64 levels" in text


def test_verify_tells_of_other_weights_and_missing_files(sampled):
    weights = sampled.folder / "sdm/2CH/weights.safetensors"
    shutil.copyfile(sampled.folder / "sdm/4CH/weights.safetensors", weights)
    pairs = read_index(sampled.folder, "synthetic")
    (sampled.folder / pairs.image[5]).unlink()
    faults = verification.verify(sampled, count=6).faults
    assert "sdm/2CH/weights.safetensors: altered, its hash is not the recorded one" in faults
    assert f"{pairs.image[5]}: missing" in faults
    assert sum("drawn again" in fault for fault in faults) == 3  # those of the view


def test_verify_needs_a_finished_stage_and_the_profile(run):
    with pytest.raises(StageError, match="'synthetic' is not finished"):
        verification.run_in(run.folder)
    sampling.sample_dataset(run)
    with pytest.raises(StageError, match=r"profile\.yaml: no such file"):
        verification.run_in(run.folder)
    (run.folder / "profile.yaml").write_text(as_yaml(run.profile), encoding="utf-8")
    assert verification.run_in(run.folder) == Run(run.profile, 0, None, run.run_root.resolve())
