"""Training: exact resume, shared batches, what stops it, what it writes."""

import os
import signal
import subprocess
import sys
import time

import pandas
import pytest
import torch

from echo_lib.checkpoints import load_state, load_weights
from echo_lib.config import as_yaml
from echo_lib.provenance import PACKAGE
from echo_lib.sdm import training
from echo_lib.sdm.stream import FrameStream


def weights(run, view="4CH"):
    return load_weights(run.folder / f"sdm/{view}/weights.safetensors")[0]


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class Killed(Exception):
    """Stands for the end of the process."""


def test_two_halves_equal_the_whole_to_the_bit(new_run, tmp_path, monkeypatch):
    whole, halves = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    training.train(whole, "4CH")
    update = training.Recipe.update

    def dies_in_step_5(self):
        if self.step == 4:
            raise Killed
        return update(self)

    monkeypatch.setattr(training.Recipe, "update", dies_in_step_5)
    with pytest.raises(Killed):
        training.train(halves, "4CH")
    monkeypatch.setattr(training.Recipe, "update", update)
    assert load_state(halves.folder / "sdm/4CH/checkpoint.pt")["step"] == 4
    training.train(halves, "4CH")
    assert equal(weights(whole), weights(halves))
    logs = [
        pandas.read_csv(run.folder / "sdm/4CH/log.csv").drop(
            columns=["seconds", "seconds_per_step"]
        )
        for run in (whole, halves)
    ]
    pandas.testing.assert_frame_equal(*logs)


def test_max_minutes_ends_with_a_checkpoint_and_the_rest_follows(new_run, tmp_path):
    whole, parts = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    training.train(whole, "4CH")
    while training.train(parts, "4CH", max_minutes=1e-9) is None:
        pass
    assert equal(weights(whole), weights(parts))


def test_finished_training_returns_its_manifest_and_touches_nothing(new_run, tmp_path):
    run = new_run(tmp_path)
    manifest = training.train(run, "2CH")
    before = (run.folder / "sdm/2CH/weights.safetensors").stat().st_mtime_ns
    assert training.train(run, "2CH") == manifest
    assert (run.folder / "sdm/2CH/weights.safetensors").stat().st_mtime_ns == before
    assert manifest["facts"]["steps"] == 6


def test_learning_rate_warms_up_and_anneals_to_zero(new_run, tmp_path):
    run = new_run(
        tmp_path,
        sdm__training__warmup_steps=2,
        sdm__training__learning_rate=0.1,
        sdm__training__steps=4,
    )
    training.train(run, "4CH")
    recipe = training.Recipe.begin(run, "4CH", tmp_path)
    rates = []
    for recipe.step in range(5):
        rates.append(recipe.learning_rate())
    assert rates == pytest.approx([0.05, 0.075, 0.05, 0.025, 0.0])


def test_a_loss_that_is_not_finite_stops_with_step_and_items(new_run, tmp_path, monkeypatch):
    run = new_run(tmp_path)
    update = training.Recipe.update

    def breaks_in_step_5(self):
        losses = update(self)
        return losses * float("nan") if self.step == 5 else losses

    monkeypatch.setattr(training.Recipe, "update", breaks_in_step_5)
    with pytest.raises(FloatingPointError, match=r"step 4 \(seed 0, view 4CH\).*patient000"):
        training.train(run, "4CH")
    assert load_state(run.folder / "sdm/4CH/checkpoint.pt")["step"] == 4


def test_initial_weights_are_taken_and_missing_ones_named(new_run, tmp_path):
    first = new_run(tmp_path / "a")
    training.train(first, "4CH")
    path = str(first.folder / "sdm/{view}/weights.safetensors")
    second = new_run(
        tmp_path / "b",
        sdm__training__initial_weights=path,
        sdm__training__learning_rate=0.0,
    )
    training.train(second, "4CH")
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor)
    with pytest.raises(FileNotFoundError, match="initial weights not found"):
        training.train(second, "2CH")


def test_items_do_not_depend_on_the_batch_they_come_in(new_run, tmp_path):
    stream = FrameStream.open(new_run(tmp_path), "4CH", device="cpu")
    together = stream.batch(range(4, 8))
    apart = [stream.batch([number]) for number in range(4, 8)]
    for whole, *parts in zip(together, *apart, strict=True):
        assert torch.equal(whole, torch.cat(parts))
    assert sorted(stream.position(n) for n in range(3, 6)) == [0, 1, 2]


def command(run, *launcher):
    profile = run.folder / "profile.yaml"
    profile.write_text(as_yaml(run.profile), encoding="utf-8")
    return [
        sys.executable, *launcher, "-m", "echo_lib.sdm.training", "--profile", str(profile),
        "--run-root", str(run.run_root), "--view", "4CH",
    ]  # fmt: skip


def environment():
    return os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}


def test_two_processes_equal_one(new_run, tmp_path):
    one, two = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    subprocess.run(command(one), env=environment(), check=True, capture_output=True)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    subprocess.run(command(two, *launcher), env=environment(), check=True, capture_output=True)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, atol=1e-5, rtol=0)


def test_killed_process_resumes_to_the_same_weights(new_run, tmp_path):
    changes = {"sdm__training__steps": 60, "sdm__training__checkpoint_every": 5}
    whole, killed = new_run(tmp_path / "a", **changes), new_run(tmp_path / "b", **changes)
    subprocess.run(command(whole), env=environment(), check=True, capture_output=True)
    checkpoint = killed.folder / "sdm/4CH/checkpoint.pt"
    process = subprocess.Popen(command(killed), env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < load_state(checkpoint)["step"] < 60
    subprocess.run(command(killed), env=environment(), check=True, capture_output=True)
    assert equal(weights(whole), weights(killed))
