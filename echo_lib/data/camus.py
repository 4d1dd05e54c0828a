"""CAMUS, in both of its releases (Leclerc et al., IEEE TMI 38(9), 2019).

The first release (2019) holds ``training/`` and ``testing/`` with MetaImage files; the current one
holds ``database_nifti/`` with NIfTI files and ``database_split/`` with three lists. Patient numbers
of the two releases do not match. In the first release the two folders also number their patients
apart, so a patient of ``testing/`` is named ``testing_patient0001`` here and never collides with
``patient0001`` of ``training/``.

Arrays are rows = depth (probe at the top) x columns = lateral, whichever release they come from.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echo_lib import labels
from echo_lib.data.camus_files import (
    RESTORE,
    CamusError,
    CamusFileMissing,
    content_digest,
    files_of,
    read_image,
    read_info,
    write_image,
)

__all__ = [
    "CamusError", "CamusFileMissing", "Frame", "Release", "content_digest", "files_of",
    "find_duplicates",
    "frames", "group_duplicates", "open_release", "read_frame", "read_image", "read_info",
    "write_image",
]  # fmt: skip

FIRST, CURRENT = "first", "current"
SPLIT_LISTS = {
    "training": "subgroup_training.txt",
    "validation": "subgroup_validation.txt",
    "test": "subgroup_testing.txt",
}
VALIDATION_PATIENTS = 50  # of training/ in the first release: 1..50 (the paper's split)
_FIRST_SPLITS = {
    "training": "training/patient0051 .. patient0450",
    "validation": "training/patient0001 .. patient0050",
    "test": "testing/patient*",
}
TESTING_PREFIX = "testing_"
WHERE_TO_GET = (
    "CAMUS is free for research after registration with CREATIS, INSA Lyon "
    "(https://humanheart-project.creatis.insa-lyon.fr)"
)
_SUFFIX = {FIRST: ".mhd", CURRENT: ".nii.gz"}


@dataclass(frozen=True)
class Frame:
    """One frame with its expert mask.

    Attributes:
        patient: the patient's name, unique within the release.
        view: one of ``labels.VIEWS``.
        phase: one of ``labels.PHASES``.
        image_path: the grey image.
        label_path: the mask, CAMUS ids.
    """

    patient: str
    view: str
    phase: str
    image_path: Path
    label_path: Path

    @property
    def name(self):
        """E.g. ``patient0001_4CH_ED``."""
        return f"{self.patient}_{self.view}_{self.phase}"

    @property
    def info_path(self):
        """The view's ``Info_*.cfg``; the file is optional."""
        return self.image_path.with_name(f"Info_{self.view}.cfg")


@dataclass(frozen=True)
class Release:
    """A CAMUS release on disk.

    Attributes:
        root: the folder that holds ``training/`` or ``database_nifti/``.
        kind: ``first`` or ``current``.
        splits: split to patient names, in list order; splits that are not there are absent.
    """

    root: Path
    kind: str
    splits: dict

    def patient_folder(self, patient):
        """Where a patient's files lie."""
        if self.kind == CURRENT:
            return self.root / "database_nifti" / patient
        if patient.startswith(TESTING_PREFIX):
            return self.root / "testing" / patient.removeprefix(TESTING_PREFIX)
        return self.root / "training" / patient


def open_release(root):
    """Recognise the CAMUS release under ``root`` and read its splits.

    Args:
        root: the release's folder, or a folder that directly holds it.

    Raises:
        CamusFileMissing: no such folder, or neither release is there.
        CamusError: several releases are there, or a patient is in two splits.
    """
    root = Path(root)
    if not root.is_dir():
        raise CamusFileMissing(f"{root}: no such folder; set data_root to CAMUS. {WHERE_TO_GET}")
    candidates = [root] if _kind(root) else sorted(p for p in root.iterdir() if _kind(p))
    if not candidates:
        raise CamusFileMissing(
            f"{root}: neither CAMUS release found here or one folder below; expected training/ and "
            "testing/ (first release) or database_nifti/ and database_split/ (current release). "
            f"Set data_root to the folder that holds these. {WHERE_TO_GET}"
        )
    if len(candidates) > 1:
        names = ", ".join(p.name for p in candidates)
        raise CamusError(
            f"{root}: several CAMUS releases found ({names}); their patient numbers do not match, "
            "so set data_root to one of them"
        )
    return _open(candidates[0])


def frames(release, split, *, views=labels.VIEWS, phases=labels.PHASES, limit=0):
    """The frames of a split, patient by patient in list order.

    Args:
        release: from ``open_release``.
        split: one of ``labels.SPLITS``.
        views: the views wanted.
        phases: the phases wanted.
        limit: the number of patients; 0 takes all.

    Returns:
        A tuple of ``Frame``; every image and mask exists.

    Raises:
        CamusFileMissing: the split, a patient, a view, a phase or a mask is not there.
        CamusError: the split has fewer patients than ``limit``.
    """
    if split not in release.splits:
        known = ", ".join(release.splits) or "none"
        raise CamusFileMissing(
            f"{release.root}: split {split!r} is not there (found: {known}); expected "
            f"{_split_source(release, split)}"
        )
    listed = release.splits[split]
    if limit > len(listed):
        raise CamusError(
            f"{release.root}: split {split!r} has {len(listed)} patients, but {limit} were asked "
            "for; ask for fewer, or for 0, which takes all"
        )
    patients = listed[: limit or None]
    _require_folders(release, split, patients)
    return tuple(
        _frame(release, patient, view, phase)
        for patient in patients
        for view in views
        for phase in phases
    )


