"""Label maps to images: resumable, in as many processes and jobs as there are.

    python -m echo_lib.sdm.sampling --profile demo
    python -m echo_lib.sdm.sampling --profile demo --view 2CH       # beside another for 4CH
    python -m echo_lib.sdm.sampling --profile paper --shard 3/16    # one of 16 independent jobs
    torchrun --nproc-per-node 8 -m echo_lib.sdm.sampling --profile paper
    python -m echo_lib.sdm.sampling verify runs/demo                # draw some again and compare

An image's noise comes from a generator named by its map. Batches are cut from the whole sorted list
and a process takes whole batches, so a file is the same to the bit however the work is shared,
interrupted or resumed. The process that finds every image there finishes the stage.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from echo_lib import distributed
from echo_lib.allocation import keep_freed_memory
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.data.datasets import load_label_maps, read_index
from echo_lib.labels import VIEWS
from echo_lib.precision import has_bfloat16
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, require, sha256_file, write_text
from echo_lib.sdm.denoiser import Denoiser, load_denoiser, sample, shipped_weights, write_png
from echo_lib.seeding import seed_for, torch_generator

__all__ = [
    "PAIR_COLUMNS", "Denoiser", "Shard", "cut_batches", "denoiser_of", "draw", "load_denoiser",
    "sample", "sample_dataset", "shipped_weights", "write_png",
]  # fmt: skip

LOG = "batches.log"  # view, images, seconds of every batch; no output, for seconds differ
PAIR_COLUMNS = ["name", "patient", "view", "phase", "split", "image", "label_map"]
# What an image was made of, and what came out: images.csv, a line per image of pairs.csv.
RECORD_COLUMNS = [
    "name", "split", "label_map", "label_map_sha256", "generator", "seed", "weights",
    "weights_sha256", "image", "image_sha256",
]  # fmt: skip


class Shard(NamedTuple):
    """One of ``count`` equal shares of the work; ``number`` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text):
        """``"3/16"`` as ``Shard(3, 16)``.

        Raises:
            ValueError: not of that form, or not between 1 and the count.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard {text!r}: expected NUMBER/COUNT, NUMBER from 1 to COUNT")
        return cls(int(number), int(count))

    def of_process(self):
        """The part of this share that falls to this one of torchrun's processes."""
        world = distributed.world_size()
        return Shard((self.number - 1) * world + distributed.rank() + 1, self.count * world)

    def of(self, items):
        """Every ``count``-th of ``items``."""
        return items[self.number - 1 :: self.count]

    def __str__(self):
        return f"{self.number}/{self.count}"


WHOLE = Shard(1, 1)


def sample_dataset(run, *, views=VIEWS, shard=WHOLE, on_batch=None):
    """Make the image of every augmented map, or return at once where they are all there.

    Args:
        run: ``provenance.Run``.
        views: sample these alone; several processes may take a view each.
        shard: sample this share of their batches; independent jobs may take one each.
        on_batch: called with (done, total) after each batch.

    Returns:
        The manifest of stage "synthetic"; None while images of other processes are missing.
    """
    stage = _open_stage(run)
    finished = stage.finished()
    if finished:
        return finished
    pairs, shard = _pairs(read_index(run.folder, "maps")), shard.of_process()
    size = run.profile.sdm.sampling.batch_size
    batches = shard.of([b for view in views for b in cut_batches(pairs, view, size)])
    todo = [batch for batch in batches if not _is_there(run, batch)]
    total = sum(len(batch) for batch in batches)
    first = done = total - sum(len(batch) for batch in todo)
    share = f" (shard {shard})" if shard.count > 1 else ""
    progress = Progress("Sampling " + " ".join(views) + share, total, done=done, unit="image")
    denoisers, begun = {}, time.monotonic()
    for batch in todo:
        view = batch.view.iloc[0]
        if view not in denoisers:
            denoisers[view] = denoiser_of(run, view)
        started = time.monotonic()
        _sample_batch(run, denoisers[view], batch)
        _log_batch(stage.folder / LOG, view, len(batch), time.monotonic() - started)
        done += len(batch)
        progress.show(done, f"{(done - first) / (time.monotonic() - begun):.3g} images/s")
        if on_batch:
            on_batch(done, total)
    return _finish(stage, pairs)


def cut_batches(pairs, view, size):
    """The batches of a view, cut from its whole list in the order of names.

    Args:
        pairs: data frame with name and view.
        view: "2CH" or "4CH".
        size: images a batch; the last may be smaller.
    """
    chosen = pairs[pairs.view == view].sort_values("name")
    return [chosen.iloc[first : first + size] for first in range(0, len(chosen), size)]


def draw(run, denoiser, batch, config):
    """Images (B, H, W) uint8 of a batch's label maps, each from the noise of its name."""
    maps = load_label_maps(run.folder, batch)
    generators = [torch_generator("sample", run.seed, name) for name in batch.name]
    return sample(denoiser, maps, config, generators=generators).numpy()


