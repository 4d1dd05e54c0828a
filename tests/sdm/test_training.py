"""Training: exact resume, shared batches, what stops it, what it writes."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pandas
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from echo_lib.checkpoints import load_state, load_weights
from echo_lib.config import as_yaml
from echo_lib.provenance import PACKAGE
from echo_lib.sdm import preview, stream, training
from echo_lib.sdm.stream import FrameStream, validation_maps


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


def test_a_gradient_that_is_not_finite_stops_before_it_is_saved(new_run, tmp_path, monkeypatch):
    run = new_run(tmp_path)
    accumulate = training.Recipe._accumulate

    def breaks_in_step_3(self):
        losses = accumulate(self)
        if self.step == 3:
            next(self.model.parameters()).grad[0] = float("inf")
        return losses

    monkeypatch.setattr(training.Recipe, "_accumulate", breaks_in_step_3)
    with pytest.raises(FloatingPointError, match="loss or gradient not finite at step 3"):
        training.train(run, "4CH")
    state = load_state(run.folder / "sdm/4CH/checkpoint.pt")
    assert state["step"] == 2
    assert all(tensor.isfinite().all() for tensor in state["ema"])


def test_the_phases_of_its_frames_are_the_configs(new_run, tmp_path):
    run = new_run(tmp_path)
    index = pandas.read_csv(run.folder / "prepared/frames.csv")
    late = (index["view"] == "4CH") & (index["patient"] == "patient0002")
    index.loc[late, "phase"] = "ES"
    index.to_csv(run.folder / "prepared/frames.csv", index=False)
    for phases, numbers in ((("ED",), (1, 3)), (("ED", "ES"), (1, 2, 3))):
        chosen = dataclasses.replace(run.profile.sdm.training, phases=phases)
        sdm = dataclasses.replace(run.profile.sdm, training=chosen)
        some = dataclasses.replace(run, profile=dataclasses.replace(run.profile, sdm=sdm))
        names = FrameStream.open(some, "4CH", device="cpu").names
        assert {int(name[7:11]) for name in names} == set(numbers)
    with pytest.raises(ValueError, match=r"no training frame of view 2CH and phases \['ES'\]"):
        FrameStream.open(new_run(tmp_path / "b", sdm__training__phases=["ES"]), "2CH", device="cpu")


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


def test_drawing_ahead_changes_nothing(new_run, tmp_path, monkeypatch):
    changes = {"sdm__training__micro_batch_size": 1, "sdm__training__batch_size": 3}
    plain, ahead = (new_run(tmp_path / name, **changes) for name in ("a", "b"))
    training.train(plain, "4CH")
    drawn, draws = [], FrameStream.draws

    def noted(self, numbers):
        drawn.append((numbers, threading.current_thread() is threading.main_thread()))
        return draws(self, numbers)

    monkeypatch.setattr(stream, "AHEAD_OF", ("cpu",))
    monkeypatch.setattr(FrameStream, "draws", noted)
    training.train(ahead, "4CH")
    # each once, only the first by the main thread; what follows the last is drawn in vain
    once = sorted(drawn, key=lambda line: line[0].start)[: 6 * 3]
    assert once == [(range(n, n + 1), n == 0) for n in range(6 * 3)]
    assert equal(weights(plain), weights(ahead))


def command(run, *launcher):
    profile = run.folder / "profile.yaml"
    profile.write_text(as_yaml(run.profile), encoding="utf-8")
    return [
        sys.executable, *launcher, "-m", "echo_lib.sdm.training", "--profile", str(profile),
        "--run-root", str(run.run_root), "--view", "4CH",
    ]  # fmt: skip


def environment():
    return os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}


def several(processes):
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))


# A batch of 4: in micro-batches of 2, whole, and in shares of 1, 1 and 2.
@pytest.mark.parametrize(("processes", "micro"), [(2, 2), (2, 4), (3, 4)])
def test_several_processes_equal_one(new_run, tmp_path, processes, micro):
    changes = {"sdm__training__steps": 5, "sdm__training__micro_batch_size": micro}
    one, shared = new_run(tmp_path / "a", **changes), new_run(tmp_path / "b", **changes)
    training.train(one, "4CH")
    call = command(shared, *several(processes))
    subprocess.run(call, env=environment(), check=True, capture_output=True)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(shared)[name], tensor, atol=1e-5, rtol=0)
    losses = [pandas.read_csv(run.folder / "sdm/4CH/log.csv") for run in (one, shared)]
    torch.testing.assert_close(*(torch.tensor(log.loss) for log in losses), atol=1e-5, rtol=0)


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


STOPS_IN_STEP_5 = """
from echo_lib.sdm import training

update = training.Recipe.update

def stops(self):
    if self.step == 4:
        raise SystemExit
    return update(self)

