"""Pseudo-images to echo images (paper, section 2.3): the data set of Table 1's CycleGAN row.

    python -m echo_lib.cyclegan.translation --profile demo

The pseudo-image of every augmented label map is translated; nothing is drawn at random. Beyond the
sector the image is what the generator made. Another batch size changes rounding alone: by one grey
level in float32, a few in bfloat16.
"""

import argparse
from pathlib import Path

import torch

from echo_lib import distributed
from echo_lib.allocation import keep_freed_memory
from echo_lib.checkpoints import load_weights
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.cyclegan.images import to_grey, write_png
from echo_lib.cyclegan.interop import load_released_generator
from echo_lib.cyclegan.networks import Generator
from echo_lib.data.datasets import load_pairs, read_index, to_unit
from echo_lib.precision import autocast
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, write_text

PAIR_COLUMNS = ["name", "patient", "view", "phase", "split", "image", "label_map"]
BATCH_SIZE = 16  # images of the data set per forward pass


def load_generator(path, device="cpu", direction="to_echo"):
    """A trained generator, ready to translate.

    Args:
        path: ``weights.safetensors`` of stage "cyclegan", or a ``.pth`` file of the widely used
            PyTorch implementation, which holds one direction alone.
        device: where it computes.
        direction: "to_echo" or "to_pseudo"; of a ``.pth`` file it is the file's own.

    Raises:
        ValueError: an unknown direction, or a file without such a generator.
    """
    if Path(path).suffix in (".pth", ".pt"):
        network = load_released_generator(path)
    else:
        network = _load_own(path, direction)
    return network.to(device).eval().requires_grad_(False)


def _load_own(path, direction):
    if direction not in ("to_echo", "to_pseudo"):
        raise ValueError(f"direction {direction!r}; expected 'to_echo' or 'to_pseudo'")
    weights, metadata = load_weights(path)
    if "generator" not in metadata:
        raise ValueError(f"{path}: no generator in the header; expected weights of a CycleGAN")
    with torch.device("meta"):
        network = Generator(**metadata["generator"])
    own = {
        name.removeprefix(f"{direction}."): tensor
        for name, tensor in weights.items()
        if name.startswith(f"{direction}.")
    }
    network.load_state_dict(own, assign=True)
    return network


@torch.inference_mode()
def translate(generator, pseudo_images, *, batch_size=BATCH_SIZE, precision="auto"):
    """Echo images of pseudo-images.

    Args:
        generator: ``Generator``; one of three channels sees the grey image in each, and its output
            is their mean.
        pseudo_images: (N, H, W) uint8, array or tensor; H and W multiples of 4.
        batch_size: images per forward pass.
        precision: "float32", "bfloat16", or "auto".

    Returns:
        (N, H, W) uint8 array.

    Raises:
        ValueError: another shape or type.
    """
    images = torch.as_tensor(pseudo_images)
    if images.ndim != 3 or images.dtype != torch.uint8 or any(s % 4 for s in images.shape[1:]):
        raise ValueError(
            f"pseudo-images {tuple(images.shape)} of {images.dtype}; expected (N, H, W) uint8 with "
            "H and W multiples of 4"
        )
    device, echoes = next(generator.parameters()).device, []
    for batch in images.split(batch_size):
        grey = to_unit(batch.to(device))[:, None].expand(-1, generator.channels, -1, -1)
        with autocast(device, precision):
            echoes.append(to_grey(generator(grey)))
    return torch.cat(echoes).numpy()


def translate_dataset(run, *, on_batch=None):
    """Make the echo of every augmented map's pseudo-image, or return at once where all are there.

    Args:
        run: ``provenance.Run``.
        on_batch: called with (done, total) after each batch.

    Returns:
        The manifest of stage "translated".

    Raises:
        StageError: the maps, the pseudo-images or the generator are missing or altered.
    """
    precision = run.profile.cyclegan.precision
    stage = Stage.open(
        run, "translated",
        config={}, inputs=("prepared", "pseudo", "cyclegan"), extra={"precision": precision},
    )  # fmt: skip
    finished = stage.finished()
    if finished:
        return finished
    maps = read_index(run.folder, "pseudo_maps")
    generator = load_generator(run.folder / "cyclegan/weights.safetensors", distributed.device())
    progress = Progress("Translating", len(maps), unit="image")
    for first in range(0, len(maps), BATCH_SIZE):
        batch = maps.iloc[first : first + BATCH_SIZE]
        _translate_batch(run, generator, batch, precision)
        progress.show(first + len(batch))
        if on_batch:
            on_batch(first + len(batch), len(maps))
    pairs = _pairs(maps)
    write_text(stage.folder / "pairs.csv", pairs.to_csv(index=False))
    outputs = [*(run.folder / image for image in pairs.image), stage.folder / "pairs.csv"]
    return stage.finish(outputs, facts={"images": len(pairs)}, device=distributed.device())


def _pairs(maps):
    """The index of the translated set: a map's own name, and where its echo will lie."""
    folder = "translated/images/" + maps.split + "/" + maps.view + "_" + maps.phase
    return maps.assign(image=folder + "/" + maps.name + ".png")[PAIR_COLUMNS]


def _translate_batch(run, generator, batch, precision):
    """Translate a batch unless all its files are there; finished files are never touched."""
    paths = [run.folder / image for image in _pairs(batch).image]
    if all(path.is_file() for path in paths):
        return
    images = load_pairs(run.folder, batch).images[:, 0]
    for path, echo in zip(paths, translate(generator, images, precision=precision), strict=True):
        if not path.is_file():
            write_png(path, echo)


def main(arguments=None):
    """Command line of this module."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    translate_dataset(run_from(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
