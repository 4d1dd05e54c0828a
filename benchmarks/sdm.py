"""Speed and memory of the semantic diffusion model on this machine.

    python -m benchmarks.sdm                          # the paper's size, one image
    python -m benchmarks.sdm --profile demo --batch 16

Prints a table and writes it with its provenance to ``benchmarks/results``. Weights and label maps
are drawn at random: no time depends on them.
"""

import argparse
import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.cost import SAMPLERS, sdm_flops
from echo_lib.config import load_profile
from echo_lib.distributed import device as default_device
from echo_lib.precision import autocast, has_bfloat16
from echo_lib.sdm.denoiser import CompiledStep, Denoiser, sample
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.recipe import Recipe, build_network
from echo_lib.sdm.stream import FrameStream

COLUMNS = {
    "what": ("what", ""),
    "precision": ("precision", ""),
    "batch": ("images", "d"),
    "seconds": ("seconds", ".3g"),
    "images_per_second": ("images/s", ".3g"),
    "tflop": ("TFLOP", ".3g"),
    "tflops_per_second": ("TFLOP/s", ".3g"),
    "of_matmul": ("of the matmul rate", ".2f"),
    "of_uncached": ("of the uncached step", ".2f"),
    "peak_gib": ("peak memory, GiB", ".2f"),
    "timed": ("timed", ""),
}
# What is aimed at, at the paper's size: (row, column, kind of device, bound, least or most).
TARGETS = (
    ("step, cached", "of_uncached", "cpu", 0.66, "most"),
    ("step, cached", "of_matmul", "cpu", 0.75, "least"),
    ("step, cached", "of_matmul", "cuda", 0.40, "least"),
    ("training step", "of_matmul", "cuda", 0.35, "least"),
)


@dataclass
class Bench:
    """A network on a device, what is asked of it, and the rows found."""

    profile: object
    device: torch.device
    batch: int
    rounds: int
    matmul_size: int
    model: torch.nn.Module = None
    flops: dict = None
    rates: dict = field(default_factory=dict)  # precision to operations per second
    seconds: dict = field(default_factory=dict)  # (what, precision) to seconds
    rows: list = field(default_factory=list)

    def __post_init__(self):
        sdm, size = self.profile.sdm, self.profile.data.image_size_px
        recomputing = sdm.training.checkpoint_activations
        self.flops = sdm_flops(sdm.network, size, batch=self.batch, recomputing=recomputing)
        model = build_network(sdm.network, 0).to(self.device, memory_format=torch.channels_last)
        self.model = model.eval().requires_grad_(False)

    def inputs(self):
        """x_t, t and one-hot label maps of the batch."""
        network, size = self.profile.sdm.network, self.profile.data.image_size_px
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, network.image_channels, size, size, generator=generator)
        ids = torch.randint(0, network.classes, (self.batch, 1, size, size), generator=generator)
        onehot = (ids == torch.arange(network.classes).view(1, -1, 1, 1)).float()
        x, onehot = (v.to(self.device, memory_format=torch.channels_last) for v in (x, onehot))
        return x, torch.full((self.batch,), 500, device=self.device), onehot

    def add(self, what, precision, *, seconds, flops, images=True, peak=None, timed="yes"):
        """Put down a row; its rate is also given as a fraction of the matrix product's."""
        self.seconds[what, precision] = seconds
        uncached, step = self.seconds.get(("step, uncached", precision)), what.startswith("step")
        self.rows.append({
            "what": what, "precision": precision, "seconds": seconds,
            "batch": self.batch if images else None,
            "images_per_second": self.batch / seconds if images else None,
            "tflop": flops / 1e12, "tflops_per_second": flops / seconds / 1e12,
            "of_matmul": flops / seconds / self.rates[precision],
            "of_uncached": seconds / uncached if step else None,
            "peak_gib": peak / 2**30 if peak else None, "timed": timed,
        })  # fmt: skip


@contextmanager
def sampling(device, precision):
    """How a sampler runs the network."""
    with torch.inference_mode(), autocast(device, precision):
        yield


def time_steps(bench, precision, *, compiled):
    """One evaluation of the network: uncached, cached, and the labels' encoding.

    The matrix product takes turns with them, so their fractions of it are of one spell.
    """
    dtype = getattr(torch, precision)
    product, operations = measure.matrix_product(bench.device, dtype, size=bench.matmul_size)
    with sampling(bench.device, precision):
        x, t, onehot = bench.inputs()
        calls = {"step, uncached": lambda: bench.model(x, t, onehot)}
        peaks = {"step, uncached": peak(bench, calls["step, uncached"])}
        condition = bench.model.encode_labels(onehot)
        calls["step, cached"] = lambda: bench.model(x, t, condition)
        if compiled:
            step = CompiledStep(bench.model)
            calls["step, cached, compiled"] = lambda: step(x, t, condition)
        calls["labels encoded, once a map"] = lambda: bench.model.encode_labels(onehot)
        for name in list(calls)[1:]:
            peaks[name] = peak(bench, calls[name])
        if compiled and step.call is bench.model:
            del calls["step, cached, compiled"]
        product()
        timed = calls | {"matmul": product}
        seconds = measure.fastest(timed, device=bench.device, rounds=bench.rounds, warm=True)
    bench.rates[precision] = operations / seconds["matmul"]
    product_s = seconds["matmul"]
    bench.add("matrix product", precision, seconds=product_s, flops=operations, images=False)
    kinds = {"step, uncached": "uncached", "labels encoded, once a map": "encode"}
    for name in calls:
        flops = bench.flops[kinds.get(name, "cached")]
        bench.add(name, precision, seconds=seconds[name], flops=flops, peak=peaks[name])


