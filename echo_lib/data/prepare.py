"""Stage "prepared": raw frames become pairs of one size, with sector and augmented label maps.

Writes ``frames.csv`` (real frames) and ``maps.csv`` (augmented maps) below ``<run>/prepared``.
Where the profile's data are phantoms, stage "cohort" draws them first, in CAMUS's own layout, so
that both sources take the same way from there.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import warnings
from pathlib import Path

import numpy as np
import pandas
import scipy.ndimage
import SimpleITK
import torch
from PIL import Image

from echo_lib import cli, labels, provenance, seeding
from echo_lib.config import AugmentationConfig
from echo_lib.data import augment, camus
from echo_lib.progress import Progress

FRAME_COLUMNS = (
    "name", "patient", "view", "phase", "split", "image", "label_map",
    "rows_px", "columns_px", "row_spacing_mm", "column_spacing_mm",
)  # fmt: skip
MAP_COLUMNS = (
    "name", "source", "patient", "view", "phase", "split", "k", "label_map", "parameters",
)  # fmt: skip
_FRAMES_PER_WORKER = 64  # below this a second process costs more than it saves


def prepare(run):
    """Prepare a run's data; returns at once where that is done.

    Args:
        run: ``provenance.Run``; ``run.data_root`` names CAMUS unless the data are phantoms.

    Returns:
        The manifest of stage "prepared". Its facts hold the counts and the duplicate images.

    Raises:
        CamusError: data that cannot be used; the message names the file and the remedy.
    """
    phantom = run.profile.data.source == "phantom"
    release = camus.open_release(_write_cohort(run) if phantom else _data_root(run))
    frames = _split_frames(release, run.profile.data)
    stage = provenance.Stage.open(
        run,
        "prepared",
        # The number of workers changes no byte, so it is no part of the identity.
        config={
            "data": dataclasses.replace(run.profile.data, workers=0),
            "augmentation": run.profile.augmentation,
        },
        inputs=("cohort",) if phantom else (),
        extra={} if phantom else {"raw": _raw_digest(release, frames)},
    )
    return stage.finished() or _prepare_frames(run, stage, frames)


def sector_mask(image):
    """The ultrasound sector: pixels above 0 (paper, section 2.1), as one region without holes.

    Only the largest connected region counts, so bright specks that compression leaves in the
    corners do not; holes are filled, so black blood inside the sector does.

    Args:
        image: (H, W) uint8.

    Returns:
        (H, W) bool.
    """
    # DEVIATION: the paper thresholds and says no more.
    regions, count = scipy.ndimage.label(image > 0)
    if not count:
        raise ValueError("image without a pixel above 0, so it shows no sector; restore the image")
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return scipy.ndimage.binary_fill_holes(regions == sizes.argmax())


def resize_image(image, size_px):
    """Resize a uint8 image to (size_px, size_px); bilinear, averaging where it shrinks.

    The aspect ratio is not kept, as in the paper.
    """
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BILINEAR))


def resize_label_map(label_map, size_px):
    """Resize a uint8 label map to (size_px, size_px); nearest neighbour, so no new ids appear."""
    nearest = Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(label_map).resize((size_px, size_px), nearest))


@dataclasses.dataclass(frozen=True)
class _Task:
    """All that one frame's preparation needs; small enough to send to another process."""

    frame: camus.Frame
    split: str
    run_folder: Path
    stage: str
    seed: int
    size_px: int
    augmentation: AugmentationConfig


def _write_cohort(run):
    # Imported here: a run on real data needs no phantoms.
    from echo_lib.data import phantom

    data = run.profile.data
    patients = {
        "training": data.training_patients,
        "validation": data.validation_patients,
        "test": data.test_patients,
    }
    needed = {"training", "validation", data.evaluation_split}
    if any(patients[split] < 1 for split in needed):
        raise ValueError(
            f"profile {run.profile.name!r}: phantom patients {patients}; phantoms have no 'all', "
            f"so give each of {sorted(needed)} at least 1"
        )
    stage = provenance.Stage.open(run, "cohort", config={}, extra={"patients": patients})
    if stage.finished() is None:
        phantom.write_cohort(stage.folder, **patients, seed=run.seed, workers=data.workers)
        own = (provenance.MANIFEST, provenance.IDENTITY)
        files = [p for p in stage.folder.rglob("*") if p.is_file() and p.name not in own]
        files = [p for p in files if ".partial." not in p.name]  # left by a killed process
        stage.finish(files, facts={"patients": patients})
    return stage.folder


def _data_root(run):
    if run.data_root is None:
        raise camus.CamusFileMissing(
            f"profile {run.profile.name!r} reads CAMUS, but data_root is not set; give the "
            f"folder of the data set as parameter data_root (--data-root). {camus.WHERE_TO_GET}"
        )
    return run.data_root


def _split_frames(release, data):
    limits = {"training": data.training_patients, "validation": data.validation_patients}
    if data.evaluation_split == "test":  # else the test split stays closed
        limits["test"] = data.test_patients
    return {split: camus.frames(release, split, limit=n) for split, n in limits.items()}


