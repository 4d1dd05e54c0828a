"""Stage "pseudo": pseudo-images, what the CycleGAN starts from (paper, section 2.3).

    python -m echo_lib.data.pseudo --profile demo

Heart meshes, the user's or the built-in cohort, are cut along the apical planes (``slices.csv``):
the CycleGAN learns from these. The augmented label maps are rendered in the same way
(``maps.csv``): it translates those.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from echo_lib import cli, labels, provenance, seeding
from echo_lib.config import MeshesConfig
from echo_lib.data import heart_shapes, mesh_slices, meshes
from echo_lib.data.pseudo_image import render
from echo_lib.progress import Progress

SLICE_COLUMNS = ("name", "patient", "view", "split", "image", "label_map", "parameters")
MAP_COLUMNS = ("name", "patient", "view", "phase", "split", "image", "label_map")
SPLIT_SHARES = {"training": 0.70, "validation": 0.15}  # paper, section 2.3; the rest is for test
_HEARTS_FOR_A_POOL, _MAPS_PER_HEART = 64, 32  # below this, processes cost more than they save


@dataclasses.dataclass(frozen=True)
class _Heart:
    """All that the slices of one heart need; small enough to send to another process."""

    name: str
    split: str
    mesh: Path  # its file
    built_in: bool  # of our own cohort: the file is written first
    config: MeshesConfig
    run_folder: Path
    seed: int
    size_px: int


@dataclasses.dataclass(frozen=True)
class _Map:
    """One augmented map to render."""

    name: str
    label_map: Path
    image: Path
    seed: int


def make_pseudo(run):
    """Make a run's pseudo-images; returns at once where that is done.

    Args:
        run: ``provenance.Run``; its stage "prepared" is finished.

    Returns:
        The manifest of stage "pseudo". Its facts count hearts, slices and maps.

    Raises:
        meshes.MeshError: hearts that cannot be used, all of them named; none is left out silently.
    """
    from echo_lib.data.datasets import read_index  # here: it needs torch, the workers do not

    config, size_px = run.profile.cyclegan.meshes, run.profile.data.image_size_px
    files = _outside_meshes(config)
    stage = provenance.Stage.open(
        run,
        "pseudo",
        config={"meshes": config},
        inputs=("prepared",),
        extra={
            "image_size_px": size_px,
            "meshes": {file.name: provenance.sha256_file(file) for file in files},
        },
    )
    finished = stage.finished()
    if finished:
        return finished
    hearts = _hearts(run, stage, files)
    index = read_index(run.folder, "maps")
    folder = f"{stage.name}/maps/" + index.split + "/" + index.view + "_" + index.phase
    index = index.assign(image=folder + "/" + index.name + ".png")[list(MAP_COLUMNS)]
    with _pool(run.profile.data.workers, len(hearts), len(index)) as each:
        slices = _slice_all(hearts, each)
        _render_all(run, index, each)
    return _finish(run, stage, hearts, slices, index)


def split_hearts(names, *, seed):
    """Split hearts 70/15/15 (paper, section 2.3), whole hearts each.

    Args:
        names: of the hearts.
        seed: integer; with the names it decides the split, in whatever order they come.

    Returns:
        dict of name to split, in the order of ``names``.
    """
    shuffled = sorted(names, key=lambda name: seeding.seed_for("split", seed, name))
    first = max(round(SPLIT_SHARES["training"] * len(shuffled)), 1)
    second = round(sum(SPLIT_SHARES.values()) * len(shuffled))
    split = {name: "test" for name in shuffled[second:]}
    split |= {name: "validation" for name in shuffled[first:second]}
    split |= {name: "training" for name in shuffled[:first]}
    return {name: split[name] for name in names}


def _outside_meshes(config):
    if not config.folder:
        return []
    files = meshes.mesh_files(provenance.PACKAGE.parent / config.folder)
    return files[: config.hearts] if config.hearts else files


def _hearts(run, stage, files):
    config = run.profile.cyclegan.meshes
    if not files:
        if config.hearts < 1:
            raise ValueError(
                f"cyclegan.meshes.hearts is {config.hearts}; the built-in cohort needs 1 or more"
            )
        names = [f"heart{number:04d}" for number in range(1, config.hearts + 1)]
        files = [stage.folder / "meshes" / f"{name}.vtk" for name in names]
    splits = split_hearts([file.stem for file in files], seed=run.seed)
    return [
        _Heart(
            name=file.stem,
            split=splits[file.stem],
            mesh=file,
            built_in=not config.folder,
            config=config,
            run_folder=run.folder,
            seed=run.seed,
            size_px=run.profile.data.image_size_px,
        )
        for file in files
    ]


@contextlib.contextmanager
def _pool(workers, hearts, maps):
    """``map``, or that of a pool of processes where the work is worth their start."""
    if workers < 2 or hearts + maps / _MAPS_PER_HEART < _HEARTS_FOR_A_POOL:
        yield map
        return
    # Spawned, not forked: a fork copies the locks of running threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield functools.partial(pool.map, chunksize=4)


def _slice_all(hearts, each):
    """The lines of ``slices.csv``; every heart is tried before bad ones are reported."""
    lines, units, faults = [], {}, []
    progress = Progress("pseudo", len(hearts), unit="heart")
    for number, (rows, unit, fault) in enumerate(each(_slice_heart, hearts), start=1):
        lines += rows
        faults += [fault] if fault else []
        units[unit] = units.get(unit, 0) + 1
        progress.show(number)
    if faults:
        listed = "\n  ".join(faults)
        raise meshes.MeshError(f"{len(faults)} of {len(hearts)} hearts cannot be used:\n  {listed}")
    others = {unit: count for unit, count in units.items() if unit not in (None, "mm")}
    for unit, count in others.items():
        print(f"pseudo: {count} of {len(hearts)} meshes in {unit}, by their size; scaled to mm")
    return lines


def _slice_heart(heart):
    """Slices of one heart: (lines of ``slices.csv``, the mesh's unit if read, fault or None)."""
    rows = [
        _slice_row(heart, view, k)
        for view in labels.VIEWS
        for k in range(heart.config.slices_per_view)
    ]
    missing = [row for row in rows if not _is_there(heart, row)]
    try:
        if heart.built_in and not heart.mesh.is_file():
            shape = heart_shapes.draw_shape(heart.name, seed=heart.seed)
            meshes.write_mesh(heart.mesh, *heart_shapes.build(shape, heart.config.labels))
        mesh = meshes.read_mesh(heart.mesh, heart.config.labels) if missing else None
        for row in missing:
            _write_slice(heart, mesh, row)
    except meshes.MeshError as error:
        return rows, None, str(error)
    return rows, mesh and mesh.unit, None


def _slice_row(heart, view, k):
    name = f"{heart.name}_{view}_{k}"
    group = f"pseudo/slices/{heart.split}/{view}"
    drawn = mesh_slices.draw_acquisition(seeding.numpy_generator("slice", heart.seed, name))
    return {
        "name": name,
        "patient": heart.name,
        "view": view,
        "split": heart.split,
        "image": f"{group}/images/{name}.png",
        "label_map": f"{group}/label_maps/{name}.png",
        "parameters": json.dumps(drawn),
    }


def _is_there(heart, row):
    # Files are renamed into place whole, so those that exist are finished.
    return all((heart.run_folder / row[key]).is_file() for key in ("image", "label_map"))


def _write_slice(heart, mesh, row):
    drawn = json.loads(row["parameters"])
    label_map = mesh_slices.slice_heart(mesh, row["view"], drawn, image_size_px=heart.size_px)
    image = render(label_map, rng=seeding.numpy_generator("pseudo", heart.seed, row["name"]))
    _write_png(heart.run_folder / row["label_map"], label_map)
    _write_png(heart.run_folder / row["image"], image)


def _render_all(run, index, each):
    tasks = [
        _Map(row.name, run.folder / row.label_map, run.folder / row.image, run.seed)
        for row in index.itertuples(index=False)
    ]
    progress = Progress("pseudo", len(tasks), unit="map")
    for number, _ in enumerate(each(_render_map, tasks), start=1):
        progress.show(number)


def _render_map(task):
    if not task.image.is_file():
        with Image.open(task.label_map) as file:
            label_map = np.array(file)
        rng = seeding.numpy_generator("pseudo", task.seed, task.name)
        _write_png(task.image, render(label_map, rng=rng))


def _write_png(path, array):
    with provenance.atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)


def _finish(run, stage, hearts, slices, maps):
    slices = pandas.DataFrame(slices, columns=SLICE_COLUMNS)
    tables = {"slices.csv": slices, "maps.csv": maps}
    for name, table in tables.items():
        provenance.write_text(stage.folder / name, table.to_csv(index=False, lineterminator="\n"))
    outputs = [stage.folder / name for name in tables]
    outputs += [run.folder / path for path in (*slices.image, *slices.label_map, *maps.image)]
    outputs += [heart.mesh for heart in hearts if heart.built_in]
    facts = {
        "meshes": "built-in" if hearts[0].built_in else "outside",
        "hearts": {s: sum(heart.split == s for heart in hearts) for s in labels.SPLITS},
        "slices": len(slices),
        "maps": len(maps),
    }
    return stage.finish(outputs, facts=facts)


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_run_arguments(parser)
    make_pseudo(cli.run_from(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