def read_frame(frame):
    """Read and check a frame.

    Returns:
        ``image`` uint8 (H, W); ``label_map`` uint8 (H, W), CAMUS ids 0..3; ``spacing_mm`` float64
        (2,), rows then columns, as the image's header gives it.

    Raises:
        CamusError: unreadable or truncated files, sizes that differ, label values outside 0..3,
            a mask without LV cavity, myocardium or left atrium.
    """
    image, spacing_mm = read_image(frame.image_path)
    label_map, _ = read_image(frame.label_path)
    if image.shape != label_map.shape:
        raise CamusError(
            f"{frame.label_path}: mask of {label_map.shape[0]} x {label_map.shape[1]} px, but "
            f"{frame.image_path.name} has {image.shape[0]} x {image.shape[1]} px (rows x columns); "
            "restore both files from the same release"
        )
    _require_structures(label_map, frame.label_path)
    return image, label_map, spacing_mm


def find_duplicates(frames):
    """Frames whose images are the same, pixel by pixel, under different names.

    Returns:
        Groups of two or more names, each sorted, in the order of their first name.
    """
    return group_duplicates((f.name, content_digest(read_image(f.image_path)[0])) for f in frames)


def group_duplicates(named_digests):
    """As ``find_duplicates``, from pairs of a name and a ``content_digest``."""
    groups = {}
    for name, digest in named_digests:
        groups.setdefault(digest, []).append(name)
    return sorted(tuple(sorted(names)) for names in groups.values() if len(names) > 1)


def _kind(folder):
    current = (folder / "database_nifti").is_dir() and (folder / "database_split").is_dir()
    first = any(p.is_dir() for n in ("training", "testing") for p in folder.glob(f"{n}/patient*"))
    if current and first:
        raise CamusError(
            f"{folder}: both CAMUS releases lie in this folder; their patient numbers do not "
            "match, so move each to a folder of its own and set data_root to one of them"
        )
    return CURRENT if current else FIRST if first else None


def _open(root):
    kind = _kind(root)
    splits = _listed_splits(root) if kind == CURRENT else _folder_splits(root)
    _require_disjoint(splits, root)
    return Release(root, kind, splits)


def _listed_splits(root):
    splits = {}
    for split, name in SPLIT_LISTS.items():
        path = root / "database_split" / name
        if path.is_file():
            splits[split] = tuple(path.read_text(encoding="utf-8").split())
    return splits


def _folder_splits(root):
    training = _patients(root / "training")
    splits = {
        "training": tuple(p for p in training if _number(p) > VALIDATION_PATIENTS),
        "validation": tuple(p for p in training if _number(p) <= VALIDATION_PATIENTS),
        "test": tuple(TESTING_PREFIX + p for p in _patients(root / "testing")),
    }
    return {split: patients for split, patients in splits.items() if patients}


def _patients(folder):
    found = [p.name for p in folder.glob("patient*") if re.fullmatch(r"patient\d+", p.name)]
    return sorted(found, key=_number)


def _number(patient):
    return int(patient.removeprefix("patient"))


def _require_disjoint(splits, root):
    seen = {}
    for split, patients in splits.items():
        for patient in patients:
            if patient in seen:
                raise CamusError(
                    f"{root / 'database_split'}: {patient} is listed in {seen[patient]} and in "
                    f"{split}; a patient belongs to one split and one line: correct the lists"
                )
            seen[patient] = split


def _split_source(release, split):
    if split not in labels.SPLITS:
        return f"one of {labels.SPLITS}"
    if release.kind == CURRENT:
        return f"database_split/{SPLIT_LISTS[split]}"
    return _FIRST_SPLITS[split]


def _require_folders(release, split, patients):
    missing = [p for p in patients if not release.patient_folder(p).is_dir()]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise CamusFileMissing(
            f"{release.root}: split {split!r} names {len(missing)} patients that are not on disk "
            f"({shown}); unpack them into {release.patient_folder(missing[0]).parent}"
        )


def _frame(release, patient, view, phase):
    folder = release.patient_folder(patient)
    # Files keep the folder's name: testing_ is our prefix, not theirs.
    stem, suffix = f"{folder.name}_{view}_{phase}", _SUFFIX[release.kind]
    frame = Frame(patient, view, phase, folder / f"{stem}{suffix}", folder / f"{stem}_gt{suffix}")
    if not frame.image_path.is_file():
        has_view = any(folder.glob(f"{folder.name}_{view}_*"))
        lacking = f"phase {phase} of view {view}" if has_view else f"view {view}"
        raise CamusFileMissing(
            f"{frame.image_path}: no such file, so {patient} lacks {lacking}; {RESTORE}"
        )
    if not frame.label_path.is_file():
        raise CamusFileMissing(
            f"{frame.label_path}: no such file, so {frame.name} lacks its mask; {RESTORE}"
        )
    return frame


def _require_structures(label_map, path):
    try:
        labels.require_labels(label_map, len(labels.CAMUS_NAMES), path)
    except ValueError as error:
        raise CamusError(str(error)) from error
    present = np.unique(label_map)
    empty = [name for i, name in enumerate(labels.CAMUS_NAMES) if i and i not in present]
    if empty:
        raise CamusError(
            f"{path}: mask without {' and '.join(empty)}; every frame of CAMUS shows all three "
            "structures: restore the file, or take the patient off the split's list"
        )
