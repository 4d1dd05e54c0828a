"""Are a run's synthetic images what their records say? Draw some again, and compare.

Every file is compared with its recorded hash. The images that are drawn again are drawn in the
batches in which they were made: on the same machine and libraries they are equal to the bit.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.data.datasets import read_index
from echo_lib.labels import VIEWS
from echo_lib.provenance import MANIFEST, Run, StageError, sha256_file
from echo_lib.sdm import sampling
from echo_lib.seeding import numpy_generator

# Grey levels that another machine's rounding may make: twice what was seen between bfloat16 and
# float32, and between batches in float32.
TOLERANCE = {"float32": 2, "bfloat16": 8}


class Verification(NamedTuple):
    """What ``verify`` found.

    Attributes:
        images: how many the stage has.
        redrawn: data frame, a line per image drawn again: name, split, levels (largest difference
            in grey levels), pixels (how many differ).
        tolerance: grey levels.
        faults: what disagrees, a sentence each.
    """

    images: int
    redrawn: pd.DataFrame
    tolerance: int
    faults: tuple


def verify(run, *, count=16, number=0):
    """Compare files with their hashes, and images with themselves drawn again.

    Args:
        run: ``provenance.Run`` whose stage "synthetic" is finished.
        count: draw at least so many again; whole batches are drawn.
        number: of the draw; another one draws other batches.

    Raises:
        StageError: the stage has no manifest.
    """
    manifest = _manifest(run.folder)
    records = pd.read_csv(run.folder / "synthetic/images.csv")
    tolerance = TOLERANCE[manifest["facts"]["computed_in"]]
    denoisers = {view: sampling.denoiser_of(run, view) for view in VIEWS}
    batches = _some_batches(run, count, number)
    redrawn = pd.concat([_redraw(run, b, denoisers[b.view.iloc[0]]) for b in batches])
    strays = redrawn[redrawn.levels > tolerance]
    faults = [
        *_wrong_hashes(run, records),
        *(f"{x.image}: drawn again it differs by {x.levels} levels" for x in strays.itertuples()),
    ]
    return Verification(len(records), redrawn, tolerance, tuple(faults))


def report(run, *, count=16, number=0):
    """Print what ``verify`` found; the exit status: 1 where anything disagrees, else 0."""
    found = verify(run, count=count, number=number)
    equal = int((found.redrawn.levels == 0).sum())
    print(
        f"{run.folder}: files of {found.images} images compared with their hashes; "
        f"{len(found.redrawn)} drawn again, {equal} of them equal to the bit, largest difference "
        f"{found.redrawn.levels.max()} of 255 grey levels (rounding: up to {found.tolerance})"
    )
    for fault in found.faults:
        print(f"  {fault}")
    return int(bool(found.faults))


def run_in(folder):
    """The run that a folder holds: its profile by ``profile.yaml``, its seed by the manifest.

    Raises:
        StageError: there is no finished stage "synthetic", or no ``profile.yaml``.
    """
    folder = Path(folder).resolve()
    manifest, profile = _manifest(folder), folder / "profile.yaml"
    if not profile.is_file():
        raise StageError(f"{profile}: no such file; name the run by --profile and --run-root")
    return Run(load_profile(profile), manifest["seed"], None, folder.parent)


def _manifest(folder):
    path = folder / "synthetic" / MANIFEST
    if not path.is_file():
        raise StageError(f"stage 'synthetic' is not finished: {path} is missing; run it first")
    return json.loads(path.read_text(encoding="utf-8"))


def _wrong_hashes(run, records):
    """Files that are missing or not those of the record, each once."""
    for column in ("weights", "label_map", "image"):
        files = records[[column, f"{column}_sha256"]].drop_duplicates()
        for path, expected in files.itertuples(index=False):
            file = run.folder / path
            if not file.is_file():
                yield f"{path}: missing"
            elif sha256_file(file) != expected:
                yield f"{path}: altered, its hash is not the recorded one"


def _some_batches(run, count, number):
    pairs, size = read_index(run.folder, "synthetic"), run.profile.sdm.sampling.batch_size
    batches = [b for view in VIEWS for b in sampling.cut_batches(pairs, view, size)]
    order = numpy_generator("verify", run.seed, number).permutation(len(batches))
    sizes = np.cumsum([len(batches[i]) for i in order])
    return [batches[i] for i in order[: np.searchsorted(sizes, count) + 1]]


def _redraw(run, batch, denoiser):
    """A batch's lines with ``levels`` and ``pixels``; without images that are not there."""
    again = sampling.draw(run, denoiser, batch, run.profile.sdm.sampling)
    there = np.array([(run.folder / image).is_file() for image in batch.image])
    batch, again = batch[there], again[there].astype(int)
    kept = [np.array(Image.open(run.folder / image)) for image in batch.image]
    differences = [np.abs(a - k) for a, k in zip(again, kept, strict=True)]
    return batch.assign(
        levels=[d.max() for d in differences], pixels=[(d > 0).sum() for d in differences]
    )