training.Recipe.update = stops
training.main()
"""


def test_another_number_of_processes_goes_on_where_the_first_stopped(new_run, tmp_path):
    whole, parts = new_run(tmp_path / "a"), new_run(tmp_path / "b")
    training.train(whole, "4CH")
    script = tmp_path / "stops.py"
    script.write_text(STOPS_IN_STEP_5, encoding="utf-8")
    python, _, _, *arguments = command(parts)
    call = [python, *several(2), str(script), *arguments]
    subprocess.run(call, env=environment(), check=True, capture_output=True)
    assert load_state(parts.folder / "sdm/4CH/checkpoint.pt")["step"] == 4
    training.train(parts, "4CH")
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor, atol=1e-5, rtol=0)


def test_log_means_the_mse_of_each_quarter_of_the_steps(new_run, tmp_path):
    recipe = training.Recipe.begin(new_run(tmp_path), "4CH", tmp_path)
    # T is 1000, so quarters begin at 0, 250, 500, 750; the third holds none, the last one twice 4.
    t, mse = torch.tensor([0, 249, 250, 999, 750]), torch.tensor([1.0, 2.0, 3.0, 4.0, 4.0])
    sums, counts = recipe._by_quartile(mse, t)
    assert (sums.tolist(), counts.tolist()) == ([3.0, 3.0, 0.0, 8.0], [2, 1, 0, 2])
    norm = torch.ones(1)
    recipe.pending = [torch.cat([torch.tensor([5.0, 6.0, 0.0]), sums, counts, norm])]
    recipe.pending += [torch.cat([torch.tensor([7.0, 8.0, 0.0]), 0 * sums, 0 * counts, norm])]
    recipe.step = 2
    recipe.flush()
    row = dict(zip(training.LOG_COLUMNS, recipe.log[0], strict=True))
    assert (row["loss"], row["mse"]) == (6.0, 7.0)
    assert [row["mse_q1"], row["mse_q2"], row["mse_q4"]] == [1.5, 3.0, 4.0]
    assert math.isnan(row["mse_q3"])


class Waits(TorchDispatchMode):
    """Counts the operations for which the host would wait for the device."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


def test_the_loop_never_waits_for_the_device(new_run, tmp_path):
    recipe = training.Recipe.begin(
        new_run(tmp_path, sdm__training__gradient_clip=1.0), "4CH", tmp_path
    )
    with Waits() as waits:
        torch.ones(()).item()
        recipe.update()
        recipe.update()
    assert waits.count == 1


def test_previews_show_the_same_maps_and_change_nothing(new_run, tmp_path):
    plain = new_run(tmp_path / "a")
    shown = new_run(tmp_path / "b", sdm__training__preview_every=4)
    before = torch.random.get_rng_state()
    manifests = [training.train(run, "4CH") for run in (plain, shown)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert manifests[0]["outputs_digest"] == manifests[1]["outputs_digest"]
    film = preview.film(shown, ["4CH"])
    assert list(film.images) == [0, 4, 6]
    assert film.names == ("patient0004_4CH_ED",)
    assert film.label_maps.shape == film.images[0].shape == (1, 16, 16)
    assert not (film.images[0] == film.images[4]).all()
    assert preview.film(plain, ["4CH"]).images == {}


def test_a_run_goes_on_with_or_without_previews_and_recomputed_activations(new_run, tmp_path):
    first = new_run(tmp_path)
    manifest = training.train(first, "4CH")
    changes = {"preview_every": 2, "checkpoint_activations": True, "checkpoint_every": 5}
    changes |= {"compile": True}
    config = dataclasses.replace(first.profile.sdm.training, **changes)
    sdm = dataclasses.replace(first.profile.sdm, training=config)
    other = dataclasses.replace(first, profile=dataclasses.replace(first.profile, sdm=sdm))
    assert training.train(other, "4CH") == manifest


def test_previews_need_a_validation_frame(new_run, tmp_path):
    run = new_run(tmp_path)
    frames = pandas.read_csv(run.folder / "prepared/frames.csv")
    frames[frames.split == "training"].to_csv(run.folder / "prepared/frames.csv", index=False)
    with pytest.raises(ValueError, match=r"set sdm\.training\.preview_every to 0"):
        validation_maps(run, "4CH", 4)


def test_labels_are_dropped_for_guidance_as_often_as_asked(new_run, tmp_path):
    stream = FrameStream.open(
        new_run(tmp_path, sdm__training__label_dropout=0.25), "4CH", device="cpu"
    )
    dropped = stream.batch(range(400))[1].sum(dim=(1, 2, 3)) == 0
    assert 0.25 - 0.065 < dropped.float().mean() < 0.25 + 0.065  # three standard errors
