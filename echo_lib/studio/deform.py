"""Deformations of a label map: affine, shear, swirl, and elastic by control points.

``move`` says what moves: ``heart`` under a sector that stays where it is, as in the paper's section
2.2, where the heart is clipped to it; or ``all``, the whole map with its sector, as in Fig. 4.

The map is read at the place that each pixel comes from, by linear interpolation of each label's
share; the label with the largest share wins. So edges stay smooth, no new ids appear, and a
deformation of nothing leaves every pixel as it is.
"""

import numpy as np
from scipy import ndimage

from echo_lib.labels import SDM_OUTSIDE
from echo_lib.studio.parameters import (
    SIDE,
    EditError,
    EditKind,
    Parameter,
    choice,
    number,
)
from echo_lib.studio.shapes import HEART, is_one_of, without_heart

MOVES = ("heart", "all")
_MOVE = choice("move", MOVES)
_STEP = 0.12  # of the kernel's radius: the longest way of a control point at once, so none folds


def resample(label_map, sector, places, *, move):
    """A map and its sector, read at other places.

    Args:
        label_map: (H, W) SDM ids.
        sector: (H, W) bool; a heart that moves is clipped to it, but for where experts drew beyond.
        places: (2, H, W) rows and columns in px that each pixel takes its label from.
        move: one of MOVES.

    Returns:
        The two after the move; what comes from beyond the image is outside.
    """
    if move == "all":
        return _read(label_map, places, SDM_OUTSIDE), _share(sector, places, 0.0) > 0.5
    empty = without_heart(sector)
    before = is_one_of(label_map, HEART)
    moved = _read(np.where(before, label_map, np.uint8(SDM_OUTSIDE)), places, SDM_OUTSIDE)
    shown = is_one_of(moved, HEART) & (sector | before)
    return np.where(shown, moved, empty), sector


def affine(label_map, sector, *, rotation_degrees, scale, right, down, move):
    """Turn clockwise and scale about the image's centre, then shift."""
    angle = np.radians(rotation_degrees)
    turn = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )  # row, column
    offset, centre = _from_centre(label_map.shape)
    shift = np.array([down, right]) * label_map.shape
    places = np.tensordot(np.linalg.inv(turn) / scale, offset - shift[:, None, None], axes=1)
    return resample(label_map, sector, places + centre, move=move)


def shear(label_map, sector, *, angle_degrees, direction, move):
    """Lean the map by an angle about its centre, to the right at the top (or up at the right)."""
    places, centre = _from_centre(label_map.shape)
    if direction == "horizontal":
        places[1] += np.tan(np.radians(angle_degrees)) * places[0]
    else:
        places[0] += np.tan(np.radians(angle_degrees)) * places[1]
    return resample(label_map, sector, places + centre, move=move)


def swirl(label_map, sector, *, angle_degrees, radius, row, column, move):
    """Turn clockwise about a point, most at the point and not at all from ``radius`` on."""
    size = np.array(label_map.shape)
    centre = (np.array([row, column]) * size - 0.5)[:, None, None]
    offset = np.indices(label_map.shape) - centre
    reach = np.hypot(*offset) / (radius * size[0])
    angle = np.radians(angle_degrees) * np.maximum(1 - reach**2, 0) ** 2
    rows = np.cos(angle) * offset[0] - np.sin(angle) * offset[1]
    columns = np.sin(angle) * offset[0] + np.cos(angle) * offset[1]
    # Beyond the radius nothing is computed, so those pixels are the same to the bit.
    still = angle == 0
    places = np.where(still, offset, np.stack([rows, columns])) + centre
    return resample(label_map, sector, places, move=move)


def elastic(label_map, sector, *, points, radius, move):
    """Drag control points; what lies between follows smoothly, from ``radius`` on nothing does."""
    size = np.array(label_map.shape)
    numbers = np.array(points, dtype=float).reshape(-1, 4)
    if not numbers[:, 2:].any():
        return label_map, sector
    starts, ways = numbers[:, :2] * size - 0.5, numbers[:, 2:] * size
    places = dragged(label_map.shape, starts, ways, radius_px=radius * size[0])
    return resample(label_map, sector, places, move=move)


