"""Speed of the segmentation networks' training, beside a plain loop over PIL images.

    python -m benchmarks.segmentation                  # the paper's size
    python -m benchmarks.segmentation --profile demo

The plain loop is what one writes first: a ``Dataset`` that opens, transforms and normalises one
pair at a time with PIL and NumPy, a ``DataLoader``, torch's Adam as it comes, and a loop that asks
for the loss after every step. Transforms, batch size, network and loss are the same in both.
"""

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks import measure
from echo_lib.config import load_profile
from echo_lib.distributed import device as default_device
from echo_lib.segmentation.augmentation import apply, draw, draw_batch
from echo_lib.segmentation.frames import Frames
from echo_lib.segmentation.losses import LOSSES
from echo_lib.segmentation.prediction import normalise
from echo_lib.segmentation.training import Training, train_epoch
from echo_lib.segmentation.unet import build_unet

COLUMNS = {
    "what": ("what", ""),
    "how": ("how", ""),
    "images": ("images", "d"),
    "seconds": ("seconds", ".3g"),
    "images_per_second": ("images/s", ".4g"),
    "of_plain": ("of the plain loop", ".2f"),
    "of_ours": ("of the library's", ".2f"),
}
# What is aimed at: (what, kind of device, times the plain loop's rate).
TARGETS = (
    ("data path", "cpu", 5.0),
    ("training step", "cpu", 1.5),
    ("training step", "cuda", 10.0),
)
NORMALISATION = (0.25, 0.2)  # no time depends on it
SEEDS = 4  # trained at once with batched parameters


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


def write_pairs(folder, frames):
    """The frames as PNG files, for the plain loop."""
    for kind, arrays in (("images", frames.images[:, 0]), ("label_maps", frames.label_maps)):
        (folder / kind).mkdir()
        for name, array in zip(frames.names, arrays.cpu().numpy(), strict=True):
            Image.fromarray(array).save(folder / kind / name)


