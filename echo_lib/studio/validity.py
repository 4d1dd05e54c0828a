"""What looks wrong about a label map: told in sentences, never enforced."""

import numpy as np
from scipy import ndimage

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_NAMES, SDM_SECTOR
from echo_lib.studio.shapes import HEART, find_sector

_OPEN_SHARE = 0.02  # of the cavity's edge
_ALL_SIDES = np.ones((3, 3))  # neighbours at the corners too


def findings(label_map, *, sector=None):
    """One sentence for each oddity; an empty list where there is none.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool, the ultrasound sector; None takes ``shapes.find_sector``.
    """
    label_map = np.asarray(label_map)
    sector = find_sector(label_map) if sector is None else sector
    if not sector.any():
        return ["no sector: everything is outside"]
    sentences = []
    for label in HEART:
        sentences += _of_structure(label_map == label, SDM_NAMES[label], sector)
    return sentences + _open_wall(label_map)


def _of_structure(mask, name, sector):
    if not mask.any():
        return [f"no {name}"]
    sentences = []
    pieces, n = ndimage.label(mask)
    if n > 1:
        sizes = np.sort(np.bincount(pieces.ravel())[1:])
        share = 100 * sizes[:-1].sum() / sizes.sum()
        sentences.append(f"{name} in {n} pieces: {share:.1f} % of it lies apart")
    hole = ndimage.binary_fill_holes(mask) & ~mask
    if hole.any() and name != SDM_NAMES[SDM_MYOCARDIUM]:
        sentences.append(f"{name} has a hole of {_pixels(hole)}")
    beyond = mask & ~sector
    if beyond.any():
        sentences.append(f"{_pixels(beyond)} of {name} outside the sector")
    at_edge = mask & sector & ~ndimage.binary_erosion(sector, border_value=0)
    if at_edge.any() and name == SDM_NAMES[SDM_LV]:
        sentences.append(f"{name} reaches the edge of the sector ({_pixels(at_edge)})")
    return sentences


def _open_wall(label_map):
    """Is the cavity bare of wall anywhere but at the mitral plane?"""
    cavity, atrium = label_map == SDM_LV, label_map == SDM_LA
    if not cavity.any() or not (label_map == SDM_MYOCARDIUM).any():
        return []
    edge = cavity & ~ndimage.binary_erosion(cavity, border_value=0)
    runs, n = ndimage.label(edge & ndimage.binary_dilation(label_map == SDM_SECTOR), _ALL_SIDES)
    sizes = np.bincount(runs.ravel(), minlength=n + 1)
    sizes[0] = 0
    plane = np.unique(runs[ndimage.binary_dilation(atrium, _ALL_SIDES, iterations=2)])
    sizes[plane if atrium.any() else sizes.argmax()] = 0
    share = sizes.sum() / edge.sum()
    if share <= _OPEN_SHARE:
        return []
    name = SDM_NAMES[SDM_LV]
    return [f"{name} touches the sector without a wall along {100 * share:.0f} % of its edge"]


def _pixels(mask):
    n = int(mask.sum())
    return f"{n} pixel" + ("s" if n > 1 else "")
