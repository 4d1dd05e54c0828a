"""Behaviour of the network that no reference number shows."""

import dataclasses

import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.data.datasets import one_hot
from echo_lib.sdm.training import build_network


def network(**changes):
    config = load_profile("smoke").sdm.network
    model = build_network(dataclasses.replace(config, **changes), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # wake the zero-initialised layers
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def inputs(batch=2, size=32, channels=1):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, channels, size, size, generator=generator)
    labels = torch.randint(0, 5, (batch, size, size), generator=generator)
    return x, torch.tensor([5, 900])[:batch], one_hot(labels, 5)


@pytest.mark.parametrize(
    ("changes", "channels_out"),
    [({}, 1), ({"learned_variance": True}, 2), ({"image_channels": 3, "patch_size": 1}, 3)],
)
def test_output_shape(changes, channels_out):
    x, t, onehot = inputs(channels=changes.get("image_channels", 1))
    assert network(**changes)(x, t, onehot).shape == (2, channels_out, 32, 32)


def test_same_input_same_output_and_the_label_map_decides():
    model = network()
    x, t, onehot = inputs()
    assert torch.equal(model(x, t, onehot), model(x, t, onehot))
    assert (model(x, t, onehot) - model(x, t, onehot.flip(-1))).abs().max() > 1e-3


def test_image_size_must_fit():
    x, t, onehot = inputs(size=36)
    with pytest.raises(ValueError, match=r"36.*multiples of 8"):
        network()(x, t, onehot)


def test_initial_weights_follow_from_the_seed_and_leave_global_state_alone():
    config = load_profile("smoke").sdm.network
    before = torch.random.get_rng_state()
    first, second, other = (build_network(config, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_dropout_is_refused():
    config = dataclasses.replace(load_profile("smoke").sdm.network, dropout=0.1)
    with pytest.raises(ValueError, match=r"dropout 0\.1"):
        build_network(config, seed=0)
