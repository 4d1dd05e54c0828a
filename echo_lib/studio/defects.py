"""Defects with a name: of the septum, the atrium, the ventricle, the apex and the pericardium.

Each is drawn from the landmarks of the map at hand, so that it fits any heart. What a structure
leaves becomes sector; the five labels have none for blood elsewhere or for fluid.
"""

import numpy as np

from echo_lib.labels import SDM_LA, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio import landmarks
from echo_lib.studio.deform import resample
from echo_lib.studio.parameters import LENGTH, EditError, EditKind, choice, number
from echo_lib.studio.shapes import (
    smooth_minimum,
    smooth_step,
    walls,
    with_ventricle,
    without_heart,
)
from echo_lib.studio.structures import thickened

REGIONS = ("all walls", "septum", "lateral wall", "apex")
SIDES = ("septum", "lateral wall")


def septal_defect(label_map, sector, *, position, width, side):
    """A gap in the wall, across the long axis.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        position: of its middle: 0 at the mitral plane, 1 at the apex.
        width: fraction of the ventricle's length.
        side: of SIDES; the septum is on the left of the image.
    """
    along, across = landmarks.find(label_map).coordinates(label_map.shape)
    window = np.abs(along - position) < width / 2
    window &= across < 0 if side == "septum" else across > 0
    changed = label_map.copy()
    changed[window & (label_map == SDM_MYOCARDIUM)] = SDM_SECTOR
    return changed, sector


def missing_atrium(label_map, sector, *, missing):
    """The left atrium without its far end, or not at all.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        missing: share of its depth; 1 leaves no pixel of it.
    """
    atrium = label_map == SDM_LA
    if missing == 0 or not atrium.any():
        return label_map, sector
    lost = atrium
    if missing < 1:
        depth = -landmarks.find(label_map).coordinates(label_map.shape)[0]
        near, far = depth[atrium].min(), depth[atrium].max()
        lost = atrium & (depth > near + (1 - missing) * (far - near))
    changed = label_map.copy()
    changed[lost] = without_heart(sector)[lost]
    return changed, sector


def enlarged_atrium(label_map, sector, *, factor):
    """The left atrium so many times as large, about the middle of the mitral plane.

    Args:
        label_map: (H, W) SDM ids; ventricle and sector keep their pixels.
        sector: (H, W) bool.
        factor: of length and width; below 1 it shrinks.
    """
    atrium = label_map == SDM_LA
    if factor == 1:
        return label_map, sector
    if not atrium.any():
        raise EditError("the map has no left atrium to enlarge; paint one first")
    centre = landmarks.find(label_map).annulus[:, None, None]
    places = (np.indices(label_map.shape) - centre) / factor + centre
    alone = np.where(atrium, label_map, np.uint8(0))
    larger = resample(alone, sector, places, move="heart")[0] == SDM_LA
    changed = label_map.copy()
    if factor < 1:
        changed[atrium] = without_heart(sector)[atrium]
    changed[larger & (changed == SDM_SECTOR)] = SDM_LA
    return changed, sector


def dilated_ventricle(label_map, sector, *, width, wall):
    """A ventricle so many times as wide; the mitral plane stays.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        width: of the cavity, as a factor; below 1 it is narrow.
        wall: thickness of the wall, as a factor.
    """
    marks = landmarks.find(label_map)
    along = marks.coordinates(label_map.shape)[0]
    out_px = (width - 1) * marks.half_width_px * smooth_step(along, 0.0, 0.35)
    return _moved_walls(label_map, sector, out_px, wall), sector


def hypertrophy(label_map, sector, *, factor, region):
    """A thick wall, at the cost of the cavity.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        factor: of the wall's thickness.
        region: of REGIONS.
    """
    along, across = landmarks.find(label_map).coordinates(label_map.shape)
    weight = {
        "all walls": np.ones(label_map.shape),
        "septum": smooth_step(across, 0.06, -0.06) * smooth_step(along, 0.95, 0.7),
        "lateral wall": smooth_step(across, -0.06, 0.06) * smooth_step(along, 0.95, 0.7),
        "apex": smooth_step(along, 0.45, 0.75),
    }[region]
    return thickened(label_map, sector, factor=1 + (factor - 1) * weight, inwards=0.8), sector


