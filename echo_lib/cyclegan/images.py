"""The images of the two kinds, pseudo and real: unpaired items, the pool of fakes, grey files."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from echo_lib.provenance import atomic_path
from echo_lib.seeding import numpy_generator

KINDS = ("pseudo", "real")
FLIP_PROBABILITY = 0.5  # horizontal; the one augmentation


@dataclass(frozen=True)
class UnpairedImages:
    """Training images of both kinds; which two share a place is drawn afresh each epoch.

    Attributes:
        images: kind to (N, 1, H, W) uint8, on the device.
        names: kind to N names.
        seed: of the run.
        per_epoch: places in an epoch.
    """

    images: dict
    names: dict
    seed: int
    per_epoch: int

    def batch(self, kind, epoch, places):
        """The images of a kind at some places of an epoch, flipped or not: (B, 1, H, W) uint8."""
        rows = self.rows(kind, epoch, places)
        images = self.images[kind][torch.as_tensor(rows, device=self.images[kind].device)]
        flips = [self._flipped(kind, epoch, place) for place in places]
        flips = torch.tensor(flips, device=images.device)[:, None, None, None]
        return torch.where(flips, images.flip(-1), images)

    def rows(self, kind, epoch, places):
        """Which images of a kind lie at some places of an epoch."""
        order = epoch_order(kind, self.seed, epoch, len(self.names[kind]), self.per_epoch)
        return order[list(places)]

    def describe(self, epoch, places):
        """The names at some places of an epoch, for messages."""
        names = {k: [self.names[k][i] for i in self.rows(k, epoch, places)] for k in KINDS}
        return ", ".join(f"{p} + {r}" for p, r in zip(names["pseudo"], names["real"], strict=True))

    def _flipped(self, kind, epoch, place):
        draw = numpy_generator("cyclegan-flip", self.seed, kind, epoch, place).random()
        return bool(draw < FLIP_PROBABILITY)


@lru_cache(maxsize=4)
def epoch_order(kind, seed, epoch, count, places):
    """Which of ``count`` images lies at each of the ``places`` of an epoch.

    Every image comes once before any comes twice.
    """
    generator = numpy_generator("cyclegan-order", seed, kind, epoch)
    rounds = -(-places // count)
    return np.concatenate([generator.permutation(count) for _ in range(rounds)])[:places]


class ImagePool:
    """Earlier fakes that a discriminator is shown again (arXiv 1703.10593, section 4).

    Args:
        size: images that it keeps; 0 passes every fake through.
        images: what it already keeps, (1, H, W) tensors.
    """

    def __init__(self, size, images=()):
        self.size, self.images = size, list(images)

    def exchange(self, fakes, generator):
        """Each fake in turn, or an earlier one in whose place it is kept (probability 1/2).

        Args:
            fakes: (B, 1, H, W), detached.
            generator: NumPy generator.

        Returns:
            (B, 1, H, W).
        """
        return torch.stack([self._exchange_one(fake, generator) for fake in fakes])

    def _exchange_one(self, fake, generator):
        if len(self.images) < self.size:
            self.images.append(fake.clone())
            return fake
        if self.size == 0 or generator.random() < 0.5:
            return fake
        place = int(generator.integers(self.size))
        earlier, self.images[place] = self.images[place], fake.clone()
        return earlier


def to_grey(images):
    """(B, C, H, W) float in [-1, 1] to (B, H, W) uint8 on the CPU; channels are averaged."""
    grey = images.float().mean(dim=1).clamp(-1, 1)
    return ((grey + 1) * 127.5).round().to(torch.uint8).cpu()


def write_png(path, image):
    """Write (H, W) uint8 as a grey PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)
