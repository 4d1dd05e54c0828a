"""Where the heart is in a label map: apex, mitral annulus, long axis, and points to drag.

The septum is the wall on the left of the image, as CAMUS shows the four-chamber view.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM
from echo_lib.studio.parameters import EditError
from echo_lib.studio.shapes import VENTRICLE, is_one_of

_MIN_PIXELS = 12  # of a cavity that has an axis
_ALL_SIDES = np.ones((3, 3))  # neighbours at the corners too


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of a left ventricle, each (row, column) in px from the centre of the first pixel.

    Attributes:
        apex: of the cavity.
        annulus_left, annulus_right: the ends of the mitral plane.
        half_width_px: of the cavity, on average.
        wall_px: thickness of the wall, on average; 0 where there is none.
    """

    apex: np.ndarray
    annulus_left: np.ndarray
    annulus_right: np.ndarray
    half_width_px: float
    wall_px: float

    @property
    def annulus(self):
        """The middle of the mitral plane."""
        return (self.annulus_left + self.annulus_right) / 2

    @property
    def length_px(self):
        """From the mitral plane to the apex."""
        return float(np.linalg.norm(self.apex - self.annulus))

    @property
    def axis(self):
        """Unit vector (row, column) from the mitral plane to the apex."""
        return (self.apex - self.annulus) / self.length_px

    @property
    def to_right(self):
        """Unit vector (row, column) across the axis, to the right of the image where apex is up."""
        row, column = self.axis
        return np.array([column, -row])

    def coordinates(self, shape):
        """``along`` and ``across`` of every pixel, (H, W) each, in units of ``length_px``.

        ``along`` is 0 at the mitral plane and 1 at the apex; ``across`` is the distance from the
        axis, positive to the right.
        """
        rows, columns = np.indices(shape) - self.annulus[:, None, None]
        along = rows * self.axis[0] + columns * self.axis[1]
        across = rows * self.to_right[0] + columns * self.to_right[1]
        return along / self.length_px, across / self.length_px

    def place(self, along, across):
        """(row, column) in px of a place given as in ``coordinates``."""
        return self.annulus + (along * self.axis + across * self.to_right) * self.length_px


def find(label_map):
    """The landmarks of a map.

    Args:
        label_map: (H, W) SDM ids. Without an atrium the mitral plane is where the wall is open.

    Raises:
        EditError: no left ventricle, or one without an opening.
    """
    cavity = label_map == SDM_LV
    if cavity.sum() < _MIN_PIXELS:
        raise EditError(
            f"the map has {int(cavity.sum())} pixels of LV cavity; this edit needs a ventricle, "
            "paint one first"
        )
    left, right = _ends(_mitral_plane(label_map))
    places = np.argwhere(cavity).astype(float)
    reach = np.linalg.norm(places - (left + right) / 2, axis=1)
    apex = places[reach > reach.max() - 0.5].mean(axis=0)  # a blunt apex has several such pixels
    length = np.linalg.norm(apex - (left + right) / 2)
    return Landmarks(apex, left, right, cavity.sum() / (2 * length), _wall_px(label_map))


def control_points(label_map):
    """Points to drag: name to (row, column) in fractions of the image, as ``elastic`` takes them.

    The apex, the ends of the mitral plane, the middle of both walls inside and outside, and the far
    end of the atrium; those that the map does not have are left out.
    """
    marks = find(label_map)
    points = {
        "apex": marks.apex,
        "mitral left": marks.annulus_left,
        "mitral right": marks.annulus_right,
    }
    for name, sign in (("septum", -1), ("lateral wall", 1)):
        for side, ids in (("inside", (SDM_LV,)), ("outside", VENTRICLE)):
            points[f"{name} {side}"] = _last(marks, is_one_of(label_map, ids), sign)
    places = np.argwhere(label_map == SDM_LA)
    if len(places):
        points["atrium"] = places[((places - marks.annulus) @ marks.axis).argmin()]
    size = np.array(label_map.shape)
    return {name: tuple(((at + 0.5) / size).tolist()) for name, at in points.items()}


def is_open(label_map):
    """Does the cavity have a mitral plane: an atrium beside it, or a place without wall?"""
    return bool(_beside_opening(label_map).any())


def _mitral_plane(label_map):
    """(N, 2) pixels of the cavity at the mitral plane."""
    pieces, n = ndimage.label(_beside_opening(label_map), _ALL_SIDES)
    if n == 0:
        raise EditError(
            "the LV cavity has neither an atrium beside it nor an opening in its wall, so it has "
            "no mitral plane; paint an atrium, or erase a piece of the wall"
        )
    sizes = np.bincount(pieces.ravel())[1:]
    return np.argwhere(pieces == sizes.argmax() + 1).astype(float)


def _beside_opening(label_map):
    """Bool (H, W): pixels of the cavity next to the atrium, else those next to no wall."""
    cavity = label_map == SDM_LV
    beside = cavity & ndimage.binary_dilation(label_map == SDM_LA, _ALL_SIDES)
    if beside.sum() >= 2:
        return beside
    edge = cavity & ~ndimage.binary_erosion(cavity, _ALL_SIDES, border_value=0)
    return edge & ~ndimage.binary_dilation(label_map == SDM_MYOCARDIUM, _ALL_SIDES)


def _ends(plane):
    """The two ends of a line of pixels, the left one first."""
    centred = plane - plane.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    direction = direction if direction[1] > 0 else -direction
    position = centred @ direction
    return plane[position.argmin()], plane[position.argmax()]


def _wall_px(label_map):
    wall = label_map == SDM_MYOCARDIUM
    cavity = label_map == SDM_LV
    if not wall.any():
        return 0.0
    outer = wall & ~ndimage.binary_erosion(is_one_of(label_map, VENTRICLE))
    depth = ndimage.distance_transform_edt(~cavity)[outer]
    return float(np.median(depth)) if depth.size else 0.0


def _last(marks, mask, sign):
    """The last pixel of ``mask`` from the middle of the axis to one side."""
    reach = np.arange(0.0, 1.5, 0.25 / marks.length_px)
    middle = marks.place(0.5, 0.0)
    line = middle[:, None] + sign * marks.to_right[:, None] * reach * marks.length_px
    rows, columns = np.rint(line).astype(int)
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    hits = np.flatnonzero(inside & mask[np.where(inside, rows, 0), np.where(inside, columns, 0)])
    return line[:, hits.max()] if hits.size else middle
