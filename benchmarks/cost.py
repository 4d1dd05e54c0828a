"""What the paper's size costs, from counted operations: GPU-hours of training and of sampling.

    python -m benchmarks.cost

Writes ``benchmarks/results/cost.json`` and from it ``docs/cost.md``. The operations are counted on
the ``meta`` device, so any machine gives the same numbers; the rate of the GPU is assumed.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, as_table, count_flops
from benchmarks.memory import needed_bytes
from echo_lib.config import load_profile
from echo_lib.labels import VIEWS
from echo_lib.precision import autocast
from echo_lib.provenance import write_json, write_text
from echo_lib.sdm.unet import SemanticUNet

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
FRAMES, PHASES = 450, 2  # per view, training and validation [paper 2.1]; ED and ES
GPUS = (1, 8, 64)
SAMPLERS = (
    ("ddpm", 1000), ("ddpm", 250), ("ddim", 50), ("dpm_solver_pp", 25), ("dpm_solver_pp", 15),
)  # fmt: skip
ASSUMED = {
    "gpu": "H100, bfloat16, dense",
    "peak_tflops_per_second": 989.0,
    "of_peak_in_training": 0.35,
    "of_peak_in_sampling": 0.40,
}
COLUMNS = {
    "what": ("what", ""),
    "images": ("images", ",d"),
    "exaflop": ("EFLOP", ",.2f"),
    **{f"hours_{gpus}": (f"hours on {gpus} GPU{'s' * (gpus > 1)}", ",.2f") for gpus in GPUS},
}


def sdm_flops(network, size_px, *, batch=1, recomputing=False):
    """Floating-point operations of one call of a network, a multiply-add as two.

    Args:
        network: ``SemanticUNetConfig``.
        size_px: rows and columns of the image.
        batch: images.
        recomputing: a training step runs each block again in the backward pass.

    Returns:
        ``uncached`` and ``cached`` step, ``encode`` (the label maps, once), ``training`` step.
    """
    with torch.device("meta"):
        model = SemanticUNet(network)
        x = torch.empty(batch, network.image_channels, size_px, size_px)
        t = torch.zeros(batch, dtype=torch.int64)
        onehot = torch.empty(batch, network.classes, size_px, size_px)
    model.checkpoint_activations = recomputing
    condition = model.encode_labels(onehot)
    with torch.no_grad():
        counts = {
            "uncached": count_flops(lambda: model(x, t, onehot)),
            "cached": count_flops(lambda: model(x, t, condition)),
            "encode": count_flops(lambda: model.encode_labels(onehot)),
        }
    counts["training"] = count_flops(lambda: model(x, t, onehot).sum().backward())
    return counts


def training_bytes(network, size_px, *, batch, precision, recomputing):
    """The most bytes at once in a training step, counted, Adam's moments and the average too.

    Args:
        network, size_px, recomputing: see ``sdm_flops``.
        batch: images of a forward pass.
        precision: "float32" or "bfloat16".
    """
    device = torch.device("cpu")

    def work():
        model = SemanticUNet(network).train()
        model.checkpoint_activations = recomputing
        kept = [torch.empty_like(weight) for weight in model.parameters() for _ in range(3)]
        x = torch.empty(batch, network.image_channels, size_px, size_px)
        onehot = torch.empty(batch, network.classes, size_px, size_px)
        with autocast(device, precision):
            output = model(x, torch.zeros(batch, dtype=torch.int64), onehot)
        output.square().sum().backward()
        return kept

    return needed_bytes(work)


def cost(profile, *, assumed=None):
    """The record behind the page.

    Args:
        profile: ``config.Profile``.
        assumed: the GPU's rate and the fractions of it that are reached; ``ASSUMED`` by default.
    """
    sdm, assumed = profile.sdm, assumed or ASSUMED
    recomputing = sdm.training.checkpoint_activations
    flops = sdm_flops(sdm.network, profile.data.image_size_px, recomputing=recomputing)
    rows = [_training_row(sdm.training, flops, assumed)]
    maps = FRAMES * PHASES * len(VIEWS) * profile.augmentation.maps_per_frame
    for sampler, steps in SAMPLERS:
        each = {
            "uncached": flops["uncached"] * steps,
            "cached": flops["encode"] + flops["cached"] * steps,
        }
        for kind, count in each.items():
            what = f"{sampler}, {steps} steps, {kind}"
            rows.append(_row(what, maps, maps * count, assumed, "of_peak_in_sampling"))
    return {
        "benchmark": "cost",
        "profile": profile.name,
        "size_px": profile.data.image_size_px,
        "parameters": _parameters(sdm.network),
        "recomputing": recomputing,
        "training_memory": _training_memory(profile),
        "flops_per_image": flops,
        "assumed": assumed,
        "rows": rows,
        "columns": {key: list(value) for key, value in COLUMNS.items()},
    }


def _training_memory(profile):
    """Bytes of a training step in bfloat16, activations kept and recomputed, and its images."""
    network, size = profile.sdm.network, profile.data.image_size_px
    batch = profile.sdm.training.micro_batch_size
    kept, recomputed = (
        training_bytes(network, size, batch=batch, precision="bfloat16", recomputing=again)
        for again in (False, True)
    )
    return {"images": batch, "kept": kept, "recomputed": recomputed}


def _training_row(training, flops, assumed):
    images = len(VIEWS) * training.steps * training.batch_size
    what = f"training of both views, {training.steps:,} steps of {training.batch_size} each"
    row = _row(what, images, images * flops["training"], assumed, "of_peak_in_training")
    for gpus in GPUS:
        largest_share = -(-training.batch_size // gpus)
        row[f"hours_{gpus}"] = row["hours_1"] * largest_share / training.batch_size
    return row


def _row(what, images, flops, assumed, fraction):
    hours = flops / (1e12 * assumed["peak_tflops_per_second"] * assumed[fraction]) / 3600
    shares = {f"hours_{gpus}": hours / gpus for gpus in GPUS}
    return {"what": what, "images": images, "exaflop": flops / 1e18, **shares}


def _parameters(network):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SemanticUNet(network).parameters())


PAGE_TEXT = """# What it costs

