"""Are synthetic images copies of training frames?

    python -m echo_lib.sdm.copies --profile demo

Each image is set beside the training frame that correlates with it most. Frames of the evaluation
split, which no SDM saw, say how alike different patients are anyway: a generator that copies lies
above them. The hardest question is asked last: the SDM is given label maps of its own training
frames, unaltered. One that has learned frames by heart gives these frames.
"""

import argparse
import dataclasses

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from echo_lib import distributed
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.data.datasets import load_label_maps, load_pairs, read_index
from echo_lib.labels import VIEWS
from echo_lib.provenance import Stage, require, write_text
from echo_lib.sdm.denoiser import sample
from echo_lib.sdm.sampling import denoiser_of
from echo_lib.seeding import numpy_generator, torch_generator

SIDE_PX = 64  # images are compared at this size: speckle is new in any image
IMAGES = 200  # of a group and view, by lot
DRAWN = 32  # images of GIVEN and view
REAL, HELD_OUT = "real frames held out", "synthetic, maps held out"
BENT, GIVEN = "synthetic, training maps transformed", "synthetic, training maps as they are"
IMAGE_COLUMNS = ("group", "name", "view", "nearest", "mirrored", "own", "correlation")


def nearest(images, others):
    """The correlation of each image with the one most like it among others, mirrored or not.

    Args:
        images: (N, H, W) uint8.
        others: (M, H, W) uint8.

    Returns:
        Three arrays (N,): Pearson's correlation over the pixels, at SIDE_PX, 0 where an image has
        one grey value alone; which of the others; whether mirrored.
    """
    ours, theirs = _normalised(images), _normalised(others)
    sides = theirs.view(len(theirs), SIDE_PX, SIDE_PX)
    found = torch.stack([ours @ theirs.T, ours @ sides.flip(-1).flatten(1).T])
    best, place = found.permute(1, 0, 2).flatten(1).max(dim=1)
    mirrored, which = place // len(theirs), place % len(theirs)
    return best.numpy(), which.numpy(), mirrored.bool().numpy()


def _normalised(images):
    small = torch.as_tensor(np.asarray(images))[:, None].double()
    flat = F.interpolate(small, (SIDE_PX, SIDE_PX), mode="area").flatten(1)
    flat = flat - flat.mean(dim=1, keepdim=True)
    return F.normalize(flat, dim=1)


def measure(run):
    """Write stage ``copies``: images.csv, a line an image, and summary.csv.

    Only frames of the phases that the SDM was trained on, each compared within its view.

    Args:
        run: ``provenance.Run`` with stages "prepared" and "synthetic". Where the run's own SDMs
            drew the latter, they draw the images of GIVEN too.

    Returns:
        The table of summary.csv.
    """
    sdms = _sdms(run)
    # As for stage "synthetic": compilation and cache change no image beyond rounding.
    sampling = dataclasses.replace(run.profile.sdm.sampling, compile=False, cache_gib=0.0)
    stage = Stage.open(
        run, "copies",
        config={"sampling": sampling},
        inputs=("prepared", "synthetic", *sdms),
        extra={"phases": list(run.profile.sdm.training.phases)},
    )  # fmt: skip
    if not stage.finished():
        lines = pd.concat([_of_view(run, view) for view in VIEWS], ignore_index=True)
        tables = {"images.csv": lines, "summary.csv": summarise(lines)}
        for name, table in tables.items():
            write_text(stage.folder / name, table.to_csv(index=False, float_format="%.6g"))
        device = distributed.device() if sdms else "cpu"
        stage.finish([stage.folder / name for name in tables], device=device)
    return pd.read_csv(stage.folder / "summary.csv")


def _sdms(run):
    """The stages of the SDMs that drew the run's images; none where others drew them."""
    inputs = require(run, "synthetic")["inputs"]
    return [f"sdm/{view}" for view in VIEWS if f"sdm/{view}" in inputs]


def _of_view(run, view):
    real, synthetic = (
        index[(index.view == view) & index.phase.isin(run.profile.sdm.training.phases)]
        for index in (read_index(run.folder, kind) for kind in ("real", "synthetic"))
    )
    seen = real[real.split == "training"]
    others = load_pairs(run.folder, seen).images[:, 0].numpy()
    groups = {
        REAL: real[real.split == run.profile.data.evaluation_split],
        HELD_OUT: synthetic[synthetic.split != "training"],
        BENT: synthetic[synthetic.split == "training"],
    }
    chosen = {
        group: _lot(run, view, group, index, IMAGES)
        for group, index in groups.items()
        if not index.empty
    }
    images = {
        group: load_pairs(run.folder, index).images[:, 0].numpy() for group, index in chosen.items()
    }
    if f"sdm/{view}" in _sdms(run):
        chosen[GIVEN] = _lot(run, view, GIVEN, seen, DRAWN)
        images[GIVEN] = _draw(run, view, chosen[GIVEN])
    found = [_compared(view, group, chosen[group], images[group], seen, others) for group in chosen]
    return pd.concat(found, ignore_index=True)


def _lot(run, view, group, index, count):
    lot = numpy_generator("copies", run.seed, view, group).permutation(len(index))[:count]
    return index.iloc[np.sort(lot)]


def _draw(run, view, frames):
    denoiser, config = denoiser_of(run, view), run.profile.sdm.sampling
    maps, names = load_label_maps(run.folder, frames), frames.name.to_numpy()
    parts = []
    for batch in torch.arange(len(names)).split(config.batch_size):
        generators = [torch_generator("copies", run.seed, names[i]) for i in batch]
        parts.append(sample(denoiser, maps[batch], config, generators=generators))
    return torch.cat(parts).numpy()


def _compared(view, group, index, images, seen, others):
    """Lines of images.csv: ``own`` where the nearest frame is the one whose map made the image."""
    best, which, mirrored = nearest(images, others)
    names, frames = index.name.to_numpy(), seen.name.to_numpy()[which]
    sources = {BENT: [name.rpartition("_")[0] for name in names], GIVEN: names}
    own = frames == np.array(sources.get(group, [""] * len(names)), dtype=object)
    columns = {"group": group, "name": names, "view": view, "nearest": frames}
    columns |= {"mirrored": mirrored, "own": own, "correlation": best}
    return pd.DataFrame(columns, columns=list(IMAGE_COLUMNS))


def summarise(lines):
    """By group and view: how many images, mean, 95th percentile and largest of the correlation.

    Args:
        lines: as in images.csv.

    Returns:
        A data frame; ``own`` is the share of images nearest to the frame that their map came from.
    """
    summary = lines.groupby(["group", "view"], sort=False).agg(
        n=("correlation", "size"),
        mean=("correlation", "mean"),
        percentile_95=("correlation", lambda values: values.quantile(0.95)),
        largest=("correlation", "max"),
        own=("own", "mean"),
    )
    return summary.reset_index()


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    print(measure(run_from(parser.parse_args(arguments))).to_string(index=False))


if __name__ == "__main__":
    main()