def dragged(shape, starts, ways, *, radius_px):
    """Where each pixel comes from when points are dragged, exactly, each along a straight way.

    The way is cut into short steps, each a smooth interpolation between the points, so that the
    whole does not fold over however far they go.

    Args:
        shape: (H, W).
        starts: (N, 2) rows and columns in px; no two at one place.
        ways: (N, 2) px down and to the right.
        radius_px: of a point's influence.

    Returns:
        (2, H, W) rows and columns in px.
    """
    steps = max(1, int(np.ceil(np.linalg.norm(ways, axis=1).max() / (_STEP * radius_px))))
    places = np.indices(shape).reshape(2, -1).astype(float)
    _between_points(starts, radius_px)
    for step in range(steps, 0, -1):
        now = starts + ways * (step / steps)
        pulls = np.linalg.solve(_between_points(now, radius_px), ways / steps)
        reach = _kernel(np.linalg.norm(places[:, :, None] - now.T[:, None], axis=0) / radius_px)
        places = places - (reach @ pulls).T
    return places.reshape(2, *shape)


def grid_points(rows, columns):
    """A grid of control points at rest: (row, column, 0, 0) each, fractions of the image."""
    at = [((i + 0.5) / rows, (j + 0.5) / columns) for i in range(rows) for j in range(columns)]
    return tuple((row, column, 0.0, 0.0) for row, column in at)


def drawn_points(generator, *, rows, columns, largest):
    """Control points of a grid, each dragged at random by at most ``largest`` both ways.

    Args:
        generator: the item's NumPy generator.
        rows, columns: of the grid.
        largest: fraction of the image's side.
    """
    ways = generator.uniform(-largest, largest, size=(rows * columns, 2)).round(4).tolist()
    still = grid_points(rows, columns)
    return tuple((*point[:2], *way) for point, way in zip(still, ways, strict=True))


def _kernel(distance):
    """Wendland's C2 function: 1 at 0, 0 from 1 on, positive definite in the plane."""
    return np.maximum(1 - distance, 0) ** 4 * (4 * distance + 1)


def _between_points(places, radius_px):
    """The kernel between every two points; they must lie apart, at their start and on their way."""
    weights = _kernel(np.linalg.norm(places[:, None] - places[None], axis=2) / radius_px)
    if np.linalg.cond(weights) > 1e8:
        raise EditError("elastic: two control points meet at one place; drag one of them alone")
    return weights


def _from_centre(shape):
    centre = ((np.array(shape) - 1) / 2)[:, None, None]
    return np.indices(shape) - centre, centre


def _read(label_map, places, beyond):
    """The label with the largest share at each place; of equal ones that with the lowest id."""
    best = np.full(label_map.shape, beyond, dtype=np.uint8)
    largest = _share(label_map == beyond, places, 1.0)
    for label in np.unique(label_map[label_map != beyond]):
        share = _share(label_map == label, places, 0.0)
        best[share > largest] = label
        largest = np.maximum(largest, share)
    return best


def _share(mask, places, beyond):
    share = ndimage.map_coordinates(
        mask.astype(float), places, order=1, mode="grid-constant", cval=beyond
    )
    return share.round(9)  # a place that is a pixel but for rounding is that pixel


KINDS = (
    EditKind(
        "affine", "Turn, scale, shift", "deformation",
        (
            number("rotation_degrees", 0, -180, 180, "degrees clockwise"),
            number("scale", 1, 0.3, 2),
            number("right", 0, -0.5, 0.5, SIDE),
            number("down", 0, -0.5, 0.5, SIDE),
            _MOVE,
        ),
        affine, "rotation_degrees",
    ),
    EditKind(
        "shear", "Shear", "deformation",
        (
            number("angle_degrees", 0, -60, 60, "degrees"),
            choice("direction", ("horizontal", "vertical")),
            _MOVE,
        ),
        shear, "angle_degrees",
    ),
    EditKind(
        "swirl", "Swirl", "deformation",
        (
            number("angle_degrees", 0, -360, 360, "degrees clockwise"),
            number("radius", 0.5, 0.05, 1.5, SIDE),
            number("row", 0.5, 0, 1, SIDE),
            number("column", 0.5, 0, 1, SIDE),
            _MOVE,
        ),
        swirl, "angle_degrees",
    ),
    EditKind(
        "elastic", "Drag points", "deformation",
        (
            Parameter("points", "points", (), -1.0, 2.0, SIDE),
            number("radius", 0.3, 0.02, 2, SIDE),
            _MOVE,
        ),
        elastic,
    ),
)  # fmt: skip
