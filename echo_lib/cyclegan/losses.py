"""The CycleGAN's objective (arXiv 1703.10593, sections 3 and 4): four networks, two steps."""

import torch

from echo_lib.precision import autocast

GENERATORS = ("to_echo", "to_pseudo")
DISCRIMINATORS = ("discriminator_real", "discriminator_pseudo")
TERMS = (
    "generators", "adversarial_to_echo", "adversarial_to_pseudo", "cycle_pseudo", "cycle_real",
    "identity_pseudo", "identity_real", *DISCRIMINATORS,
)  # fmt: skip


def generator_losses(networks, images, config):
    """Least-squares, cycle and identity losses of both generators (Eq. 3 and section 5.2).

    Args:
        networks: name to network, of GENERATORS and DISCRIMINATORS; the latter get no gradient.
        images: "pseudo" and "real" to (B, 1, H, W) float32 in [-1, 1].
        config: ``CycleGANConfig``.

    Returns:
        The terms of TERMS that are the generators', by name ("generators" is what to descend), and
        the fakes: "real" and "pseudo" to (B, 1, H, W) float32, detached.
    """
    pseudo, real, terms = images["pseudo"], images["real"], {}
    for name in DISCRIMINATORS:
        networks[name].requires_grad_(False)
    with autocast(pseudo.device, config.precision):
        echo, same_real = _fake_and_same(networks["to_echo"], pseudo, real, config)
        fake, same_pseudo = _fake_and_same(networks["to_pseudo"], real, pseudo, config)
        back_pseudo, back_real = networks["to_pseudo"](echo), networks["to_echo"](fake)
        scores = networks["discriminator_real"](echo), networks["discriminator_pseudo"](fake)
    for name in DISCRIMINATORS:
        networks[name].requires_grad_(True)
    terms["adversarial_to_echo"] = _squares(scores[0], 1.0)
    terms["adversarial_to_pseudo"] = _squares(scores[1], 1.0)
    terms["cycle_pseudo"] = _distance(back_pseudo, pseudo)
    terms["cycle_real"] = _distance(back_real, real)
    terms["identity_pseudo"] = _distance(same_pseudo, pseudo)
    terms["identity_real"] = _distance(same_real, real)
    terms["generators"] = _weighted(terms, config)
    return terms, {"real": echo.detach().float(), "pseudo": fake.detach().float()}


def _weighted(terms, config):
    adversarial = terms["adversarial_to_echo"] + terms["adversarial_to_pseudo"]
    cycle = terms["cycle_pseudo"] + terms["cycle_real"]
    identity = terms["identity_pseudo"] + terms["identity_real"]
    return adversarial + config.cycle_weight * (cycle + config.identity_weight * identity)


def _fake_and_same(generator, image, own, config):
    """What a generator makes of ``image``, and of ``own``, which is of its output's kind already.

    Instance norm keeps the images of a batch apart, so that both go through at once.
    """
    if config.identity_weight == 0:
        return generator(image), own
    return generator(torch.cat([image, own])).chunk(2)


def discriminator_loss(discriminator, real, fakes, config):
    """Images of a kind towards 1, fakes of the pool towards 0 (least squares, halved).

    Args:
        discriminator: a ``Discriminator``.
        real, fakes: (B, 1, H, W) float32 in [-1, 1].
        config: ``CycleGANConfig``.
    """
    with autocast(real.device, config.precision):
        genuine, fake = discriminator(torch.cat([real, fakes])).chunk(2)
    return 0.5 * (_squares(genuine, 1.0) + _squares(fake, 0.0))


def _distance(image, target):
    return (image.float() - target).abs().mean()


def _squares(scores, target):
    return (scores.float() - target).square().mean()
