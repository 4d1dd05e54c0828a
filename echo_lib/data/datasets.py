"""Prepared and synthetic pairs as tensors: the only way in which the networks read data.

An index (``frames.csv``, ``maps.csv``, ``pairs.csv``) names each pair's files, so an image and its
label map are matched by name, never by the order of a folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torch
from PIL import Image

from echo_lib import labels

INDEX_FILES = {
    "real": "prepared/frames.csv",
    "maps": "prepared/maps.csv",
    "synthetic": "synthetic/pairs.csv",
    "pseudo": "pseudo/slices.csv",
    "pseudo_maps": "pseudo/maps.csv",
    "cyclegan": "translated/pairs.csv",
}
_TEXT = {key: str for key in ("name", "source", "patient", "view", "phase", "split", "label_map")}


@dataclass(frozen=True)
class Pairs:
    """Images with their label maps.

    Attributes:
        images: uint8 (N, 1, H, W), 0..255.
        label_maps: uint8 (N, H, W), SDM ids 0..4.
        names: N names, in the same order.
    """

    images: torch.Tensor
    label_maps: torch.Tensor
    names: tuple

    def __len__(self):
        return len(self.names)


def read_index(run_folder, kind):
    """One of a run's indices.

    Args:
        run_folder: ``provenance.Run.folder``.
        kind: ``real``, ``maps`` or ``synthetic``.

    Returns:
        DataFrame, one row per file; its paths are relative to ``run_folder``.

    Raises:
        ValueError: an unknown kind.
        FileNotFoundError: the stage that writes the index has not run.
    """
    if kind not in INDEX_FILES:
        raise ValueError(f"index {kind!r}; expected one of {tuple(INDEX_FILES)}")
    path = Path(run_folder) / INDEX_FILES[kind]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run stage {path.parent.name!r} first")
    return pandas.read_csv(path, dtype=_TEXT)


def load_pairs(run_folder, index):
    """Load the images and label maps of an index, or of some of its rows, in its order.

    Args:
        run_folder: ``provenance.Run.folder``.
        index: DataFrame with name, image, label_map; from ``read_index`` "real" or "synthetic".

    Returns:
        ``Pairs``.

    Raises:
        ValueError: an empty index, sizes that differ, label values outside 0..4.
    """
    maps = load_label_maps(run_folder, index)
    images = _stack(run_folder, index, "image")
    if images.shape != maps.shape:
        raise ValueError(
            f"{index['image'].iloc[0]}: images of {_size(images)}, but their label maps have "
            f"{_size(maps)} (rows x columns); run the stage that wrote them again"
        )
    return Pairs(torch.from_numpy(images[:, None]), maps, tuple(index["name"]))


def load_label_maps(run_folder, index):
    """Load the label maps of an index alone: uint8 (N, H, W), SDM ids 0..4, in its order.

    Raises:
        ValueError: an empty index, sizes that differ, label values outside 0..4.
    """
    maps = _stack(run_folder, index, "label_map")
    for array, path in zip(maps, index["label_map"], strict=True):
        labels.require_labels(array, len(labels.SDM_NAMES), path)
    return torch.from_numpy(maps)


def to_unit(images):
    """uint8 0..255 to float32 in [-1, 1], of the same shape."""
    return images.to(torch.float32) / 127.5 - 1


def one_hot(label_map, classes):
    """A label map (B, H, W) of integers in [0, classes) as float32 (B, classes, H, W)."""
    top = int(label_map.max())
    if top >= classes:
        raise ValueError(f"label value {top} in a label map, expected 0..{classes - 1}")
    return torch.nn.functional.one_hot(label_map.long(), classes).movedim(-1, 1).to(torch.float32)


def _stack(run_folder, index, column):
    if len(index) == 0:
        raise ValueError("empty index: nothing to load; check the split, view and phase asked for")
    if column not in index:
        raise ValueError(f"index without column {column!r} (found: {', '.join(index.columns)})")
    arrays = [_read_png(Path(run_folder) / path) for path in index[column]]
    for array, path in zip(arrays, index[column], strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{path}: {_size(array)} px, but {index[column].iloc[0]} has {_size(arrays[0])} "
                "(rows x columns); run the stage that wrote them again"
            )
    return np.stack(arrays)


def _read_png(path):
    with Image.open(path) as file:
        if file.mode != "L":
            raise ValueError(f"{path}: PNG of mode {file.mode!r}, expected 8-bit grey ('L')")
        return np.array(file)


def _size(array):
    return " x ".join(str(size) for size in array.shape[-2:])