def apical_aneurysm(label_map, sector, *, size, wall):
    """A round pouch at the apex, with a thin wall.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        size: how far it stands out of the cavity, fraction of the ventricle's length; 0 is none.
        wall: its thickness, as a factor of the ventricle's.
    """
    marks = landmarks.find(label_map)
    if size == 0:
        return label_map, sector
    tip_px = 0.75 * marks.half_width_px  # radius of the apex itself, about
    rows, columns = np.indices(label_map.shape) - (marks.apex - tip_px * marks.axis)[:, None, None]
    pouch = np.hypot(rows, columns) - tip_px - size * marks.length_px
    endo, epi = walls(label_map)
    factor = 1 + (wall - 1) * smooth_step(pouch, 2 * marks.wall_px, 0.0)
    thin = factor * epi + (1 - factor) * endo if np.isfinite(endo).all() else epi
    neck_px = 0.5 * size * marks.length_px
    new_endo = smooth_minimum(endo, pouch, neck_px)
    new_epi = smooth_minimum(thin, pouch - wall * marks.wall_px, neck_px)
    return with_ventricle(label_map, sector, endo=new_endo < 0, epi=new_epi < 0), sector


def pericardial_effusion(label_map, sector, *, width):
    """Fluid around the ventricle, drawn as sector: the ventricle gives way.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool.
        width: of the fluid at the free walls, fraction of the ventricle's length.
    """
    marks = landmarks.find(label_map)
    along = marks.coordinates(label_map.shape)[0]
    in_px = width * marks.length_px * smooth_step(along, 0.0, 0.35)
    return _moved_walls(label_map, sector, -in_px, 1.0), sector


def _moved_walls(label_map, sector, out_px, wall):
    """Both walls moved outwards by so many px, the wall then so many times as thick."""
    endo, epi = walls(label_map)
    new_epi = wall * epi + (1 - wall) * endo if np.isfinite(endo).all() else epi
    return with_ventricle(label_map, sector, endo=endo < out_px, epi=new_epi < out_px)


KINDS = (
    EditKind(
        "septal_defect", "Septal defect", "defect",
        (
            number("position", 0.35, 0, 1, LENGTH),
            number("width", 0.15, 0, 0.8, LENGTH),
            choice("side", SIDES),
        ),
        septal_defect, "width",
    ),
    EditKind(
        "missing_atrium", "Missing left atrium", "defect",
        (number("missing", 1, 0, 1, "of its depth"),),
        missing_atrium, "missing",
    ),
    EditKind(
        "enlarged_atrium", "Enlarged left atrium", "defect",
        (number("factor", 1.4, 0.3, 2.5, "times as large"),),
        enlarged_atrium, "factor",
    ),
    EditKind(
        "dilated_ventricle", "Dilated ventricle", "defect",
        (
            number("width", 1.4, 0.5, 2, "times as wide"),
            number("wall", 1, 0.3, 1.5, "times as thick"),
        ),
        dilated_ventricle, "width",
    ),
    EditKind(
        "hypertrophy", "Hypertrophic ventricle", "defect",
        (number("factor", 1.8, 0.5, 3, "times as thick"), choice("region", REGIONS)),
        hypertrophy, "factor",
    ),
    EditKind(
        "apical_aneurysm", "Apical aneurysm", "defect",
        (
            number("size", 0.12, 0, 0.3, LENGTH),
            number("wall", 0.4, 0, 1, "times as thick"),
        ),
        apical_aneurysm, "size",
    ),
    EditKind(
        "pericardial_effusion", "Pericardial effusion", "defect",
        (number("width", 0.08, 0, 0.2, LENGTH),),
        pericardial_effusion, "width",
    ),
)  # fmt: skip
