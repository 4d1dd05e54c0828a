"""The objective by hand, on networks whose output is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from echo_lib.cyclegan.losses import TERMS, discriminator_loss, generator_losses


class Scale(nn.Module):
    """Multiplies by one weight."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        return self.factor * image


def config(identity_weight=0.5):
    return SimpleNamespace(cycle_weight=10.0, identity_weight=identity_weight, precision="float32")


def scene():
    networks = nn.ModuleDict(
        {
            "to_echo": Scale(0.5),
            "to_pseudo": Scale(-1.0),
            "discriminator_real": Scale(2.0),
            "discriminator_pseudo": Scale(0.5),
        }
    )
    images = {
        "pseudo": torch.full((2, 1, 4, 4), 0.4),
        "real": torch.full((2, 1, 4, 4), -0.8),
    }
    return networks, images


def test_generator_terms_by_hand():
    networks, images = scene()
    terms, fakes = generator_losses(networks, images, config())
    expected = {
        "adversarial_to_echo": (2 * 0.2 - 1) ** 2,  # echo 0.5 * 0.4
        "adversarial_to_pseudo": (0.5 * 0.8 - 1) ** 2,  # fake -1 * -0.8
        "cycle_pseudo": abs(-0.2 - 0.4),
        "cycle_real": abs(0.5 * 0.8 + 0.8),
        "identity_pseudo": abs(-0.4 - 0.4),
        "identity_real": abs(-0.4 + 0.8),
    }
    expected["generators"] = 0.36 + 0.36 + 10 * (0.6 + 1.2) + 5 * (0.8 + 0.4)
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected)
    assert set(expected) == set(TERMS[:7])
    assert fakes["real"].unique().tolist() == pytest.approx([0.2])
    assert fakes["pseudo"].unique().tolist() == pytest.approx([0.8])


def test_generators_alone_learn_from_their_loss():
    networks, images = scene()
    terms, fakes = generator_losses(networks, images, config())
    terms["generators"].backward()
    # With to_echo = f and to_pseudo = -1, the terms that hold f, at f = 0.5: adversarial
    # (2 * 0.4 f - 1)^2, cycles |-0.4 f - 0.4| and |0.8 f + 0.8|, identity |-0.8 f + 0.8|.
    slope = 2 * (2 * 0.5 * 0.4 - 1) * 0.8 + 10 * (0.4 + 0.8) + 5 * -0.8
    assert float(networks["to_echo"].factor.grad) == pytest.approx(slope)
    assert networks["to_pseudo"].factor.grad is not None
    for name in ("discriminator_real", "discriminator_pseudo"):
        assert networks[name].factor.grad is None
        assert networks[name].factor.requires_grad
    assert not fakes["real"].requires_grad


def test_no_identity_loss_where_it_weighs_nothing():
    networks, images = scene()
    terms, _ = generator_losses(networks, images, config(identity_weight=0.0))
    assert float(terms["identity_real"]) == float(terms["identity_pseudo"]) == 0.0
    assert float(terms["generators"].detach()) == pytest.approx(0.72 + 18.0)


def test_discriminator_loss_by_hand():
    real, fakes = torch.full((1, 1, 2, 2), 0.3), torch.full((1, 1, 2, 2), 0.1)
    loss = discriminator_loss(Scale(2.0), real, fakes, config())
    assert float(loss.detach()) == pytest.approx(0.5 * ((0.6 - 1) ** 2 + 0.2**2))
