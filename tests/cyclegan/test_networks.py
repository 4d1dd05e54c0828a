"""Both networks: shapes, the counts of the published sizes, receptive field, initial weights."""

import dataclasses

import pytest
import torch
from torch import nn

from echo_lib.config import load_profile
from echo_lib.cyclegan.networks import (
    Discriminator,
    Generator,
    build_discriminator,
    build_generator,
)
from echo_lib.seeding import torch_generator

PAPER = load_profile("paper").cyclegan


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_generator_keeps_shape_and_range(size, channels):
    image = torch.randn(2, channels, *size, generator=torch_generator("image"))
    output = Generator(4, 2, channels=channels)(image)
    assert output.shape == image.shape
    assert output.abs().max() <= 1


def test_generator_refuses_sizes_that_it_would_change():
    with pytest.raises(AssertionError, match="30"):
        Generator(4, 1)(torch.zeros(1, 1, 32, 30))


@pytest.mark.parametrize(("size", "scores"), [(256, 30), (128, 14), (64, 6), (32, 2)])
def test_discriminator_scores_a_grid_of_patches(size, scores):
    assert Discriminator(4)(torch.zeros(2, 1, size, size)).shape == (2, 1, scores, scores)


def test_discriminator_sees_70_pixels():
    network = Discriminator(2)
    for name, module in list(network.model.named_children()):
        if isinstance(module, nn.InstanceNorm2d):  # it spreads over the whole image
            network.model[int(name)] = nn.Identity()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0)
    image = torch.ones(1, 1, 256, 256, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    rows, columns = torch.nonzero(image.grad[0, 0], as_tuple=True)
    assert rows.max() - rows.min() + 1 == 70
    assert columns.max() - columns.min() + 1 == 70


def test_published_sizes_have_the_published_number_of_weights():
    # Convolutions by hand: 7*7*3*64 + 9*64*128 + 9*128*256 + 18 * 9*256*256 + ..., with biases.
    assert count(Generator(64, 9, channels=3)) == 11_378_179
    assert count(Discriminator(64, channels=3)) == 2_764_737
    grey = {"generator": torch_generator("weights")}
    assert count(build_generator(PAPER, **grey)) == 11_378_179 - 2 * 2 * 49 * 64 - 2
    assert count(build_discriminator(PAPER, **grey)) == 2_764_737 - 2 * 16 * 64


def test_layer_numbers_are_those_of_the_widely_used_implementation():
    convolutions = ["1", "4", "7", "19", "22", "26"]
    convolutions += [f"{block}.conv_block.{k}" for block in range(10, 19) for k in (1, 5)]
    expected = {f"model.{name}.{kind}" for name in convolutions for kind in ("weight", "bias")}
    assert set(Generator(4, 9).state_dict()) == expected


def test_initial_weights_follow_from_their_generator_alone():
    config = dataclasses.replace(PAPER, width=16, residual_blocks=2)
    state = torch.random.get_rng_state()
    first, second, third = (
        build_generator(config, generator=torch_generator("weights", seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    for one, same, other in zip(
        first.parameters(), second.parameters(), third.parameters(), strict=True
    ):
        assert torch.equal(one, same)
        if one.ndim == 1:
            assert not one.any()
        else:
            assert not torch.equal(one, other)
    weights = torch.cat([p.detach().flatten() for p in first.parameters() if p.ndim > 1])
    assert float(weights.mean()) == pytest.approx(0.0, abs=2e-4)
    assert float(weights.std()) == pytest.approx(0.02, rel=0.01)