def time_samplers(bench, precision, *, most_s):
    """Images per second of each sampler: timed, or added up where that would take too long."""
    network = bench.profile.sdm.network
    process = GaussianDiffusion.from_config(bench.profile.sdm.diffusion)
    denoiser = Denoiser(bench.model, process, {})
    size = bench.profile.data.image_size_px
    maps = torch.randint(
        0, network.classes, (bench.batch, size, size), generator=torch.Generator().manual_seed(0)
    )
    step = bench.seconds["step, cached", precision]
    encoding = bench.seconds["labels encoded, once a map", precision]
    for sampler, steps in SAMPLERS:
        config = dataclasses.replace(
            bench.profile.sdm.sampling, sampler=sampler, steps=steps, precision=precision, eta=0.0
        )
        generators = [torch.Generator().manual_seed(n) for n in range(bench.batch)]
        seconds, timed = encoding + steps * step, "from its steps"
        if seconds <= most_s:
            timed = "yes"
            seconds = measure.seconds_of(
                lambda c=config, g=generators: sample(denoiser, maps, c, generators=g),
                device=bench.device,
            )
        flops = bench.flops["encode"] + steps * bench.flops["cached"]
        what = f"{sampler}, {steps} steps"
        bench.add(what, precision, seconds=seconds, flops=flops, timed=timed)


def time_training(bench, precision):
    """One step of training: noise, forward, backward, AdamW and the averaged weights."""
    recipe = _recipe(bench, precision)
    most = peak(bench, recipe.update)
    seconds = measure.fastest(
        {"training": recipe.update}, device=bench.device, rounds=bench.rounds, warm=True
    )["training"]
    flops = bench.flops["training"]
    bench.add("training step", precision, seconds=seconds, flops=flops, peak=most)


def _recipe(bench, precision):
    sdm, size = bench.profile.sdm, bench.profile.data.image_size_px
    config = dataclasses.replace(
        sdm.training, batch_size=bench.batch, micro_batch_size=bench.batch, precision=precision
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (bench.batch, 1, size, size), generator=generator)
    maps = torch.randint(0, sdm.network.classes, (bench.batch, size, size), generator=generator)
    stream = FrameStream(
        images.to(bench.device, torch.uint8), maps.to(bench.device, torch.uint8),
        tuple(map(str, range(bench.batch))), (0, "benchmark"), sdm.diffusion.timesteps,
        config.flip_probability, config.label_dropout, sdm.network.image_channels,
        sdm.network.classes,
    )  # fmt: skip
    model = bench.model.train().requires_grad_(True)
    model.checkpoint_activations = config.checkpoint_activations
    return Recipe(
        None, "benchmark", config, bench.device, model,
        GaussianDiffusion.from_config(sdm.diffusion),
        torch.optim.AdamW(model.parameters(), lr=0.0, fused=True),
        [parameter.detach().clone() for parameter in model.parameters()],
        stream, log=[], pending=[],
    )  # fmt: skip


def peak(bench, call):
    """The most memory of a call, which also warms it up."""
    return measure.peak_memory_bytes(call, device=bench.device)


def run(profile, *, device, batch, rounds, precisions, compiled, training, most_s, matmul_size):
    """The benchmark's record; the arguments are those of the command line."""
    bench = Bench(profile, device, batch, rounds, matmul_size)
    for precision in precisions:
        time_steps(bench, precision, compiled=compiled)
        time_samplers(bench, precision, most_s=most_s)
    if training:
        time_training(bench, precisions[-1])
    facts = {"profile": profile.name, "size_px": profile.data.image_size_px, "rounds": rounds}
    facts["targets"] = targets(bench.rows, device) if profile.name == "paper" else []
    return measure.record("sdm", bench.rows, COLUMNS, device=device, **facts)


def targets(rows, device):
    """What is aimed at on such a device and what was found, by precision."""
    return [
        {"what": what, "column": column, "precision": row["precision"], bound_is: bound,
         "found": row[column],
         "met": row[column] <= bound if bound_is == "most" else row[column] >= bound}
        for what, column, kind, bound, bound_is in TARGETS
        for row in rows
        if row["what"] == what and kind == device.type
    ]  # fmt: skip


def main(arguments=None):
    """The command line."""
    device = default_device()
    native = ["bfloat16"] if has_bfloat16(device) else []
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper", help="whose network; default %(default)s")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/sdm_<machine>.json")
    parser.add_argument("--batch", type=int, default=1, help="images; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument(
        "--precision", nargs="+", choices=["float32", "bfloat16"], dest="precisions",
        default=native if device.type == "cuda" else ["float32", *native],
    )  # fmt: skip
    parser.add_argument("--no-compile", action="store_false", dest="compiled")
    parser.add_argument("--no-training", action="store_false", dest="training")
    parser.add_argument("--most-s", type=float, default=60.0, help="longest sampler to be timed")
    parser.add_argument("--matmul-size", type=int, default=4096, help="rows of the product")
    chosen = vars(parser.parse_args(arguments))
    profile, out = load_profile(chosen.pop("profile")), chosen.pop("out")
    record = run(profile, device=device, **chosen)
    machine = measure.machine_slug(device)
    measure.write(record, out or measure.RESULTS / f"sdm_{profile.name}_{machine}.json")
    print(measure.as_table(record))
    for line in record["targets"]:
        print(line)


if __name__ == "__main__":
    main()
