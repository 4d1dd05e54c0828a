"""The doctor's examinations: one per kind of folder, each fills a ``doctor.Diagnosis``."""

import pandas as pd

from echo_lib.config import load_profile
from echo_lib.data import camus, echonet, meshes, released_archive
from echo_lib.data.camus_files import CamusError
from echo_lib.data.frame_tables import (
    ON_A_GPU,
    make_figures,
    pixels,
    ranges,
    report_duplicates,
    report_frames,
)
from echo_lib.data.run_examination import examine_run, is_run
from echo_lib.labels import CAMUS_NAMES, PHASES, SDM_NAMES, SPLITS, VIEWS


def is_camus(path):
    """True for a folder that holds a CAMUS release, or one folder below it."""
    marks = ("database_nifti", "database_split", "training/patient*", "testing/patient*")
    return any(any(path.glob(f"{deep}{mark}")) for mark in marks for deep in ("", "*/"))


def examine_camus(found):
    """Counts, sizes, label values, grey values, missing files and duplicates of a release."""
    try:
        release = camus.open_release(found.path)
    except CamusError as error:
        found.problems.append(str(error))
        return
    found.kind = f"CAMUS, {release.kind} release"
    lines = [line for split in release.splits for line in _read(release, split, found.problems)]
    if not lines:
        found.problems.append(f"{release.root}: no readable frame; restore the release")
        return
    report_frames(found, pd.DataFrame(lines), "Frames")
    for split in (split for split in SPLITS if split not in release.splits):
        if split == "test":
            found.remarks.append("no test split: profiles that report on it cannot run")
        else:
            found.problems.append(f"{release.root}: no {split} split, which every profile needs")
    found.remarks.append(ON_A_GPU)
    found.next_command = make_figures(PROFILE="reduced-cpu", DATA_ROOT=found.path.absolute())


def _read(release, split, problems):
    """A record per frame of a split; what cannot be read goes to ``problems``."""
    for patient in release.splits[split]:
        one = camus.Release(release.root, release.kind, {split: (patient,)})
        for view in ("2CH", "4CH"):
            for phase in ("ED", "ES"):
                try:
                    (frame,) = camus.frames(one, split, views=(view,), phases=(phase,))
                    image, label_map, spacing = camus.read_frame(frame)
                except CamusError as error:
                    problems.append(str(error))
                    continue
                yield {
                    "name": frame.name, "patient": patient, "view": view, "phase": phase,
                    "split": split, **pixels(image, label_map, CAMUS_NAMES),
                    "row spacing (mm)": spacing[0], "column spacing (mm)": spacing[1],
                }  # fmt: skip


def is_echonet(path):
    """True for the folder of EchoNet-Dynamic."""
    return (path / "FileList.csv").is_file() or (path / "VolumeTracings.csv").is_file()


def examine_echonet(found):
    """Videos by split, traced and missing; first frames, tracings, the frames to be tested on."""
    try:
        splits = {split: echonet.read_file_list(found.path, split) for split in echonet.SPLITS}
        traces = echonet.read_tracings(found.path, set().union(*splits.values()))
    except echonet.EchoNetError as error:
        found.problems.append(str(error))
        return
    counts, lines = {}, []
    for split, names in splits.items():
        there = [n for n in sorted(names) if (found.path / "Videos" / f"{n}.avi").is_file()]
        traced = [name for name in names if len(traces.get(name, {})) >= 2]
        counts[split] = (len(names), len(traced), len(names) - len(there))
        found.problems += [
            f"Videos/{n}.avi: missing; download it again" for n in sorted(names.keys() - set(there))
        ]
        lines += _read_videos(found, split, {name: traces.get(name, {}) for name in there})
    columns = ["videos", "with two traced frames", "missing"]
    found.tables["Videos"] = pd.DataFrame(counts, index=columns).T
    if lines:
        table = pd.DataFrame(lines)
        found.tables["Sizes, grey values of first frames, area of the LV at ED"] = ranges(table)
        report_duplicates(found, table)
    _report_untested(found, *counts["TEST"][:2])
    found.remarks += ["no pixel spacing is released, so nothing is measured in mm", ON_A_GPU]
    found.next_command = make_figures(
        PROFILE="reduced-cpu", DATA_ROOT="/path/to/CAMUS", ECHONET_ROOT=found.path.absolute()
    )


def _read_videos(found, split, traces):
    """A record per video; those of split TEST are decoded up to the frame that is tested on."""
    for name, traced in traces.items():
        path = found.path / "Videos" / f"{name}.avi"
        try:
            image, area = echonet.read_frame(path, 0), float("nan")
            if len(traced) >= 2:
                frame, polygon = echonet.end_diastole(traced)
                area = 100 * echonet.polygon_area(polygon) / image.size
                if split == "TEST":
                    echonet.read_frame(path, frame)
        except echonet.EchoNetError as error:
            found.problems.append(str(error))
            continue
        yield {"name": name, "split": split, **pixels(image), "LV cavity at ED (%)": area}


