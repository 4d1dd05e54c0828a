"""Edits of one structure: grow or shrink it, move the mitral plane, thicken or thin the wall."""

import numpy as np
from scipy import ndimage

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_NAMES, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.studio import landmarks
from echo_lib.studio.deform import dragged, resample
from echo_lib.studio.parameters import LENGTH, SIDE, EditKind, choice, number
from echo_lib.studio.shapes import signed_distance, walls, with_ventricle

STRUCTURES = tuple(SDM_NAMES[label] for label in (SDM_LV, SDM_MYOCARDIUM, SDM_LA))
ANCHORS = ("outwards", "inwards", "both ways")
_REACH = 0.9  # of the ventricle's length: how far the mitral plane takes the heart with it


def grow(label_map, sector, *, structure, amount, uncovered):
    """Dilate a structure by a width, over whatever lies there; erode it where that is negative.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool; nothing grows beyond it.
        structure: one of STRUCTURES.
        amount: fraction of the image's height.
        uncovered: what an erosion leaves: ``sector``, or the ``neighbour`` that lies nearest.
    """
    label = SDM_NAMES.index(structure)
    before = label_map == label
    after = signed_distance(before) < amount * label_map.shape[0]
    changed = label_map.copy()
    changed[after & (sector | before)] = label
    lost = before & ~after
    if lost.any():
        changed[lost] = _beneath(label_map, before, uncovered)[lost]
    return changed, sector


def mitral_plane(label_map, sector, *, shift, tilt_degrees):
    """Move the mitral plane towards the apex, and turn it clockwise; the heart's base follows.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool; it stays.
        shift: fraction of the ventricle's length.
        tilt_degrees: about the plane's middle.
    """
    marks = landmarks.find(label_map)
    if shift == 0 and tilt_degrees == 0:
        return label_map, sector
    half = (marks.annulus_right - marks.annulus_left) / 2
    angle = np.radians(tilt_degrees)
    turned = np.array(
        [
            np.cos(angle) * half[0] + np.sin(angle) * half[1],
            -np.sin(angle) * half[0] + np.cos(angle) * half[1],
        ]
    )
    starts = np.stack([marks.annulus - half, marks.annulus, marks.annulus + half])
    moved = marks.axis * shift * marks.length_px
    ways = moved + np.stack([half - turned, 0 * half, turned - half])
    places = dragged(label_map.shape, starts, ways, radius_px=_REACH * marks.length_px)
    return resample(label_map, sector, places, move="heart")


def wall_thickness(label_map, sector, *, factor, anchor):
    """Make the wall so many times as thick.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool; it stays.
        factor: 1 leaves it.
        anchor: one of ANCHORS: the endocardium stays, the epicardium stays, or half each.
    """
    share = {"outwards": 0.0, "inwards": 1.0, "both ways": 0.5}[anchor]
    return thickened(label_map, sector, factor=factor, inwards=share), sector


def thickened(label_map, sector, *, factor, inwards):
    """The map with a wall of another thickness.

    Across the wall the distance from the endocardium grows as that from the epicardium falls, so
    their weighted sum is negative up to that multiple of the local thickness, whatever it is.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        factor: of the thickness, a number or (H, W).
        inwards: share of the change that the cavity takes, 0 to 1.
    """
    endo, epi = walls(label_map)
    if not (np.isfinite(endo).all() and np.isfinite(epi).all()):
        return label_map
    inner = (factor - 1) * inwards
    outer = (factor - 1) * (1 - inwards)
    new_endo = (1 + inner) * endo - inner * epi < 0
    new_epi = (1 + outer) * epi - outer * endo < 0
    if landmarks.is_open(label_map):
        along = landmarks.find(label_map).coordinates(label_map.shape)[0]
        new_epi &= along >= along[epi < 0].min()  # no wall beyond the base
    return with_ventricle(label_map, sector, endo=new_endo, epi=new_epi)


def _beneath(label_map, structure, uncovered):
    """What lies under a structure: sector, or at each pixel the label that is nearest to it."""
    if uncovered == "sector" or structure.all():
        return np.full_like(label_map, SDM_SECTOR)
    nearest = ndimage.distance_transform_edt(structure, return_distances=False, return_indices=True)
    label = label_map[tuple(nearest)]
    return np.where(label == SDM_OUTSIDE, np.uint8(SDM_SECTOR), label)


KINDS = (
    EditKind(
        "grow", "Dilate or erode", "structure",
        (
            choice("structure", STRUCTURES),
            number("amount", 0, -0.15, 0.15, SIDE),
            choice("uncovered", ("sector", "neighbour")),
        ),
        grow, "amount",
    ),
    EditKind(
        "mitral_plane", "Mitral plane", "structure",
        (
            number("shift", 0, -0.4, 0.4, LENGTH + ", to the apex"),
            number("tilt_degrees", 0, -40, 40, "degrees clockwise"),
        ),
        mitral_plane, "shift",
    ),
    EditKind(
        "wall_thickness", "Wall thickness", "structure",
        (number("factor", 1, 0.2, 3, "times as thick"), choice("anchor", ANCHORS)),
        wall_thickness, "factor",
    ),
)  # fmt: skip
