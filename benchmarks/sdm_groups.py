"""What the SDM's benchmark times, in groups that can be run one by one."""

import dataclasses
from contextlib import contextmanager

import torch

from benchmarks import measure, memory
from benchmarks.cost import SAMPLERS, training_bytes
from echo_lib.precision import autocast
from echo_lib.sdm.denoiser import CompiledStep, Denoiser, sample
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.recipe import Recipe
from echo_lib.sdm.stream import FrameStream

# The table's order.
WHATS = (
    "matrix product", "step, uncached", "step, cached", "step, cached, compiled",
    "labels encoded, once a map", *(f"{sampler}, {steps} steps" for sampler, steps in SAMPLERS),
    "training step", "training step, compiled",
)  # fmt: skip


@contextmanager
def sampling(device, precision):
    """How a sampler runs the network."""
    with torch.inference_mode(), autocast(device, precision):
        yield


def time_steps(bench, precision):
    """One evaluation of the network: uncached, cached, and the labels' encoding."""
    model = bench.model  # made outside of inference mode, for it is to be trained later
    with sampling(bench.device, precision):
        x, t, onehot = bench.inputs()
        calls = {"step, uncached": lambda: model(x, t, onehot)}
        peaks = {"step, uncached": peak(bench, calls["step, uncached"])}
        condition = model.encode_labels(onehot)
        calls["step, cached"] = lambda: model(x, t, condition)
        calls["labels encoded, once a map"] = lambda: model.encode_labels(onehot)
        for name in list(calls)[1:]:
            peaks[name] = peak(bench, calls[name])
        seconds, rate = bench.timed_beside_product(calls, precision)
    operations = 2 * bench.matmul_size**3
    bench.add(
        "matrix product", precision, seconds=operations / rate, flops=operations, rate=rate,
        images=False,
    )  # fmt: skip
    kinds = {"step, uncached": "uncached", "labels encoded, once a map": "encode"}
    for name in calls:
        flops = bench.flops[kinds.get(name, "cached")]
        bench.add(name, precision, seconds=seconds[name], flops=flops, rate=rate, peak=peaks[name])


def time_compiled(bench, precision):
    """A compiled cached step."""
    step, what = CompiledStep(bench.model), "step, cached, compiled"
    with sampling(bench.device, precision):
        x, t, onehot = bench.inputs()
        condition = bench.model.encode_labels(onehot)
        _time_compiled(
            bench, precision, what, lambda: step(x, t, condition), step, bench.flops["cached"]
        )


def _time_compiled(bench, precision, what, call, step, flops):
    start = measure.seconds_of(call, device=bench.device)
    if step.call is step.model:
        bench.add_missing(what, precision, "torch.compile failed")
        return
    most = peak(bench, call)
    seconds, rate = bench.timed_beside_product({what: call}, precision)
    bench.add(
        what, precision, seconds=seconds[what], flops=flops, rate=rate, peak=most,
        timed=f"yes; the first took {start:.0f} s",
    )  # fmt: skip


def time_samplers(bench, precision):
    """Images per second of each sampler: timed, or added up where that would take too long."""
    step = bench.row("step, cached", precision)
    encoding = bench.row("labels encoded, once a map", precision)
    if not (step and encoding):
        bench.add_missing("{}, {} steps".format(*SAMPLERS[0]), precision, "no step was timed")
        return
    for sampler, steps in SAMPLERS:
        flops = bench.flops["encode"] + steps * bench.flops["cached"]
        row = {
            "seconds": encoding["seconds"] + steps * step["seconds"], "peak": None,
            "rate": 1e12 * step["tflops_per_second"] / step["of_matmul"],
            "timed": "from its steps",
        }  # fmt: skip
        if row["seconds"] <= bench.most_s:
            row = _timed_sampler(bench, precision, sampler, steps)
        bench.add(f"{sampler}, {steps} steps", precision, flops=flops, **row)


def _timed_sampler(bench, precision, sampler, steps):
    sdm, size = bench.profile.sdm, bench.profile.data.image_size_px
    denoiser = Denoiser(bench.model, GaussianDiffusion.from_config(sdm.diffusion), {})
    config = dataclasses.replace(
        sdm.sampling, sampler=sampler, steps=steps, precision=precision, eta=0.0
    )
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, sdm.network.classes, (bench.batch, size, size), generator=generator)
    generators = [torch.Generator().manual_seed(n) for n in range(bench.batch)]
    found = {}

    def once():
        found["times"] = bench.timed_beside_product(
            {"sampler": lambda: sample(denoiser, maps, config, generators=generators)},
            precision, rounds=1,
        )  # fmt: skip

    most = peak(bench, once)
    seconds, rate = found["times"]
    return {"seconds": seconds["sampler"], "rate": rate, "peak": most, "timed": "yes"}


def time_training(bench, precision):
    """One step of training: noise, forward, backward, AdamW and the averaged weights."""
    recipe, what = _recipe(bench, precision, compiled=False), "training step"
    most = peak(bench, recipe.update)
    seconds, rate = bench.timed_beside_product({what: recipe.update}, precision)
    flops = bench.flops["training"]
    bench.add(what, precision, seconds=seconds[what], flops=flops, rate=rate, peak=most)


def time_compiled_training(bench, precision):
    """The same, the network compiled."""
    recipe = _recipe(bench, precision, compiled=True)
    _time_compiled(
        bench, precision, "training step, compiled", recipe.update, recipe.compiled,
        bench.flops["training"],
    )  # fmt: skip


def _recipe(bench, precision, *, compiled):
    sdm, size = bench.profile.sdm, bench.profile.data.image_size_px
    config = dataclasses.replace(
        sdm.training, batch_size=bench.batch, micro_batch_size=bench.batch, precision=precision,
        compile=compiled,
    )  # fmt: skip
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


def needed_to_sample(bench, precision):
    """The most bytes at once in ``time_steps``, counted; the other groups that sample need less."""
    device = torch.device("cpu")

    def work():
        model, (x, t, onehot) = bench.network(), bench.inputs(device)
        with torch.no_grad(), autocast(device, precision):
            model(x, t, onehot)
            condition = model.encode_labels(onehot)
            model(x, t, condition)
            return condition, model.encode_labels(onehot)

    return memory.needed_bytes(work)


def needed_to_train(bench, precision):
    """The most bytes at once in a training step, counted."""
    profile = bench.profile
    return training_bytes(
        profile.sdm.network,
        profile.data.image_size_px,
        batch=bench.batch,
        precision=precision,
        recomputing=profile.sdm.training.checkpoint_activations,
    )


# Name to (the row that tells that it was run, the bytes it needs, what runs it), in their order.
GROUPS = {
    "steps": ("step, cached", needed_to_sample, time_steps),
    "compiled": ("step, cached, compiled", needed_to_sample, time_compiled),
    "samplers": ("{}, {} steps".format(*SAMPLERS[0]), needed_to_sample, time_samplers),
    "training": ("training step", needed_to_train, time_training),
    "compiled_training": ("training step, compiled", needed_to_train, time_compiled_training),
}
