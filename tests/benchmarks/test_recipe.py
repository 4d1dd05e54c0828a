import dataclasses
import json

import pytest
import torch

from benchmarks import hour, recipe
from benchmarks.measure import RESULTS, count_operations
from echo_lib.config import load_profile
from echo_lib.rows import find_row
from echo_lib.segmentation.unet import require_image_size

AGAIN = "run `python -m benchmarks.recipe` again"
ASSUMED = {key: value for key, (value, _) in recipe.ASSUMED.items()}


@pytest.fixture(scope="module")
def profile():
    return load_profile("reduced")


@pytest.fixture(scope="module")
def record():
    return json.loads((RESULTS / "recipe.json").read_text(encoding="utf-8"))


def rows(record, table):
    return record["tables"][table]["rows"]


def test_operations_are_counted_without_views():
    x = torch.ones(2, 3)
    assert count_operations(lambda: (x.T @ x).relu().view(9)) == 2


def test_the_chosen_network_is_the_profiles_and_can_be_shipped(profile, record):
    chosen = [row for row in rows(record, "candidates") if row["choice"] == "chosen"]
    assert len(chosen) == 1
    counts = hour.sdm_counts(profile.sdm.network, profile.data.image_size_px)
    assert chosen[0]["megabytes"] == 2 * counts["parameters"] / 1e6
    assert chosen[0]["megabytes"] < recipe.LIMIT_MB
    assert chosen[0]["uncached"] == counts["flops"]["uncached"] / 1e9
    again = [c for c in recipe.CANDIDATES if c.network(profile.sdm.network) == profile.sdm.network]
    assert [recipe.candidate_row(c, profile, ASSUMED) for c in again] == chosen, AGAIN
    assert len(rows(record, "candidates")) == len(recipe.CANDIDATES), AGAIN


def test_sizes_of_the_profile_fit_each_other(profile):
    size, network, training = (
        profile.data.image_size_px, profile.sdm.network, profile.sdm.training
    )  # fmt: skip
    assert size % (network.patch_size * 2 ** (len(network.multipliers) - 1)) == 0
    levels = [network.width * multiplier for multiplier in network.multipliers]
    joined = [a + b for a in levels for b in levels]
    assert not any(width % network.norm_groups for width in levels + joined)
    assert training.batch_size % training.micro_batch_size == 0
    assert training.warmup_steps < training.steps
    assert training.steps % training.checkpoint_every == 0
    assert 15 <= profile.sdm.sampling.steps <= 25
    assert profile.cyclegan.constant_epochs < profile.cyclegan.epochs
    segmentation = profile.segmentation
    require_image_size(segmentation, (size, size))
    assert segmentation.images_per_epoch % segmentation.batch_size == 0
    assert segmentation.epochs % segmentation.validate_every == 0
    assert segmentation.table_seeds == segmentation.extra_seeds == (0, 1, 2)


def test_work_by_hand(profile):
    counts = {
        "flops": {"training": 10.0, "cached": 2.0, "encode": 1.0},
        "started": {"training": 100, "cached": 7},
        "normals": 4,
    }
    training = dataclasses.replace(profile.sdm.training, steps=5, batch_size=6, micro_batch_size=4)
    work = hour.training_work(training, counts)
    # Two views, 5 steps of 6 images in two passes each.
    assert (work.flops, work.operations, work.normals) == (600.0, 2000, 240)
    sampling = hour.sampling_work(profile, counts)
    # 450 patients, 2 views, 2 phases, 5 maps; 25 steps and the start draw noise.
    assert sampling.images == 9000
    assert sampling.flops == 9000 * (1 + 25 * 2)
    assert sampling.normals == 9000 * 26 * 4
    assert sampling.operations == 2 * 36 * 25 * 7  # batches of 128


def test_pairs_of_a_row_by_hand(profile):
    expected = {"sdm_2ch_ed": 2000, "sdm_all": 8000, "real_all": 1600, "sdm_and_real_05": 8080}
    assert {row: hour.pairs_of(find_row(row), profile) for row in expected} == expected


def test_seconds_by_hand():
    assumed = dict.fromkeys(ASSUMED, 0.0) | {
        "peak_tflops_per_second": 100.0, "of_peak": 0.1, "normals_per_second": 10.0,
        "seconds_per_process": 3.0, "seconds_per_pair": 0.5,
    }  # fmt: skip
    work = hour.Work("stage", "", processes=2, flops=20e12, normals=50, pairs=8, seconds=1.0)
    predicted = hour.predict(work, assumed)
    assert predicted == {"gpu_seconds": 2.0, "cpu_seconds": 16.0, "alone": 18.0, "shared": 9.0}
    # The GPU's own seconds cannot be shared away.
    busy = dataclasses.replace(work, flops=200e12)
    assert hour.predict(busy, assumed)["shared"] == 20.0


def test_the_hour_is_what_is_counted_and_has_a_margin(profile, record):
    assert recipe.budget(profile, ASSUMED) == rows(record, "hour"), AGAIN
    *stages, total = rows(record, "hour")
    assert total["shared"] == pytest.approx(sum(stage["shared"] for stage in stages))
    assert total["shared"] < 0.8 * 3600
    assert {row["measured"] for row in rows(record, "hour")} == {"not run"}


def test_trials_are_those_of_their_files(record):
    assert recipe.trials() == rows(record, "trials"), AGAIN
    assert recipe.samplers() == rows(record, "samplers"), AGAIN


def test_the_gpus_numbers_are_those_of_its_manifests_and_of_its_log(profile, record):
    assert recipe.on_a_gpu(profile, ASSUMED) == rows(record, "gpu"), AGAIN
    manifests = [json.loads(p.read_text("utf-8")) for p in recipe.TRAINED.glob("sdm_*.json")]
    assert [manifest["device"][:4] for manifest in manifests] == ["cuda", "cuda"]
    training, sampling = rows(record, "gpu")
    for row in (training, sampling):
        per_second = row["teraflop"] / row["measured"]
        assert row["of_peak"] == pytest.approx(100 * per_second / ASSUMED["peak_tflops_per_second"])
        assert row["measured"] > row["predicted"]  # the page says so
    with open(RESULTS / recipe.SAMPLED, encoding="utf-8") as file:
        images = sum(int(line.split(",")[1]) for line in file.readlines()[1:])
    assert sampling["images_per_second"] * sampling["measured"] == pytest.approx(images)


def test_the_page_shows_the_record(record):
    text = recipe.PAGE.read_text(encoding="utf-8")
    assert recipe.BLOCK.findall(text)
    assert {name for _, name, _ in recipe.BLOCK.findall(text)} == {*record["tables"], "assumed"}
    assert recipe.updated(text, record) == text, AGAIN
    assert record["assumed"] == ASSUMED, AGAIN