Operations are counted on the network of the profile `{profile}` ({parameters:,} parameters,
{size} px), a multiply-add as two. The GPU's rate is **assumed, not measured**: {gpu},
{peak:,.0f} TFLOP/s, of which training reaches {in_training:.0%} and sampling {in_sampling:.0%}.
`benchmarks/results` holds what was measured on machines at hand.

Written by `python -m benchmarks.cost` from `benchmarks/results/cost.json`.

## One image

| | TFLOP |
| --- | --- |
| a step, the label map's modulations computed in it | {uncached:.3f} |
| a step, the modulations taken from the cache | {cached:.3f} |
| the modulations, once per label map | {encode:.3f} |
| a training step{recomputing} | {training:.3f} |

The modulations are {share:.1%} of a step and the same at every step, so a cached step is
{ratio:.3f} of an uncached one.

A training step of {images} images in bfloat16, the profile's `micro_batch_size`, holds
{kept:.0f} GiB at once (weights, their gradients, Adam's moments, the average and the activations,
counted; what a kernel needs within itself is not in it), and {recomputed:.0f} GiB where
`sdm.training.checkpoint_activations` computes the activations again instead. A GPU with less memory
than the first takes a smaller `micro_batch_size`, which changes the result by rounding only, or
recomputes, which costs time.

## The paper's work

Each view has a model of its own. The sampled images are those of all label maps, {maps:,} of them;
a step evaluates the network once, whatever the sampler. Several GPUs share the work evenly; of a
training batch each takes whole images, and the largest share sets the pace. What the GPUs
tell each other is not counted: in training {gradients:.1f} GB of gradients a step, after the
backward pass and not during it.

{table}"""


def page(record):
    """The text of ``docs/cost.md``."""
    flops = {key: value / 1e12 for key, value in record["flops_per_image"].items()}
    assumed = record["assumed"]
    return PAGE_TEXT.format(
        profile=record["profile"],
        parameters=record["parameters"],
        size=record["size_px"],
        gpu=assumed["gpu"],
        peak=assumed["peak_tflops_per_second"],
        in_training=assumed["of_peak_in_training"],
        in_sampling=assumed["of_peak_in_sampling"],
        recomputing=", activations recomputed" if record["recomputing"] else "",
        share=flops["encode"] / flops["uncached"],
        ratio=flops["cached"] / flops["uncached"],
        maps=record["rows"][-1]["images"],
        table=as_table(record),
        images=record["training_memory"]["images"],
        kept=record["training_memory"]["kept"] / 2**30,
        recomputed=record["training_memory"]["recomputed"] / 2**30,
        gradients=4e-9 * record["parameters"],
        **flops,
    )


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper", help="whose network and numbers")
    parser.add_argument("--out", type=Path, default=RESULTS / "cost.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    for key, value in ASSUMED.items():
        option = f"--{key.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help="assumed: %(default)s")
    chosen = parser.parse_args(arguments)
    assumed = {key: getattr(chosen, key) for key in ASSUMED}
    record = cost(load_profile(chosen.profile), assumed=assumed)
    write_json(chosen.out, record)
    write_text(chosen.page, page(record))
    print(page(record))


if __name__ == "__main__":
    main()
