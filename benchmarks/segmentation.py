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
from torch._dynamo.exc import TorchDynamoException
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from benchmarks import measure
from benchmarks.plain_loop import NORMALISATION, PlainLoop
from echo_lib.allocation import keep_freed_memory
from echo_lib.config import load_profile
from echo_lib.distributed import device as default_device
from echo_lib.segmentation.augmentation import draw_batch
from echo_lib.segmentation.frames import Frames, transformed_batches
from echo_lib.segmentation.losses import LOSSES
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
SEEDS = 4  # trained at once with batched parameters


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
        left_out=0,
        of_all_patients=n,
    )


class Bench:
    """The library's calls that are timed; each sees all frames once."""

    def __init__(self, profile, *, images, device):
        self.config, self.device = profile.segmentation, device
        self.frames = draw_frames(images, profile.data.image_size_px, device)
        self.loss = LOSSES[self.config.loss]

    def network(self, *, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return build_unet(self.config, generator=generator).to(self.device)

    def batches(self):
        """Frames on the device, transforms drawn by name and applied by the batch."""
        names = self.frames.names
        drawn = draw_batch(self.config, [(name,) for name in names], key=(0,)).to(self.device)
        places = torch.arange(len(names), device=self.device)
        size = self.config.batch_size
        yield from transformed_batches(
            self.frames, places, drawn, size, normalisation=NORMALISATION
        )

    def data(self):
        for _, target in self.batches():
            target.long()

    def training(self, *, channels_last=False, compiled=False, precision=torch.float32):
        """The library's epoch; with other choices, those that were tried and left out."""
        model = self.network()
        if compiled:
            model = torch.compile(model)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        state = Training(model, optimiser, best={}, best_dice=-1.0, log=[])

        def call():
            with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
                train_epoch(state, self.frames, self.config, NORMALISATION, epoch=1, key=(0, "row"))

        return call

    def compiled_training(self):
        """The library's epoch on a compiled network; None where it cannot be compiled."""
        call = self.training(compiled=True)
        try:
            call()
        except TorchDynamoException as error:
            print(f"torch.compile failed: {str(error).strip().splitlines()[0]}", flush=True)
            return None
        return call

    def batched_training(self):
        """Networks of several seeds at once, their parameters stacked."""
        models = [self.network(seed=seed) for seed in range(SEEDS)]
        stacked = {name: torch.nn.Parameter(p) for name, p in stack_module_state(models)[0].items()}
        optimiser = torch.optim.Adam(stacked.values(), 1e-3, fused=True)
        shape = copy.deepcopy(models[0]).to("meta")

        def loss_of(parameters, images, target):
            return self.loss(functional_call(shape, parameters, (images,)), target)

        step = vmap(grad_and_value(loss_of))

        def call():
            for batch in self.batches():
                images, target = (value.expand(SEEDS, *value.shape) for value in batch)
                values = {name: p.detach() for name, p in stacked.items()}
                gradients, _ = step(values, images, target.long())
                for name, parameter in stacked.items():
                    parameter.grad = gradients[name]
                optimiser.step()

        return call


def calls_of(bench, plain, workers):
    """(what, how) to (call, images that it sees)."""
    n = len(bench.frames.names)
    calls = {
        ("data path", "plain, no worker"): lambda: plain("data, no worker"),
        ("data path", f"plain, {workers} workers"): lambda: plain("data"),
        ("data path", "library"): bench.data,
        ("training step", f"plain, {workers} workers"): lambda: plain("training"),
        ("training step", "library"): bench.training(),
        ("tried: training step", "channels last"): bench.training(channels_last=True),
        ("tried: training step", "bfloat16"): bench.training(precision=torch.bfloat16),
        ("tried: training step", "compiled"): bench.compiled_training(),
    }
    batched = f"{SEEDS} seeds, batched parameters"
    return {key: (call, n) for key, call in calls.items() if call} | {
        ("tried: training step", batched): (bench.batched_training(), SEEDS * n)
    }


def run(profile, *, device, images, rounds, workers):
    """The benchmark's record."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(profile, images=images, device=device)
        write_pairs(Path(folder), bench.frames)
        plain = PlainLoop(
            bench.config, Path(folder), bench.frames.names, device=device, workers=workers
        )
        keep_freed_memory()  # as the library's command line does
        calls = calls_of(bench, plain, workers)
        timed = {key: call for key, (call, _) in calls.items()}
        timed["matmul"], operations = measure.matrix_product(device, torch.float32, size=2048)
        try:
            seconds = measure.fastest(timed, device=device, rounds=rounds)
        finally:
            plain.close()
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
