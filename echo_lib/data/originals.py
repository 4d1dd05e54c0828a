"""What the raw data say of prepared frames: masks in their own size, spacing, ejection fraction.

Distances and volumes are measured in the frames as the scanner stored them. Where the raw data are
not at hand, the prepared masks stand in, with the spacing scaled to their size.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from echo_lib.data import camus
from echo_lib.data.datasets import load_label_maps
from echo_lib.labels import VIEWS, remove_sector

# The current release names the ejection fraction EF, the first one LVef.
_EF_KEYS = ("EF", "LVef")


@dataclass(frozen=True)
class Originals:
    """Reference masks of N frames.

    Attributes:
        label_maps: N arrays (rows, columns) uint8 CAMUS ids, each in its own size.
        spacing_mm: (N, 2) float64, rows then columns; NaN where it is not known.
        are_raw: False where the raw data were not at hand, so these are the prepared masks.
        ejection_fraction: patient to the value of its Info files, in %; without the patients whose
            files are not there or do not name it.
        quality: N grades of image quality that experts gave, as the Info file of the frame's view
            has them ("Good", "Medium", "Poor"); "" where it has none.
    """

    label_maps: tuple
    spacing_mm: np.ndarray
    are_raw: bool
    ejection_fraction: dict
    quality: tuple


def load(run, index):
    """The originals of prepared frames.

    Args:
        run: ``provenance.Run``.
        index: some lines of ``prepared/frames.csv``.

    Raises:
        CamusError: raw data that are there but cannot be used.
    """
    raw = _raw_frames(run, index)
    spacing_mm = known_spacing(index[["row_spacing_mm", "column_spacing_mm"]])
    if raw is None:
        maps = remove_sector(load_label_maps(run.folder, index).numpy())
        sizes_px = index[["rows_px", "columns_px"]].to_numpy(dtype=np.float64)
        spacing_mm = spacing_mm * sizes_px / maps.shape[1:]
        return Originals(tuple(maps), spacing_mm, False, {}, ("",) * len(index))
    label_maps = tuple(camus.read_image(frame.label_path)[0] for frame in raw)
    _require_sizes(label_maps, index)
    infos = [camus.read_info(frame.info_path) for frame in raw]
    quality = tuple(str(info.get("ImageQuality", "")) for info in infos)
    return Originals(label_maps, spacing_mm, True, _ejection_fractions(raw, infos), quality)


def known_spacing(spacing_mm):
    """Spacing with NaN where a header only has the 1 x 1 that a file without spacing reads as.

    Args:
        spacing_mm: (N, 2) mm, rows then columns.
    """
    spacing = np.array(spacing_mm, dtype=np.float64)
    spacing[(spacing == 1).all(axis=1)] = np.nan
    return spacing


def _raw_frames(run, index):
    """The raw frame of every line, in order; None where the raw data are not at hand."""
    phantom = run.profile.data.source == "phantom"
    root = run.folder / "cohort" if phantom else run.data_root
    if root is None or not root.is_dir():
        return None
    release = camus.open_release(root)
    data = run.profile.data
    limits = {
        "training": data.training_patients,
        "validation": data.validation_patients,
        "test": data.test_patients,
    }
    found = {}
    for split in index["split"].unique():
        frames = camus.frames(release, split, limit=limits[split])
        found |= {frame.name: frame for frame in frames}
    missing = [name for name in index["name"] if name not in found]
    if missing:
        raise camus.CamusFileMissing(
            f"{release.root}: {len(missing)} prepared frames are not there ({missing[0]}, ...); "
            "set data_root to the data that the run was prepared from"
        )
    return [found[name] for name in index["name"]]


def _require_sizes(label_maps, index):
    sizes = index[["rows_px", "columns_px"]].itertuples(index=False, name=None)
    for label_map, size, name in zip(label_maps, sizes, index["name"], strict=True):
        if label_map.shape != size:
            raise camus.CamusError(
                f"{name}: mask of {label_map.shape} (rows, columns), but it was prepared from "
                f"{size}; set data_root to the data that the run was prepared from"
            )


def _ejection_fractions(frames, infos):
    values = {}
    for frame, info in zip(frames, infos, strict=True):
        found = [float(info[key]) for key in _EF_KEYS if isinstance(info.get(key), (int, float))]
        values.setdefault(frame.patient, set()).update(found)
    unclear = sorted(patient for patient, found in values.items() if len(found) > 1)
    if unclear:
        views = " and ".join(VIEWS)
        warnings.warn(
            f"Info files of {', '.join(unclear)}: the ejection fractions of {views} differ, so "
            "none is used",
            stacklevel=3,
        )
    return {patient: found.pop() for patient, found in values.items() if len(found) == 1}
