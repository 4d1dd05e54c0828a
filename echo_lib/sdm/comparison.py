"""The samplers side by side: the same label maps, the same noise, more and fewer steps.

    python -m echo_lib.sdm.comparison --profile demo

The stage draws; whether the images are good is for the notebook to judge, with a segmentation
network trained on real frames. An interrupted comparison goes on with the images it lacks.
"""

import argparse
import dataclasses
from typing import NamedTuple

import pandas as pd

from echo_lib.allocation import keep_freed_memory
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.data.datasets import read_index
from echo_lib.labels import VIEWS
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, require, write_text
from echo_lib.sdm.samplers import SAMPLERS
from echo_lib.sdm.sampling import cut_batches, denoiser_of, draw, write_png

COLUMNS = [
    "name", "patient", "view", "phase", "split", "sampler", "steps", "image", "label_map",
]  # fmt: skip


class Setting(NamedTuple):
    """A sampler and how often it evaluates the network for an image."""

    sampler: str
    steps: int

    def __str__(self):
        return f"{self.sampler}-{self.steps}"


def settings_of(config):
    """Every sampler at every number of steps, the cheapest first; the reference is the last.

    Args:
        config: a ``ComparisonConfig``.
    """
    reference = Setting("ddpm", config.reference_steps)
    settings = [Setting(sampler, steps) for steps in sorted(config.steps) for sampler in SAMPLERS]
    return [setting for setting in settings if setting != reference] + [reference]


def compare(run, *, on_batch=None):
    """Draw the comparison's images, or return at once where they are all there.

    Args:
        run: ``provenance.Run``; its SDMs must be trained.
        on_batch: called with (done, total), in network evaluations of an image, after each batch.

    Returns:
        The manifest of stage "comparison".
    """
    config = run.profile.sdm
    sampling = dataclasses.replace(config.sampling, compile=False, cache_gib=0.0)
    stage = Stage.open(
        run, "comparison",
        config={"sampling": sampling, "comparison": config.comparison},
        inputs=("prepared", *(f"sdm/{view}" for view in VIEWS)),
    )  # fmt: skip
    finished = stage.finished()
    if finished:
        return finished
    maps = _fixed_maps(read_index(run.folder, "maps"), config.comparison.maps)
    index = pd.concat([_index(maps, setting) for setting in settings_of(config.comparison)])
    _draw_missing(run, index, on_batch)
    write_text(stage.folder / "images.csv", index.to_csv(index=False))
    outputs = [stage.folder / "images.csv", *(run.folder / image for image in index.image)]
    return stage.finish(outputs, facts={"maps": len(maps)})


def read(run):
    """The finished comparison: a data frame with COLUMNS, a line per image.

    Raises:
        StageError: the stage is not finished, or a file of it was altered.
    """
    require(run, "comparison")
    return pd.read_csv(run.folder / "comparison/images.csv", dtype={"patient": str})


def _fixed_maps(maps, count):
    """``count`` maps of the validation split: as many per view and phase, patients spread."""
    unseen = maps[maps.split == "validation"].sort_values("name")
    groups = [group for _, group in unseen.groupby(["view", "phase"])]
    if not groups:
        raise ValueError("no label maps in the validation split to compare samplers on")
    each = max(1, count // len(groups))
    return pd.concat([_spread(group, each) for group in groups])


def _spread(group, count):
    count = min(count, len(group))
    return group.iloc[[position * len(group) // count for position in range(count)]]


def _index(maps, setting):
    image = f"comparison/images/{setting}/" + maps.name + ".png"
    return maps.assign(sampler=setting.sampler, steps=setting.steps, image=image)[COLUMNS]


def _draw_missing(run, index, on_batch):
    # Whole batches, as in a comparison that nothing interrupted: rounding depends on them.
    batches = [b for b in _batches(index, run.profile.sdm.sampling) if not _is_there(run, b)]
    total, done = sum(int(batch.steps.sum()) for batch in batches), 0
    progress = Progress("Comparing samplers", total, unit="evaluation")
    denoisers = {}
    for batch in batches:
        view, setting = batch.view.iloc[0], Setting(batch.sampler.iloc[0], int(batch.steps.iloc[0]))
        if view not in denoisers:
            denoisers[view] = denoiser_of(run, view)
        images = draw(run, denoisers[view], batch, _config_of(run, setting))
        for path, image in zip(batch.image, images, strict=True):
            if not (run.folder / path).is_file():
                write_png(run.folder / path, image)
        done += int(batch.steps.sum())
        progress.show(done)
        if on_batch:
            on_batch(done, total)


def _is_there(run, batch):
    return all((run.folder / image).is_file() for image in batch.image)


def _batches(index, sampling):
    groups = index.groupby(["sampler", "steps"], sort=False)
    cut = [cut_batches(part, view, sampling.batch_size) for _, part in groups for view in VIEWS]
    return [batch for batches in cut for batch in batches]


def _config_of(run, setting):
    return dataclasses.replace(
        run.profile.sdm.sampling, sampler=setting.sampler, steps=setting.steps
    )


def main(arguments=None):
    """Command line of this module."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    compare(run_from(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
