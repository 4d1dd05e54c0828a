"""Training as one writes it first: one pair at a time, by PIL and NumPy, in a DataLoader.

It runs in a process of its own, so that nothing that the library sets touches it.
"""

import multiprocessing

import numpy as np
import torch
from PIL import Image

from echo_lib.segmentation.augmentation import draw
from echo_lib.segmentation.losses import LOSSES
from echo_lib.segmentation.prediction import normalise
from echo_lib.segmentation.unet import build_unet

NORMALISATION = (0.25, 0.2)  # no time depends on it


class PlainPairs(torch.utils.data.Dataset):
    """Pairs in a folder, opened and transformed one at a time."""

    def __init__(self, folder, names, config):
        self.folder, self.names, self.config = folder, names, config
        self.generator = np.random.default_rng(0)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, number):
        image = Image.open(self.folder / "images" / self.names[number])
        label_map = Image.open(self.folder / "label_maps" / self.names[number])
        image, label_map = plain_transform(image, label_map, draw(self.config, self.generator))
        grey = torch.from_numpy(normalise(image, *NORMALISATION).astype(np.float32))
        return grey[None], torch.from_numpy(label_map.astype(np.int64))


def plain_transform(image, label_map, drawn):
    """The training's transforms by PIL and NumPy, of one pair.

    Args:
        image, label_map: PIL images.
        drawn: from ``segmentation.augmentation.draw``.

    Returns:
        (H, W) float32 in [0, 1], and (H, W) uint8.
    """
    gamma, flip, degrees, shift_x, shift_y, scale = drawn
    if flip:
        image, label_map = (
            pil.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for pil in (image, label_map)
        )
    width, height = image.size
    cosine, sine = np.cos(np.deg2rad(degrees)) / scale, np.sin(np.deg2rad(degrees)) / scale
    x, y = width / 2 + shift_x * width, height / 2 + shift_y * height  # where the centre goes
    # PIL takes the way from output to input: a x + b y + c, d x + e y + f.
    matrix = (
        cosine, sine, width / 2 - cosine * x - sine * y,
        -sine, cosine, height / 2 + sine * x - cosine * y,
    )  # fmt: skip
    image, label_map = (
        pil.transform(pil.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
        for pil in (image, label_map)
    )
    return (np.asarray(image, np.float32) / 255) ** np.float32(gamma), np.asarray(label_map)


class PlainLoop:
    """Calls of the plain loop, each over all pairs once.

    Args:
        config: a ``SegmentationConfig``.
        folder: with images/ and label_maps/.
        names: of the files in both.
        device: where the network is.
        workers: of the DataLoader.
    """

    def __init__(self, config, folder, names, *, device, workers):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        arguments = (other, config, folder, names, str(device), workers, torch.get_num_threads())
        self.process = context.Process(target=_serve, args=arguments)
        self.process.start()
        other.close()  # so that a loop that dies is noticed

    def __call__(self, what):
        """Run "data, no worker", "data" or "training", and wait for it."""
        self.pipe.send(what)
        self.pipe.recv()

    def close(self):
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def _serve(pipe, config, folder, names, device, workers, threads):
    torch.set_num_threads(threads)
    pairs, device = PlainPairs(folder, names, config), torch.device(device)
    calls = {
        "data, no worker": _data(_loader(pairs, config, 0), device),
        "data": _data(_loader(pairs, config, workers), device),
        "training": _training(_loader(pairs, config, workers), config, device),
    }
    while what := pipe.recv():
        calls[what]()
        pipe.send("done")


def _loader(pairs, config, workers):
    """A loader that keeps its workers, so that their start is not timed."""
    return torch.utils.data.DataLoader(
        pairs, config.batch_size, shuffle=True, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip


def _data(loader, device):
    def call():
        for images, label_maps in loader:
            images.to(device), label_maps.to(device)

    return call


def _training(loader, config, device):
    model, loss_of = build_unet(config).to(device), LOSSES[config.loss]
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)

    def call():
        total = 0.0
        for images, label_maps in loader:
            loss = loss_of(model(images.to(device)), label_maps.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()

    return call
