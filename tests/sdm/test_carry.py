"""Weights carried from one training to another."""

import json

import pytest
import torch

from echo_lib.checkpoints import load_weights, save_weights
from echo_lib.sdm import carry, training
from echo_lib.sdm.recipe import Recipe

# Time is looked at where the log is written, here after every step.
STEPS = {
    "sdm__training__steps": 8, "sdm__training__warmup_steps": 2, "sdm__training__log_every": 1
}  # fmt: skip


@pytest.fixture(scope="module")
def stopped(new_run, tmp_path_factory):
    """A run of 8 steps whose time was over after 4, and the file it left."""
    run = new_run(tmp_path_factory.mktemp("stopped"), **STEPS)
    for _ in range(4):
        assert training.train(run, "4CH", max_minutes=1e-9) is None
    return run, run.folder / "sdm/4CH" / carry.CARRY


def to_continue(new_run, root, path, **changes):
    return new_run(root, **STEPS | {"sdm__training__initial_weights": str(path)} | changes)


def test_what_is_carried_is_small_and_says_what_it_is(stopped):
    run, path = stopped
    tensors, header = load_weights(path)
    recipe = Recipe.begin(run, "4CH", path.parent)
    parameters = sum(parameter.numel() for parameter in recipe.model.parameters())
    names = [name for name, _ in recipe.model.named_parameters()]
    assert set(tensors) == {*names, *(f"ema.{name}" for name in names)}
    assert sum(tensor.nbytes for tensor in tensors.values()) == 4 * parameters
    assert (header["step"], header["view"], header["profile"]) == (4, "4CH", "tiny")
    assert header["seconds"] == pytest.approx(recipe.seconds, abs=0.05)
    assert header["training"]["steps"] == 4
    assert {"network", "diffusion", "stamp"} <= set(header)


def test_another_run_goes_on_from_the_step_carried(stopped, new_run, tmp_path):
    run, path = stopped
    before = Recipe.begin(run, "4CH", path.parent)
    again = to_continue(new_run, tmp_path, path)
    after = Recipe.begin(again, "4CH", tmp_path)
    assert after.step == before.step == 4
    pairs = zip(before.model.parameters(), after.model.parameters(), strict=True)
    assert all(torch.equal(old.half().float(), new) for old, new in pairs)
    assert all(torch.equal(o.half().float(), n) for o, n in zip(before.ema, after.ema, strict=True))
    # The rate's annealing goes on, and the new optimiser warms up: 1/2, then 1.
    full = before.config.learning_rate
    assert before.learning_rate() == pytest.approx(full * 0.5)
    assert after.learning_rate() == pytest.approx(full * 0.5 * 0.5)
    after.step = 5
    assert after.learning_rate() == pytest.approx(full * 0.375)
    assert not after.optimiser.state_dict()["state"]


def test_short_runs_add_up(stopped, new_run, tmp_path, monkeypatch):
    drawn, update = [], Recipe.update

    def noted(self):
        drawn.append(self.step)
        return update(self)

    monkeypatch.setattr(Recipe, "update", noted)
    run = to_continue(new_run, tmp_path, stopped[1])
    for _ in range(2):  # the third goes on from its checkpoint, to the end
        assert training.train(run, "4CH", max_minutes=1e-9) is None
    manifest = training.train(run, "4CH")
    assert drawn == [4, 5, 6, 7]
    facts = manifest["facts"]
    assert (facts["steps"], facts["steps_carried"]) == (8, 4)
    assert facts["seconds_training"] > facts["seconds_carried"] > 0
    assert list(manifest["outputs"]) == ["weights.safetensors"]
    assert load_weights(run.folder / "sdm/4CH" / carry.CARRY)[1]["step"] == 8
    log = (run.folder / "sdm/4CH/log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == list("5678")


def test_what_is_left_at_the_end_is_no_part_of_the_result(new_run, tmp_path):
    run = new_run(tmp_path)
    manifest = training.train(run, "4CH")
    path = run.folder / "sdm/4CH" / carry.CARRY
    weights, _ = load_weights(run.folder / "sdm/4CH/weights.safetensors")
    carried, header = load_weights(path)
    assert header["step"] == 6
    assert all(torch.equal(carried[f"ema.{name}"], weights[name].half()) for name in weights)
    path.unlink()
    assert training.train(run, "4CH") == manifest


def test_what_cannot_go_on_is_told(stopped, new_run, tmp_path):
    _, path = stopped
    ended = to_continue(new_run, tmp_path / "a", path, sdm__training__steps=4)
    with pytest.raises(ValueError, match=r"carried from step 4, and sdm\.training\.steps is 4"):
        training.train(ended, "4CH")
    other = to_continue(new_run, tmp_path / "b", path)
    with pytest.raises(ValueError, match="training of view 4CH, expected 2CH"):
        training.train(other, "2CH")
    tensors, header = load_weights(path)
    name = next(name for name in tensors if name.startswith("ema."))
    del tensors[name]
    save_weights(tmp_path / "broken.safetensors", tensors, metadata=header)
    broken = to_continue(new_run, tmp_path / "c", tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=rf"missing {name}"):
        training.train(broken, "4CH")
    wider = to_continue(new_run, tmp_path / "d", path, sdm__network__width=16)
    with pytest.raises(ValueError, match="expected"):
        training.train(wider, "4CH")


def test_the_identity_holds_what_it_started_from(stopped, new_run, tmp_path):
    run = to_continue(new_run, tmp_path, stopped[1])
    training.train(run, "4CH", max_minutes=1e-9)
    identity = json.loads((run.folder / "sdm/4CH/stage.json").read_text())
    assert len(identity["extra"]["initial_weights"]) == 64