def _report_untested(found, videos, traced):
    if not traced:
        found.problems.append(
            f"{found.path}: no traced video of split TEST, on which networks are tested; restore "
            "FileList.csv and VolumeTracings.csv from the release"
        )
    elif traced < videos:
        found.remarks.append(f"{videos - traced} videos of split TEST are not traced: left out")


def is_archive(path):
    """True for the released archive of synthetic images, unpacked."""
    names = (*released_archive.DATASETS, released_archive.COMBINED)
    return any(any(path.glob(f"{deep}{name}/images")) for name in names for deep in ("", "*/"))


def examine_archive(found):
    """Pairs by dataset and split, sizes, grey and label values, what is missing or damaged."""
    try:
        root = released_archive.find_root(found.path)
        pairs = released_archive.list_pairs(root)
    except released_archive.ArchiveError as error:
        found.problems.append(str(error))
        return
    lines = [line for pair in pairs.to_dict("records") for line in _read_pair(pair, found.problems)]
    if lines:
        report_frames(found, pd.DataFrame(lines), "Pairs")
    there = set(zip(pairs["split"], pairs["view"], pairs["phase"], strict=True))
    wanted = [(s, v, p) for s in released_archive.SPLITS for v in VIEWS for p in PHASES]
    found.problems += [
        f"{root}: no {split} pairs of {view} {phase}; unpack the archive again"
        for split, view, phase in wanted
        if (split, view, phase) not in there
    ]
    _report_kinds(found, pairs)
    found.remarks += [released_archive.NUMBERING, ON_A_GPU]
    found.next_command = make_figures(
        PROFILE="reduced-cpu", DATA_ROOT="/path/to/CAMUS", ARCHIVE=found.path.absolute()
    )


def _read_pair(pair, problems):
    """The record of a pair, unless it cannot be read."""
    arrays = []
    for path in (pair["image"], pair["label_map"]):
        try:
            arrays.append(released_archive.read_png(path))
        except (released_archive.ArchiveError, OSError, SyntaxError) as error:
            problems.append(f"{path}: cannot be read ({error}); unpack the archive again")
            return
    image, label_map = arrays
    if image.shape != label_map.shape:
        problems.append(
            f"{pair['image']}: {image.shape} px, its annotation {label_map.shape}; expected one "
            "shape: unpack the archive again"
        )
        return
    identity = {key: pair[key] for key in ("name", "patient", "view", "phase", "split")}
    yield identity | pixels(image, label_map, [f"label {i}" for i in range(len(SDM_NAMES))])


def _report_kinds(found, pairs):
    if found.problems:
        return
    try:
        kinds = released_archive.kinds_of_datasets(pairs)
    except released_archive.ArchiveError as error:
        found.problems.append(str(error))
        return
    found.tables["Label maps"] = pd.Series(kinds, name="kind").to_frame()


def is_meshes(path):
    """True for a folder with heart meshes in it or one folder below."""
    return any(any(path.glob(f"{deep}*{end}")) for end in meshes.SUFFIXES for deep in ("", "*/"))


def examine_meshes(found):
    """Every mesh read with the tissue numbers of the shipped profiles."""
    labels, lines = load_profile("paper").cyclegan.meshes.labels, []
    try:
        for path in meshes.mesh_files(found.path):
            try:
                mesh = meshes.read_mesh(path, labels)
            except meshes.MeshError as error:
                found.problems.append(str(error))
                continue
            lines.append([mesh.name, mesh.grid.n_points, mesh.grid.n_cells, mesh.unit])
    except (meshes.MeshError, ImportError) as error:
        found.problems.append(str(error))
    table = pd.DataFrame(lines, columns=["heart", "points", "cells", "unit of the file"])
    found.tables["Meshes"] = table.groupby("unit of the file").agg(
        hearts=("heart", "size"), fewest_cells=("cells", "min"), most_cells=("cells", "max")
    )
    found.next_command = make_figures(SET=f"cyclegan.meshes.folder={found.path.absolute()}")


# Kind to (recognises it, examines it).
KINDS = {
    "a run of echo_lib": (is_run, examine_run),
    "CAMUS": (is_camus, examine_camus),
    "the released archive of synthetic images": (is_archive, examine_archive),
    "EchoNet-Dynamic": (is_echonet, examine_echonet),
    "heart meshes": (is_meshes, examine_meshes),
}
