"""Shapes in a label map as signed distances, and back.

A signed distance is negative inside a shape and positive outside it, in px, and never 0: the edge
runs between pixels. ``signed_distance(mask) < 0`` is ``mask`` itself.
"""

import numpy as np
from scipy import ndimage, spatial

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR

HEART = (SDM_LV, SDM_MYOCARDIUM, SDM_LA)
VENTRICLE = (SDM_LV, SDM_MYOCARDIUM)
_HALF_A_PIXEL = 0.71  # its diagonal: a hull runs through centres, an edge in stairs around it


def signed_distance(mask):
    """Distance of every pixel to the edge of ``mask`` in px, negative inside.

    Args:
        mask: (H, W) bool. One that is empty, or full, is infinitely far from every pixel.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf)
    if mask.all():
        return np.full(mask.shape, -np.inf)
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return np.where(mask, 0.5 - inside, outside - 0.5)


def is_one_of(label_map, ids):
    """Bool mask of the pixels whose label is in ``ids``."""
    return np.isin(label_map, ids)


def find_sector(label_map):
    """The ultrasound sector of a map, also under the heart.

    A sector is convex, and experts draw hearts beyond it: it is what is not outside within the
    convex hull of the pixels labelled sector.

    Args:
        label_map: (H, W) SDM ids.

    Returns:
        (H, W) bool.
    """
    inside = label_map != SDM_OUTSIDE
    places = np.argwhere(label_map == SDM_SECTOR)
    if len(places) < 3 or np.linalg.matrix_rank(places - places[0]) < 2:
        return inside
    hull = spatial.ConvexHull(places)
    rows, columns = np.nonzero(inside)
    beyond = hull.equations[:, :2] @ np.stack([rows, columns]) + hull.equations[:, 2:]
    inside[rows, columns] = beyond.max(axis=0) <= _HALF_A_PIXEL
    return inside


def without_heart(sector):
    """The map of an empty sector: sector inside, outside beyond."""
    return np.where(sector, np.uint8(SDM_SECTOR), np.uint8(SDM_OUTSIDE))


def walls(label_map):
    """Signed distances of the endocardium (the cavity) and the epicardium (cavity and wall)."""
    return (
        signed_distance(label_map == SDM_LV),
        signed_distance(is_one_of(label_map, VENTRICLE)),
    )


def with_ventricle(label_map, sector, *, endo, epi):
    """The map with another left ventricle; what the old one leaves becomes sector.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool; the new ventricle stays inside.
        endo: (H, W) bool, the cavity.
        epi: (H, W) bool, cavity and wall; the atrium keeps the pixels that it has.
    """
    before = is_one_of(label_map, VENTRICLE)
    free = (sector | before) & (label_map != SDM_LA)
    after = label_map.copy()
    after[before] = without_heart(sector)[before]
    after[epi & free] = SDM_MYOCARDIUM
    after[endo & free] = SDM_LV
    return after


def smooth_minimum(first, second, width):
    """The lesser of two, its crease rounded over ``width``: the smooth union of two shapes."""
    if width <= 0:
        return np.minimum(first, second)
    share = np.clip(0.5 + 0.5 * (second - first) / width, 0.0, 1.0)
    return second * (1 - share) + first * share - width * share * (1 - share)


def smooth_step(value, start, end):
    """0 up to ``start``, 1 from ``end`` on, smooth between; ``end`` may lie below ``start``."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)
