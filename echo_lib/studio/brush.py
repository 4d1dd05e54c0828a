"""Painting and erasing: strokes of a round brush."""

import numpy as np

from echo_lib.labels import SDM_NAMES, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.studio.parameters import SIDE, EditKind, Parameter, choice, number
from echo_lib.studio.shapes import HEART, is_one_of, without_heart

# The heart first: what a brush is mostly used for.
LABELS = tuple(SDM_NAMES[label] for label in (*HEART, SDM_SECTOR, SDM_OUTSIDE))
_PARAMETERS = (
    Parameter("path", "path", (), -1.0, 2.0, SIDE),
    number("radius", 0.03, 0.002, 0.5, SIDE),
)


def paint(label_map, sector, *, path, radius, label):
    """Give everything under a stroke a label; ``sector`` and ``outside`` change the sector too.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        path: places (row, column) of the stroke, fractions of the image.
        radius: of the brush, fraction of the image's height.
        label: one of LABELS.
    """
    under = stroke(label_map.shape, path, radius)
    changed = label_map.copy()
    changed[under] = SDM_NAMES.index(label)
    if label == SDM_NAMES[SDM_SECTOR]:
        sector = sector | under
    elif label == SDM_NAMES[SDM_OUTSIDE]:
        sector = sector & ~under
    return changed, sector


def erase(label_map, sector, *, path, radius):
    """Take the heart away under a stroke; sector remains, and outside beyond it."""
    gone = stroke(label_map.shape, path, radius) & is_one_of(label_map, HEART)
    return np.where(gone, without_heart(sector), label_map), sector


def stroke(shape, path, radius):
    """Bool (H, W): the pixels whose centre lies within ``radius`` of the line through ``path``."""
    rows, columns = np.indices(shape) + 0.5
    under = np.zeros(shape, dtype=bool)
    places = np.array(path, dtype=float).reshape(-1, 2) * shape
    starts, ends = (places, places) if len(places) == 1 else (places[:-1], places[1:])
    reach = radius * shape[0]
    for start, end in zip(starts, ends, strict=True):
        way = end - start
        length = max(float(way @ way), 1e-12)
        t = np.clip(((rows - start[0]) * way[0] + (columns - start[1]) * way[1]) / length, 0, 1)
        under |= np.hypot(rows - start[0] - t * way[0], columns - start[1] - t * way[1]) <= reach
    return under


KINDS = (
    EditKind("paint", "Paint", "brush", (*_PARAMETERS, choice("label", LABELS)), paint),
    EditKind("erase", "Erase", "brush", _PARAMETERS, erase),
)