def draw_frames(n, size, device):
    """Discs in speckle; no time depends on what is seen."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    centres = generator.uniform(0.3, 0.7, (n, 2))
    distance = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    label_maps = np.digitize(-distance, (-0.3, -0.2, -0.1)).astype(np.uint8)
    images = generator.rayleigh(20 + 30 * label_maps).clip(0, 255).astype(np.uint8)
    return Frames(
        torch.from_numpy(images)[:, None].to(device),
        torch.from_numpy(label_maps).to(device),
        tuple(f"{number}.png" for number in range(n)),
    )


class Bench:
    """The calls that are timed; each sees all frames once."""

    def __init__(self, profile, folder, *, images, device, workers):
        self.config, self.device, self.workers = profile.segmentation, device, workers
        self.frames = draw_frames(images, profile.data.image_size_px, device)
        write_pairs(folder, self.frames)
        self.plain = PlainPairs(folder, self.frames.names, self.config)
        self.loss = LOSSES[self.config.loss]

    def loader(self, workers):
        """A loader that keeps its workers, so that their start is not timed."""
        return torch.utils.data.DataLoader(
            self.plain, self.config.batch_size, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip

    def network(self, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return build_unet(self.config, generator=generator).to(self.device)

    def plain_data(self, workers):
        loader = self.loader(workers)

        def call():
            for images, label_maps in loader:
                images.to(self.device), label_maps.to(self.device)

        return call

    def data(self):
        """The library's: frames on the device, transforms by the batch."""
        size = self.config.batch_size
        drawn = draw_batch(self.config, [(name,) for name in self.frames.names], key=(0,))
        for batch, part in zip(
            torch.arange(len(drawn), device=self.device).split(size),
            drawn.to(self.device).split(size),
            strict=True,
        ):
            images, label_maps = apply(
                self.frames.images[batch], self.frames.label_maps[batch], part
            )
            normalise(images, *NORMALISATION), label_maps.long()

    def plain_training(self):
        loader, model = self.loader(self.workers), self.network()
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)

        def call():
            total = 0.0
            for images, label_maps in loader:
                loss = self.loss(model(images.to(self.device)), label_maps.to(self.device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()

        return call

    def training(self, *, memory_format=torch.contiguous_format, precision=torch.float32):
        """The library's epoch; with other choices, those that were tried and left out."""
        model = self.network().to(memory_format=memory_format)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        state = Training(model, optimiser, best={}, best_dice=-1.0, log=[])

        def call():
            with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
                train_epoch(state, self.frames, self.config, NORMALISATION, epoch=1, key=(0, "row"))

        return call

    def batched_training(self):
        """Networks of several seeds at once, their parameters stacked."""
        models = [self.network(seed=seed) for seed in range(SEEDS)]
        stacked = {name: torch.nn.Parameter(p) for name, p in stack_module_state(models)[0].items()}
        optimiser = torch.optim.Adam(stacked.values(), 1e-3, fused=True)
        shape = copy.deepcopy(models[0]).to("meta")

        def loss_of(parameters, images, target):
            return self.loss(functional_call(shape, parameters, (images,)), target)

        step, size = vmap(grad_and_value(loss_of)), self.config.batch_size

        def call():
            drawn = draw_batch(self.config, [(name,) for name in self.frames.names], key=(0,))
            for part in torch.arange(len(drawn)).split(size):
                images, label_maps = apply(
                    self.frames.images[part],
                    self.frames.label_maps[part],
                    drawn[part].to(self.device),
                )
                images, label_maps = (
                    value.expand(SEEDS, *value.shape)
                    for value in (normalise(images, *NORMALISATION), label_maps.long())
                )
                gradients, _ = step({k: p.detach() for k, p in stacked.items()}, images, label_maps)
                for name, parameter in stacked.items():
                    parameter.grad = gradients[name]
                optimiser.step()

        return call


def calls_of(bench):
    """(what, how) to (call, images that it sees)."""
    n, workers = len(bench.frames.names), bench.workers
    calls = {
        ("data path", "plain, no worker"): (bench.plain_data(0), n),
        ("data path", f"plain, {workers} workers"): (bench.plain_data(workers), n),
        ("data path", "library"): (bench.data, n),
        ("training step", f"plain, {workers} workers"): (bench.plain_training(), n),
        ("training step", "library"): (bench.training(), n),
    }
    tried = {
        "channels last": bench.training(memory_format=torch.channels_last),
        "bfloat16": bench.training(precision=torch.bfloat16),
    }
    calls |= {("tried: training step", how): (call, n) for how, call in tried.items()}
    batched = f"{SEEDS} seeds, batched parameters"
    return calls | {("tried: training step", batched): (bench.batched_training(), SEEDS * n)}


def run(profile, *, device, images, rounds, workers):
    """The benchmark's record."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(profile, Path(folder), images=images, device=device, workers=workers)
        calls = calls_of(bench)
        timed = {key: call for key, (call, _) in calls.items()}
        timed["matmul"], operations = measure.matrix_product(device, torch.float32, size=2048)
        seconds = measure.fastest(timed, device=device, rounds=rounds)
    rows = rows_of(calls, seconds, workers)
    facts = {
        "profile": profile.name, "size_px": profile.data.image_size_px,
        "batch_size": profile.segmentation.batch_size, "loss": profile.segmentation.loss,
        "rounds": rounds, "matmul_flops_per_second": operations / seconds["matmul"],
        "targets": targets(rows, device),
    }  # fmt: skip
    return measure.record("segmentation", rows, COLUMNS, device=device, **facts)


def rows_of(calls, seconds, workers):
    """The table's rows, with their rates over the plain loop's and over the library's."""
    rates = {key: images / seconds[key] for key, (_, images) in calls.items()}
    rows = []
    for (what, how), (_, images) in calls.items():
        kind = what.removeprefix("tried: ")
        rows.append({
            "what": what, "how": how, "images": images, "seconds": seconds[what, how],
            "images_per_second": rates[what, how],
            "of_plain": rates[what, how] / rates[kind, f"plain, {workers} workers"],
            "of_ours": rates[what, how] / rates[kind, "library"],
        })  # fmt: skip
    return rows


def targets(rows, device):
    """What is aimed at on such a device and what was found."""
    found = {row["what"]: row["of_plain"] for row in rows if row["how"] == "library"}
    return [
        {"what": what, "at_least": least, "found": found[what], "met": found[what] >= least}
        for what, kind, least in TARGETS
        if kind == device.type
    ]


def main(arguments=None):
    """The command line."""
    device = default_device()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper", help="whose sizes; default %(default)s")
    parser.add_argument("--images", type=int, default=192, help="a pass; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="the fastest counts")
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/segmentation_*.json")
    chosen = vars(parser.parse_args(arguments))
    profile, out = load_profile(chosen.pop("profile")), chosen.pop("out")
    record = run(profile, device=device, **chosen)
    name = f"segmentation_{profile.name}_{measure.machine_slug(device)}.json"
    measure.write(record, out or measure.RESULTS / name)
    print(measure.as_table(record))
    for line in record["targets"]:
        print(line)


if __name__ == "__main__":
    main()
