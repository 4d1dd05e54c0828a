"""Training: pinned losses, the rate by hand, exact resume, what stops it, what it writes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from echo_lib.checkpoints import load_state, load_weights
from echo_lib.config import as_yaml
from echo_lib.cyclegan import training
from echo_lib.provenance import PACKAGE, StageError


def weights(run):
    return load_weights(run.folder / "cyclegan/weights.safetensors")[0]


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


class Killed(Exception):
    """Stands for the end of the process."""


def test_two_halves_equal_the_whole_to_the_bit(new_run, tmp_path, monkeypatch):
    whole, halves = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    training.train(whole)
    update = training.Recipe.update

    def dies_within_the_last_epoch(self):
        if self.step == 7:
            raise Killed
        return update(self)

    monkeypatch.setattr(training.Recipe, "update", dies_within_the_last_epoch)
    with pytest.raises(Killed):
        training.train(halves)
    monkeypatch.setattr(training.Recipe, "update", update)
    state = load_state(halves.folder / "cyclegan/checkpoint.pt")
    assert state["step"] == 6
    assert len(state["pools"]["real"]) == 3
    training.train(halves)
    assert equal(weights(whole), weights(halves))
    last = [load_state(run.folder / "cyclegan/checkpoint.pt") for run in (whole, halves)]
    assert equal(last[0]["networks"], last[1]["networks"])
    logs = [
        pandas.read_csv(run.folder / "cyclegan/log.csv").drop(
            columns=["seconds", "seconds_per_step"]
        )
        for run in (whole, halves)
    ]
    pandas.testing.assert_frame_equal(*logs)


def test_max_minutes_ends_with_a_checkpoint_and_the_rest_follows(new_run, tmp_path):
    whole, parts = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    training.train(whole)
    while training.train(parts, max_minutes=1e-9) is None:
        pass
    assert equal(weights(whole), weights(parts))


def test_finished_training_returns_its_manifest_and_touches_nothing(new_run, tmp_path):
    run = new_run(tmp_path, epochs=1)
    manifest = training.train(run)
    path = run.folder / "cyclegan/weights.safetensors"
    before = path.stat().st_mtime_ns
    assert training.train(run) == manifest
    assert path.stat().st_mtime_ns == before
    facts = {key: manifest["facts"][key] for key in ("epochs", "steps", "pseudo_images")}
    assert facts == {"epochs": 1, "steps": 3, "pseudo_images": 4}
    assert manifest["facts"]["real_images"] == 6
    assert list(manifest["outputs"]) == ["weights.safetensors"]


def test_how_often_it_saves_is_no_part_of_its_identity(new_run, tmp_path):
    manifest = training.train(new_run(tmp_path, epochs=1))
    assert training.train(new_run(tmp_path, epochs=1, checkpoint_every=7)) == manifest


def test_learning_rate_is_constant_then_falls_to_zero(new_run, tmp_path):
    config = new_run(tmp_path, epochs=5, constant_epochs=1, learning_rate=0.1).profile.cyclegan
    rates = [training.learning_rate(config, epochs) for epochs in (0, 1, 1.5, 2, 3, 5)]
    assert rates == pytest.approx([0.1, 0.1, 0.0875, 0.075, 0.05, 0.0])


# In the order of TERMS; from this code on a CPU in float32.
PINNED = [
    [13.32787, 0.82282, 1.35699, 0.40624, 0.33801, 0.40026, 0.34084, 0.57228, 0.73705],
    [13.12449, 0.86674, 1.35979, 0.39945, 0.32865, 0.39272, 0.33066, 0.55902, 0.62099],
]


def test_losses_of_two_steps(new_run, tmp_path):
    run = new_run(tmp_path)
    recipe = training.Recipe.begin(run, tmp_path / "nothing")
    losses = torch.stack([recipe.update(), recipe.update()])
    expected = torch.tensor(PINNED)
    torch.testing.assert_close(losses, expected, atol=2e-4, rtol=0)
    rates = {group["lr"] for o in recipe.optimisers.values() for group in o.param_groups}
    assert rates == {run.profile.cyclegan.learning_rate}


def test_log_and_previews(new_run, tmp_path):
    run = new_run(tmp_path, checkpoint_every=2)
    training.train(run)
    log = pandas.read_csv(run.folder / "cyclegan/log.csv")
    assert tuple(log.columns) == training.LOG_COLUMNS
    assert log.epoch.tolist() == [1, 2, 3]
    weighted = log.adversarial_to_echo + log.adversarial_to_pseudo
    weighted += 10 * (log.cycle_pseudo + log.cycle_real)
    weighted += 5 * (log.identity_pseudo + log.identity_real)
    np.testing.assert_allclose(log.generators, weighted, rtol=1e-5)
    assert log.learning_rate.iloc[-1] == 0.0
    previews = sorted((run.folder / "cyclegan/previews").iterdir())
    assert [path.name for path in previews] == ["epoch_0002.00.png", "epoch_0003.00.png"]
    preview = np.array(Image.open(previews[-1]))
    assert preview.shape == (3 * 32, 4 * 32)
    first = np.array(Image.open(run.folder / "pseudo/i/heart0_4CH.png"))
    np.testing.assert_array_equal(preview[:32, :32], first)


def test_longer_training_follows_the_cycle(new_run, tmp_path):
    run = new_run(tmp_path, epochs=20, learning_rate=0.003, width=8)
    training.train(run)
    log = pandas.read_csv(run.folder / "cyclegan/log.csv")
    assert log.cycle_pseudo.iloc[-1] < 0.5 * log.cycle_pseudo.iloc[0]


def test_a_loss_that_is_not_finite_stops_with_epoch_and_items(new_run, tmp_path, monkeypatch):
    run = new_run(tmp_path)
    update = training.Recipe.update

    def breaks_in_step_5(self):
        losses = update(self)
        if self.step == 5:
            losses[4] = float("inf")
        return losses

    monkeypatch.setattr(training.Recipe, "update", breaks_in_step_5)
    message = r"cycle_real not finite in epoch 2, step 4 \(seed 0\), items heart\d.* \+ patient000"
    with pytest.raises(FloatingPointError, match=message):
        training.train(run)
    assert load_state(run.folder / "cyclegan/checkpoint.pt")["step"] == 3


def test_a_kind_without_training_images_is_named(new_run, tmp_path):
    run = new_run(tmp_path)
    index = run.folder / "pseudo/slices.csv"
    pandas.read_csv(index).assign(split="test").to_csv(index, index=False)
    with pytest.raises(StageError, match="no pseudo training images"):
        training.load_images(run, "cpu")


def command(run):
    profile = run.folder / "profile.yaml"
    profile.write_text(as_yaml(run.profile), encoding="utf-8")
    return [
        sys.executable, "-m", "echo_lib.cyclegan.training", "--profile", str(profile),
        "--run-root", str(run.run_root),
    ]  # fmt: skip


def environment():
    return os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}


def test_killed_process_resumes_to_the_same_weights(new_run, tmp_path):
    changes = {"epochs": 15, "checkpoint_every": 3}
    whole, killed = new_run(tmp_path / "a", **changes), new_run(tmp_path / "b", **changes)
    subprocess.run(command(whole), env=environment(), check=True, capture_output=True)
    checkpoint = killed.folder / "cyclegan/checkpoint.pt"
    process = subprocess.Popen(command(killed), env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < load_state(checkpoint)["step"] < 45
    subprocess.run(command(killed), env=environment(), check=True, capture_output=True)
    assert equal(weights(whole), weights(killed))
