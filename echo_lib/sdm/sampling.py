"""Label maps to images: resumable, each image drawn from a generator of its own.

    python -m echo_lib.sdm.sampling --profile demo
    python -m echo_lib.sdm.sampling --profile demo --view 2CH    # beside another for 4CH

An image's noise comes from a generator named by its map. Batches are cut from the whole sorted
list, interrupted or not, so a file is the same to the bit in any order of work. Another
batch size changes rounding alone: by one grey level in float32, a few in bfloat16.
"""

import argparse
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from echo_lib import distributed
from echo_lib.checkpoints import load_into, load_weights
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.config import DiffusionConfig, SemanticUNetConfig
from echo_lib.data.datasets import load_label_maps, one_hot, read_index
from echo_lib.labels import VIEWS
from echo_lib.precision import autocast
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, atomic_path, write_text
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.samplers import SAMPLERS, guided
from echo_lib.sdm.unet import SemanticUNet
from echo_lib.seeding import torch_generator

PAIR_COLUMNS = ["name", "patient", "view", "phase", "split", "image", "label_map"]


class Denoiser(NamedTuple):
    """A trained network and the process it was trained for."""

    model: SemanticUNet
    process: GaussianDiffusion
    metadata: dict

    @property
    def device(self):
        return next(self.model.parameters()).device


def load_denoiser(path, *, device="cpu"):
    """The SDM in a weights file; the file's own header says which network it is.

    Raises:
        ValueError: not safetensors, or a header without the network's config.
    """
    _, metadata = load_weights(path)
    if "network" not in metadata or "diffusion" not in metadata:
        raise ValueError(f"{path}: no network config in the header; expected weights of an SDM")
    network = {k: tuple(v) if isinstance(v, list) else v for k, v in metadata["network"].items()}
    model = SemanticUNet(SemanticUNetConfig(**network))
    load_into(model, path)
    process = GaussianDiffusion.from_config(DiffusionConfig(**metadata["diffusion"]))
    model = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return Denoiser(model, process, metadata)


@torch.inference_mode()
def sample(denoiser, label_maps, config, *, generators):
    """Images of label maps.

    Args:
        denoiser: ``Denoiser``.
        label_maps: (B, H, W) integer SDM ids.
        config: ``SamplingConfig``.
        generators: B torch generators on the CPU, one an image.

    Returns:
        (B, H, W) uint8.
    """
    if len(generators) != len(label_maps):
        raise ValueError(f"{len(generators)} generators for {len(label_maps)} label maps")
    model, device = denoiser.model, denoiser.device
    onehot = one_hot(label_maps.long().to(device), model.config.classes)
    shape = (model.config.image_channels, *label_maps.shape[-2:])

    def noise():
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

    with autocast(device, config.precision):
        condition = model.encode_labels(onehot)
        null = model.encode_labels(torch.zeros_like(onehot)) if config.guidance else None
        call = guided(model, condition, null, scale=config.guidance)
        x_0 = _solve(call, noise, denoiser.process, config)
    grey = x_0.float().mean(dim=1).clamp(-1, 1)
    return ((grey + 1) * 127.5).round().to(torch.uint8).cpu()


def _solve(call, noise, process, config):
    spacing = "log_snr" if config.sampler == "dpm_solver_pp" else "time"
    options = {"process": process.respaced(config.steps, spacing=spacing), "noise": noise}
    if config.sampler == "ddim":
        options["eta"] = config.eta
    return SAMPLERS[config.sampler](call, noise(), **options)


def sample_dataset(run, *, views=VIEWS, on_batch=None):
    """Make the image of every augmented map, or return at once where they are all there.

    Args:
        run: ``provenance.Run``.
        views: sample these alone; several processes may take a view each.
        on_batch: called with (done, total) after each batch.

    Returns:
        The manifest of stage "synthetic"; None while images of other views are missing.
    """
    config = run.profile.sdm
    stage = Stage.open(
        run, "synthetic",
        config={"sampling": config.sampling},
        inputs=("prepared", *(f"sdm/{view}" for view in VIEWS)),
    )  # fmt: skip
    finished = stage.finished()
    if finished:
        return finished
    pairs = _pairs(read_index(run.folder, "maps"))
    batches = [b for view in views for b in _batches(pairs, view, config.sampling.batch_size)]
    denoisers = {view: _denoiser_of(run, view) for view in views}
    total, done = sum(len(batch) for _, batch in batches), 0
    progress = Progress("Sampling " + " ".join(views), total, unit="image")
    for view, batch in batches:
        _sample_batch(run, denoisers[view], batch)
        done += len(batch)
        progress.show(done)
        if on_batch:
            on_batch(done, total)
    return _finish(stage, pairs)


def _denoiser_of(run, view):
    path = run.folder / f"sdm/{view}/weights.safetensors"
    return load_denoiser(path, device=distributed.device())


def _batches(pairs, view, size):
    chosen = pairs[pairs.view == view].sort_values("name")
    return [(view, chosen.iloc[first : first + size]) for first in range(0, len(chosen), size)]


def _finish(stage, pairs):
    images = [stage.run.folder / image for image in pairs.image]
    if not all(image.is_file() for image in images):
        return None
    write_text(stage.folder / "pairs.csv", pairs.to_csv(index=False))
    outputs = [*images, stage.folder / "pairs.csv"]
    return stage.finish(outputs, facts={"images": len(pairs)}, device=distributed.device())


def _pairs(maps):
    """The index of the synthetic set: a map's own name, and where its image will lie."""
    folder = "synthetic/images/" + maps.split + "/" + maps.view + "_" + maps.phase
    return maps.assign(image=folder + "/" + maps.name + ".png")[PAIR_COLUMNS]


def _sample_batch(run, denoiser, batch):
    """Sample a batch unless all its files are there; finished files are never touched."""
    paths = [run.folder / image for image in batch.image]
    if all(path.is_file() for path in paths):
        return
    maps = load_label_maps(run.folder, batch)
    generators = [torch_generator("sample", run.seed, name) for name in batch.name]
    images = sample(denoiser, maps, run.profile.sdm.sampling, generators=generators)
    for path, image in zip(paths, images.numpy(), strict=True):
        if not path.is_file():
            write_png(path, image)


def write_png(path, image):
    """Write (H, W) uint8 as a grey PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--view", choices=VIEWS, help="this view alone")
    args = parser.parse_args(arguments)
    sample_dataset(run_from(args), views=(args.view,) if args.view else VIEWS)


if __name__ == "__main__":
    main()