def _raw_digest(release, frames):
    named = [p for split in frames.values() for f in split for p in (f.image_path, f.label_path)]
    paths = [path for name in named for path in camus.files_of(name)]
    return provenance.digest(
        {p.relative_to(release.root).as_posix(): provenance.sha256_file(p) for p in paths}
    )


def _prepare_frames(run, stage, frames):
    tasks = [
        _Task(
            frame=frame,
            split=split,
            run_folder=run.folder,
            stage=stage.name,
            seed=run.seed,
            size_px=run.profile.data.image_size_px,
            augmentation=run.profile.augmentation,
        )
        for split, members in frames.items()
        for frame in members
    ]
    rows, map_rows, digests = [], [], []
    progress = Progress("prepared", len(tasks), unit="frame")
    for number, (row, maps, digest) in enumerate(_each(tasks, run.profile.data.workers), start=1):
        rows.append(row)
        map_rows.extend(maps)
        digests.append((f"{row['name']} ({row['split']})", digest))
        progress.show(number)
    duplicates = camus.group_duplicates(digests)
    _warn_of(duplicates)
    return _finish(run, stage, rows, map_rows, duplicates)


def _each(tasks, workers):
    workers = min(workers, len(tasks) // _FRAMES_PER_WORKER)
    if workers < 2:
        yield from map(_prepare_frame, tasks)
        return
    # Spawned, not forked: a fork copies the locks of torch's and SimpleITK's running threads.
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_use_one_thread
    ) as pool:
        yield from pool.map(_prepare_frame, tasks, chunksize=8)


def _use_one_thread():
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _prepare_frame(task):
    frame, size = task.frame, task.size_px
    image, camus_map, spacing_mm = camus.read_frame(frame)
    sector = resize_label_map(sector_mask(image).astype(np.uint8), size).astype(bool)
    small_map = resize_label_map(camus_map, size)
    group = f"{task.split}/{frame.view}_{frame.phase}"
    row = {
        **_identity(task),
        "name": frame.name,
        "image": f"{task.stage}/real/{group}/images/{frame.name}.png",
        "label_map": f"{task.stage}/real/{group}/label_maps/{frame.name}.png",
        "rows_px": image.shape[0],
        "columns_px": image.shape[1],
        "row_spacing_mm": spacing_mm[0],
        "column_spacing_mm": spacing_mm[1],
    }
    _write_once(task.run_folder / row["image"], lambda: resize_image(image, size))
    _write_once(task.run_folder / row["label_map"], lambda: labels.add_sector(small_map, sector))
    return row, _augment(task, small_map, sector), camus.content_digest(image)


def _augment(task, camus_map, sector):
    if task.split == "test":
        return []
    rows, frame = [], task.frame
    for k in range(task.augmentation.maps_per_frame):
        name = f"{frame.name}_{k}"
        generator = seeding.numpy_generator("augmentation", task.seed, name)
        drawn = augment.draw(task.augmentation, generator, image_size_px=task.size_px)
        row = {
            **_identity(task),
            "name": name,
            "source": frame.name,
            "k": k,
            "label_map": f"{task.stage}/maps/{task.split}/{frame.view}_{frame.phase}/{name}.png",
            "parameters": json.dumps(drawn),
        }
        path = task.run_folder / row["label_map"]
        if not path.is_file():
            _write_png(path, augment.apply(camus_map, drawn, sector=sector))
        rows.append(row)
    return rows


def _identity(task):
    frame = task.frame
    return {"patient": frame.patient, "view": frame.view, "phase": frame.phase, "split": task.split}


def _write_once(path, make):
    # Files are renamed into place whole, so one that exists is finished.
    if not path.is_file():
        _write_png(path, make())


def _write_png(path, array):
    with provenance.atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)


def _warn_of(duplicates):
    if duplicates:
        groups = "; ".join(" = ".join(group) for group in duplicates)
        warnings.warn(f"identical images under several names: {groups}", stacklevel=3)


def _finish(run, stage, rows, map_rows, duplicates):
    tables = {
        "frames.csv": pandas.DataFrame(rows, columns=FRAME_COLUMNS),
        "maps.csv": pandas.DataFrame(map_rows, columns=MAP_COLUMNS),
    }
    for name, table in tables.items():
        provenance.write_text(stage.folder / name, table.to_csv(index=False, lineterminator="\n"))
    images = [run.folder / row[key] for row in rows for key in ("image", "label_map")]
    images += [run.folder / row["label_map"] for row in map_rows]
    facts = {
        "frames": _counts(tables["frames.csv"]),
        "maps": _counts(tables["maps.csv"]),
        "duplicate_images": [list(group) for group in duplicates],
    }
    return stage.finish([*images, *(stage.folder / name for name in tables)], facts=facts)


def _counts(table):
    """Rows per split and dataset, e.g. ``{"training": {"2CH_ED": 400}}``."""
    counts = {}
    for (split, view, phase), rows in table.groupby(["split", "view", "phase"], sort=False):
        counts.setdefault(split, {})[f"{view}_{phase}"] = len(rows)
    return counts


def main(argv=None):
    """``python -m echo_lib.data.prepare``."""
    parser = argparse.ArgumentParser(description="Prepare frames and augmented label maps.")
    cli.add_run_arguments(parser)
    prepare(cli.run_from(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
