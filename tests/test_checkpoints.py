"""Weights and training states: exact there and back, misfits named, no objects unpickled."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from echo_lib.checkpoints import load_into, load_state, load_weights, save_state, save_weights


def network(width=3):
    model = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / 7 + i)
    return model


def test_weights_round_trip_with_metadata(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network().state_dict(), metadata={"steps": 12})
    weights, metadata = load_weights(path)
    assert metadata == {"steps": 12}
    for name, tensor in network().state_dict().items():
        assert torch.equal(weights[name], tensor)
        assert weights[name].dtype == tensor.dtype
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    assert load_into(other, path) == {"steps": 12}
    assert torch.equal(other[0].weight, network()[0].weight)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_equal_weights_and_metadata_give_equal_bytes(tmp_path):
    facts = {f"fact{i}": i for i in range(20)}
    for name, metadata in (("a", facts), ("b", dict(reversed(facts.items())))):
        save_weights(tmp_path / name, network().state_dict(), metadata=metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_of_another_program_has_no_metadata(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", metadata={"format": "pt"})
    assert load_weights(tmp_path / "w.safetensors")[1] == {}


def test_cast_touches_floating_point_only(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network().state_dict(), dtype=torch.float16)
    weights, _ = load_weights(path)
    assert weights["0.weight"].dtype == torch.float16
    assert weights["1.num_batches_tracked"].dtype == torch.int64


def test_shared_tensors_are_saved(tmp_path):
    tensor = torch.arange(6.0).reshape(2, 3)
    save_weights(tmp_path / "w.safetensors", {"a": tensor, "b": tensor.T})
    weights, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(weights["a"].T, weights["b"])


def test_misfits_are_refused_and_named(tmp_path):
    path = tmp_path / "w.safetensors"
    state = network().state_dict()
    state["extra"] = state.pop("0.bias")
    state["1.weight"] = torch.zeros(5)
    save_weights(path, state)
    model = network()
    with pytest.raises(ValueError, match="3 weights do not fit") as raised:
        load_into(model, path)
    for part in ("missing 0.bias", "unexpected extra", "1.weight: (5,), expected (3,)"):
        assert part in str(raised.value)
    assert torch.equal(model[0].weight, network()[0].weight)


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_file_that_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_weights(path)


def test_training_state_resumes_exactly(tmp_path):
    model = network()
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 1, 5, 5)).square().sum().backward()
    optimiser.step()
    parts = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    save_state(tmp_path / "s.pt", {"step": 1, **parts})
    state = load_state(tmp_path / "s.pt")
    assert state["step"] == 1
    assert torch.equal(state["model"]["0.weight"], model[0].weight)
    moments = state["optimiser"]["state"][0]["exp_avg"]
    assert torch.equal(moments, optimiser.state_dict()["state"][0]["exp_avg"])


class Evil:
    """Unpickling this would call a function."""

    def __reduce__(self):
        return (print, ("called",))


def test_pickle_with_objects_is_refused(tmp_path, capsys):
    torch.save({"step": Evil()}, tmp_path / "s.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_state(tmp_path / "s.pt")
    assert "called" not in capsys.readouterr().out
