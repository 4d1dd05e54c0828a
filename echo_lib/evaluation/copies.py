"""Are synthetic images copies of training frames?

    python -m echo_lib.evaluation.copies --profile demo

Each image is set beside the training frame that correlates with it most. Frames of the evaluation
split, which no SDM saw, say how alike different patients are anyway: a generator that copies lies
above them.
"""

import argparse

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from echo_lib.cli import add_run_arguments, run_from
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.labels import VIEWS
from echo_lib.provenance import Stage, write_text
from echo_lib.seeding import numpy_generator

SIDE_PX = 64  # images are compared at this size: speckle is new in any image
IMAGES = 200  # of a group and view, by lot
REAL, HELD_OUT, OWN = "real frames held out", "synthetic, maps held out", "synthetic, training maps"
IMAGE_COLUMNS = ("group", "name", "view", "nearest", "mirrored", "correlation")


def nearest(images, others):
    """The correlation of each image with the one most like it among others, mirrored or not.

    Args:
        images: (N, H, W) uint8.
        others: (M, H, W) uint8.

    Returns:
        Three arrays (N,): Pearson's correlation over the pixels, at SIDE_PX; which of the others;
        whether mirrored.

    Raises:
        ValueError: an image has one grey value alone, so nothing correlates with it.
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
    length = flat.norm(dim=1, keepdim=True)
    if (length == 0).any():
        raise ValueError(f"image {int((length == 0).flatten().nonzero()[0])} has one grey value")
    return flat / length


def measure(run):
    """Write stage ``copies``: images.csv, a line an image, and summary.csv.

    All of the phases that the SDM was trained on, and of its own view.

    Args:
        run: ``provenance.Run`` with stages "prepared" and "synthetic".

    Returns:
        The table of summary.csv.
    """
    stage = Stage.open(
        run, "copies", config={"training": run.profile.sdm.training},
        inputs=("prepared", "synthetic"),
    )  # fmt: skip
    if stage.finished():
        return pd.read_csv(stage.folder / "summary.csv")
    lines = pd.concat([_of_view(run, view) for view in VIEWS], ignore_index=True)
    tables = {"images.csv": lines, "summary.csv": summarise(lines)}
    for name, table in tables.items():
        write_text(stage.folder / name, table.to_csv(index=False, float_format="%.6g"))
    stage.finish([stage.folder / name for name in tables])
    return tables["summary.csv"]


def _of_view(run, view):
    real, synthetic = (
        index[(index.view == view) & index.phase.isin(run.profile.sdm.training.phases)]
        for index in (read_index(run.folder, kind) for kind in ("real", "synthetic"))
    )
    seen = real[real.split == "training"]
    others = load_pairs(run.folder, seen).images[:, 0].numpy()
    held_out = real[real.split == run.profile.data.evaluation_split]
    groups = {
        REAL: held_out,
        HELD_OUT: synthetic[synthetic.split != "training"],
        OWN: synthetic[synthetic.split == "training"],
    }
    lines = []
    for group, index in groups.items():
        if index.empty:
            continue
        lot = numpy_generator("copies", run.seed, view, group).permutation(len(index))[:IMAGES]
        chosen = index.iloc[np.sort(lot)]
        images = load_pairs(run.folder, chosen).images[:, 0].numpy()
        best, which, mirrored = nearest(images, others)
        found = {"group": group, "name": chosen.name.to_numpy(), "view": view}
        found |= {"nearest": seen.name.to_numpy()[which], "mirrored": mirrored}
        lines.append(pd.DataFrame(found | {"correlation": best}, columns=list(IMAGE_COLUMNS)))
    return pd.concat(lines, ignore_index=True)


def summarise(lines):
    """By group and view: the number of images, and mean, 95th percentile and largest correlation.

    Args:
        lines: as in images.csv.
    """
    found = lines.groupby(["group", "view"], sort=False).correlation
    summary = found.agg(
        n="size", mean="mean", percentile_95=lambda values: values.quantile(0.95), largest="max"
    )
    return summary.reset_index()


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    print(measure(run_from(parser.parse_args(arguments))).to_string(index=False))


if __name__ == "__main__":
    main()
