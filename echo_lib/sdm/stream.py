"""The endless, shuffled stream of training items of one SDM.

Item number n is the same whatever the batch size, the process that asks, or a restart: which frame
it is follows from the epoch's order, its flip, step and noise from a generator named by n.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from echo_lib.data.datasets import load_label_maps, load_pairs, read_index, to_unit
from echo_lib.seeding import numpy_generator, torch_generator

AHEAD_OF = ("cuda",)  # devices that work while the CPU draws


@dataclass(frozen=True)
class FrameStream:
    """Training frames of one view, in the paper those of ED (section 2.1), on the device.

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
        """The stream of a run's prepared frames.

        Raises:
            ValueError: there is none of the view and the config's phases.
        """
        index, sdm = read_index(run.folder, "real"), run.profile.sdm
        chosen = (index.view == view) & (index.split == "training")
        chosen &= index.phase.isin(sdm.training.phases)
        if not chosen.any():
            raise ValueError(
                f"no training frame of view {view} and phases {list(sdm.training.phases)} in "
                f"{run.folder}; set sdm.training.phases to those that are there"
            )
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

    def batch(self, numbers, drawn=None):
        """Items by number.

        Args:
            numbers: of the items.
            drawn: ``draws(numbers)`` where that was done before.

        Returns:
            x_0 (B, C, H, W) in [-1, 1], onehot (B, K, H, W), t (B,) int64, noise (B, C, H, W).
        """
        chosen, flipped, dropped, t, noise = map(self._moved, drawn or self.draws(numbers))
        x_0 = to_unit(self.images[chosen]).repeat(1, self.channels, 1, 1)
        ids = torch.arange(self.classes, device=x_0.device).view(-1, 1, 1)
        onehot = (self.label_maps[chosen][:, None] == ids).float()
        flipped, dropped = (flag.view(-1, 1, 1, 1) for flag in (flipped, dropped))
        x_0, onehot = (torch.where(flipped, x.flip(-1), x) for x in (x_0, onehot))
        onehot, layout = onehot.masked_fill(dropped, 0), {"memory_format": torch.channels_last}
        return x_0.contiguous(**layout), onehot.contiguous(**layout), t, noise

    def draws(self, numbers):
        """Of each item: place of its frame, flipped or not, label dropped or not, t, noise."""
        shape = (self.channels, *self.images.shape[-2:])
        flips, drops, steps, noise = [], [], [], []
        for number in numbers:
            generator = torch_generator("sdm-item", *self.key, number)
            flip, drop, time = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
            flips.append(flip < self.flip_probability)
            drops.append(drop < self.label_dropout)
            steps.append(int(time * self.timesteps))
            noise.append(torch.randn(shape, generator=generator))
        places = [self.position(number) for number in numbers]
        return *map(torch.tensor, (places, flips, drops, steps)), torch.stack(noise)

    def _moved(self, tensor):
        """On the device without waiting for it: a plain copy would halt the loop."""
        if self.images.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.images.device, non_blocking=True)


@dataclass
class Ahead:
    """Batches of a stream; what the next one draws is drawn while the device works on this one.

    Random numbers belong to items and are drawn on the CPU, which a GPU would wait for. No batch
    depends on it. On a CPU, which has nothing to wait for, nothing is drawn ahead.
    """

    stream: FrameStream
    numbers: range | None = None  # of the items that are being drawn
    drawn: Future | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def batch(self, numbers, following):
        """``stream.batch(numbers)``; those ``following`` come next."""
        drawn = self.drawn.result() if self.drawn and self.numbers == numbers else None
        self.drawn = None
        if self.stream.images.device.type in AHEAD_OF:
            self.numbers, self.drawn = following, self.thread.submit(self.stream.draws, following)
        return self.stream.batch(numbers, drawn)


def validation_maps(run, view, count):
    """The first ED label maps of the validation split, (n, H, W) uint8, and their names.

    Args:
        run: ``provenance.Run`` with prepared frames.
        view: "2CH" or "4CH".
        count: at most so many.
    """
    index = read_index(run.folder, "real")
    chosen = index[(index.view == view) & (index.phase == "ED") & (index.split == "validation")]
    if len(chosen) == 0:
        raise ValueError(
            f"no ED frame of view {view} in the validation split to preview on; set "
            "sdm.training.preview_every to 0, or data.validation_patients to 1 or more"
        )
    chosen = chosen.sort_values("name").head(count)
    return load_label_maps(run.folder, chosen), tuple(chosen["name"])


@lru_cache(maxsize=2)
def _order(key, epoch, length):
    return numpy_generator("sdm-order", *key, epoch).permutation(length)
