"""Two ways to train and test a network: as the paper says, and as its released code does.

"as_written" follows the paper and, where it is silent, sound practice. "as_released" keeps the
habits of the released code that change its numbers. Sizes and rates come from the config in both.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Where the two part.

    Attributes:
        rate_follows: what moves the learning rate along its cosine: "epoch" or "batch".
        further_epochs: trained beyond the config's number.
        validation_is_transformed: validation goes through the training's random transforms.
        absent: the Dice of a structure that is in neither map while epochs are compared.
        normalises_at_test: images are normalised at test as they were in training.
    """

    rate_follows: str
    further_epochs: int
    validation_is_transformed: bool
    absent: str
    normalises_at_test: bool


VARIANTS = {
    "as_written": Variant(
        rate_follows="epoch",
        further_epochs=0,
        validation_is_transformed=False,
        absent="one",
        normalises_at_test=True,
    ),
    "as_released": Variant(
        # FIDELITY: stepped per batch with the period of the epochs, so that the rate swings down
        # and up again every 2 x epochs batches instead of once over the training.
        rate_follows="batch",
        # FIDELITY: epochs are counted from 0 to their number, inclusive.
        further_epochs=1,
        # FIDELITY: one random transform for training and validation, so the best epoch is chosen
        # with some luck of the draw.
        validation_is_transformed=True,
        # FIDELITY: 0 / (0 + epsilon).
        absent="zero",
        # FIDELITY: the test script leaves out what the training script did.
        normalises_at_test=False,
    ),
}
# DEVIATION: the released code logs the loss of the epoch's last batch as the epoch's. Both variants
# log the mean over the epoch's images; no weight depends on it.


def variant_of(config):
    """The ``Variant`` of a ``SegmentationConfig``.

    Raises:
        ValueError: "as_released" with a loss that the released code does not have.
    """
    if config.variant == "as_released" and config.loss != "cross_entropy":
        raise ValueError(
            f"segmentation.variant as_released with loss {config.loss!r}; the released code trains "
            "with cross_entropy: set segmentation.loss to it, or variant to as_written"
        )
    return VARIANTS[config.variant]


def epochs_of(config):
    """How many epochs a network is trained."""
    return config.epochs + variant_of(config).further_epochs


def learning_rates(config, epoch, batches):
    """The learning rate of every batch of an epoch: cosine annealing between the config's two.

    Args:
        config: a ``SegmentationConfig``.
        epoch: counted from 1.
        batches: of an epoch.
    """
    if variant_of(config).rate_follows == "epoch":
        return [_annealed(config, epoch - 1)] * batches
    first = (epoch - 1) * batches
    return [_annealed(config, first + number) for number in range(batches)]


def _annealed(config, step):
    weight = (1 + math.cos(math.pi * step / config.epochs)) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * weight
