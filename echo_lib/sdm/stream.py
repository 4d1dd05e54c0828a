"""The endless, shuffled stream of training items of one SDM.

Item number n is the same whatever the batch size, the process that asks, or a restart: which frame
it is follows from the epoch's order, its flip, step and noise from a generator named by n.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from echo_lib.data.datasets import load_pairs, one_hot, read_index, to_unit
from echo_lib.seeding import numpy_generator, torch_generator


@dataclass(frozen=True)
class FrameStream:
    """ED training frames of one view (paper, section 2.1), on the device.

    Attributes:
        images: (N, 1, H, W) uint8.
        label_maps: (N, H, W) uint8 SDM ids.
        names: N frame names.
        key: (seed, view), which names every generator.
        timesteps: T, the noise steps to draw from.
        flip_probability, label_dropout: of the training config.
        channels, classes: of the network's image and label map.
    """

    images: torch.Tensor
    label_maps: torch.Tensor
    names: tuple
    key: tuple
    timesteps: int
    flip_probability: float
    label_dropout: float
    channels: int
    classes: int

    @classmethod
    def open(cls, run, view, *, device):
        """The stream of a run's prepared frames."""
        index, sdm = read_index(run.folder, "real"), run.profile.sdm
        chosen = (index.view == view) & (index.phase == "ED") & (index.split == "training")
        pairs = load_pairs(run.folder, index[chosen])
        return cls(
            pairs.images.to(device),
            pairs.label_maps.to(device),
            pairs.names,
            (run.seed, view),
            sdm.diffusion.timesteps,
            sdm.training.flip_probability,
            sdm.training.label_dropout,
            sdm.network.image_channels,
            sdm.network.classes,
        )

    def position(self, number):
        """Where in ``names`` the stream's item lies; each epoch is shuffled anew."""
        epoch, place = divmod(number, len(self.names))
        return int(_order(self.key, epoch, len(self.names))[place])

    def name(self, number):
        """The frame that the stream shows as its ``number``-th."""
        return self.names[self.position(number)]

    def batch(self, numbers):
        """Items by number.

        Returns:
            x_0 (B, C, H, W) in [-1, 1], onehot (B, K, H, W), t (B,) int64, noise (B, C, H, W).
        """
        chosen = [self.position(number) for number in numbers]
        x_0 = to_unit(self.images[chosen]).repeat(1, self.channels, 1, 1)
        onehot, steps, noise = one_hot(self.label_maps[chosen], self.classes), [], []
        for row, number in enumerate(numbers):
            generator = torch_generator("sdm-item", *self.key, number)
            flip, drop, time = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
            if flip < self.flip_probability:
                x_0[row], onehot[row] = x_0[row].flip(-1), onehot[row].flip(-1)
            if drop < self.label_dropout:
                onehot[row] = 0
            steps.append(int(time * self.timesteps))
            noise.append(torch.randn(x_0.shape[1:], generator=generator))
        device, layout = x_0.device, {"memory_format": torch.channels_last}
        return (
            x_0.contiguous(**layout),
            onehot.contiguous(**layout),
            torch.tensor(steps, device=device),
            torch.stack(noise).to(device),
        )


@lru_cache(maxsize=2)
def _order(key, epoch, length):
    return numpy_generator("sdm-order", *key, epoch).permutation(length)