def denoiser_of(run, view):
    """The run's own SDM of a view, on this process's device."""
    path = run.folder / f"sdm/{view}/weights.safetensors"
    compiled = run.profile.sdm.sampling.compile
    return load_denoiser(path, device=distributed.device(), compiled=compiled)


def _open_stage(run):
    # Compilation and cache change no image beyond rounding: a run may go on with others.
    sampling = dataclasses.replace(run.profile.sdm.sampling, compile=False, cache_gib=0.0)
    with _lock(run):
        return Stage.open(
            run, "synthetic",
            config={"sampling": sampling},
            inputs=("prepared", *(f"sdm/{view}" for view in VIEWS)),
        )  # fmt: skip


@contextlib.contextmanager
def _lock(run):
    """One process at a time opens or finishes the stage; a killed one holds nothing up."""
    path = run.folder / ".locks/synthetic"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _finish(stage, pairs):
    run = stage.run
    if not _is_there(run, pairs):
        return None
    with _lock(run):
        finished = stage.finished()  # by another process, meanwhile
        if finished:
            return finished
        tables = {"pairs.csv": pairs, "images.csv": _records(run, pairs)}
        for name, table in tables.items():
            write_text(stage.folder / name, table.to_csv(index=False))
        outputs = [run.folder / image for image in pairs.image]
        outputs += [stage.folder / name for name in tables]
        facts = {"images": len(pairs), "computed_in": _computed_in(run)}
        facts |= _pace(stage.folder / LOG)
        return stage.finish(outputs, facts=facts, device=distributed.device())


def _log_batch(path, view, images, seconds):
    """A line for a finished batch. Processes share the file: one short write appends it whole."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{view},{images},{seconds:.3f}\n".encode())


def _pace(path):
    """Seconds that the processes spent in batches, summed, and images in one of these seconds."""
    if not path.is_file():
        return {}
    batches = pd.read_csv(path, names=["view", "images", "seconds"])
    images, seconds = batches["images"].sum(), batches["seconds"].sum()
    return {
        "seconds_sampling": round(float(seconds), 1),
        "images_per_second_of_a_process": round(float(images / seconds), 3),
    }


def _computed_in(run):
    precision = run.profile.sdm.sampling.precision
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(distributed.device()) else "float32"


def _pairs(maps):
    """The index of the synthetic set: a map's own name, and where its image will lie."""
    folder = "synthetic/images/" + maps.split + "/" + maps.view + "_" + maps.phase
    return maps.assign(image=folder + "/" + maps.name + ".png")[PAIR_COLUMNS]


def _records(run, pairs):
    """What each image was made of: its map, generator and weights, with the files' hashes."""

    def hashes(paths):
        return [sha256_file(run.folder / path) for path in paths]

    weights = {view: f"sdm/{view}/weights.safetensors" for view in VIEWS}
    known = {view: require(run, f"sdm/{view}")["outputs"]["weights.safetensors"] for view in VIEWS}
    return pairs.assign(
        label_map_sha256=hashes(pairs.label_map),
        generator=[f"sample/{run.seed}/{name}" for name in pairs.name],
        seed=[seed_for("sample", run.seed, name) for name in pairs.name],
        weights=pairs.view.map(weights),
        weights_sha256=pairs.view.map(known),
        image_sha256=hashes(pairs.image),
    )[RECORD_COLUMNS]


def _is_there(run, pairs):
    return all((run.folder / image).is_file() for image in pairs.image)


def _sample_batch(run, denoiser, batch):
    """Sample a batch and write what is missing of it; finished files are never touched."""
    images = draw(run, denoiser, batch, run.profile.sdm.sampling)
    for path, image in zip(batch.image, images, strict=True):
        if not (run.folder / path).is_file():
            write_png(run.folder / path, image)


def main(arguments=None):
    """Command line of this module."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", nargs="?", choices=("sample", "verify"), default="sample")
    parser.add_argument("run", nargs="?", type=Path, help="run folder to verify")
    add_run_arguments(parser)
    parser.add_argument("--view", choices=VIEWS, help="this view alone")
    parser.add_argument("--shard", type=Shard.parse, default=WHOLE, metavar="NUMBER/COUNT")
    parser.add_argument("--count", type=int, default=16, help="images that verify draws again")
    parser.add_argument("--draw", type=int, default=0, help="another number verifies others")
    args = parser.parse_args(arguments)
    if args.action == "verify":
        from echo_lib.sdm import verification  # imports this module

        run = verification.run_in(args.run) if args.run else run_from(args)
        raise SystemExit(verification.report(run, count=args.count, number=args.draw))
    with distributed.process_group():
        views = (args.view,) if args.view else VIEWS
        sample_dataset(run_from(args), views=views, shard=args.shard)


if __name__ == "__main__":
    main()
