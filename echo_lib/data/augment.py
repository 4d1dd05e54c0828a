"""Random transforms of label maps (paper, section 2.2): an affine one, then an elastic one.

``draw`` takes an item's own generator and gives plain numbers that go into ``maps.csv``;
``transform`` is a pure function of an array and these numbers, so a stored map can be made again
exactly.

The conventions are those of the released implementation: torchvision's affine transform and
TorchIO's elastic deformation, each with nearest-neighbour resampling, and the sector of the
untransformed image.
"""

import math

import numpy as np
import scipy.interpolate
import scipy.ndimage
import torch
import torchio

from echo_lib import labels

REFERENCE_SIZE_PX = 256  # at which the configuration gives the largest displacement
_DECIMALS = 4  # of the drawn numbers, so that a CSV file holds them exactly
_SPLINE_ORDER = 3  # of TorchIO's B-splines
_ORDERS = {"nearest": 0, "linear": 1}


def draw(config, generator, *, image_size_px):
    """Draw the parameters of one augmented map.

    Args:
        config: ``config.AugmentationConfig``.
        generator: the item's NumPy generator.
        image_size_px: rows and columns of the map. Equal generators give equal shapes at any size.

    Returns:
        A dictionary for JSON: ``image_size_px``; ``angle_degrees`` (clockwise), ``translate_px``
        (rows, columns), ``scale``, ``shear_degrees`` (of the columns); and ``displacement_px``,
        (rows, columns, 2) of the elastic control points, see ``draw_elastic``.
    """
    affine = draw_affine(config, generator, image_size_px=image_size_px)
    elastic = draw_elastic(config, generator, image_size_px=image_size_px)
    return {"image_size_px": image_size_px, **affine, "displacement_px": elastic}


def draw_affine(config, generator, *, image_size_px):
    """The affine part of ``draw``: uniform within the configured ranges."""
    angle = generator.uniform(*config.degrees)
    # FIDELITY: torchvision reads translate as (width, height) and rounds to whole pixels.
    columns, rows = (
        round(fraction * image_size_px * generator.uniform(-1, 1)) for fraction in config.translate
    )
    scale = generator.uniform(*config.scale)
    shear = generator.uniform(-config.shear_degrees, config.shear_degrees)
    return {
        "angle_degrees": round(angle, _DECIMALS),
        "translate_px": [rows, columns],
        "scale": round(scale, _DECIMALS),
        "shear_degrees": round(shear, _DECIMALS),
    }


def draw_elastic(config, generator, *, image_size_px):
    """The elastic part of ``draw``: the control points that act on the plane of the map.

    TorchIO reads the map as a volume of one slice, with a grid of slices x rows x columns control
    points. The slice lies at the centre of the grid, where the spline's weights of the grid's
    slices are known, so the grid is drawn whole and its weighted sum over slices kept: the same
    deformation in 1/15 of the numbers.

    Returns:
        Nested lists (rows, columns, 2) from the top left: at these control points the deformed map
        takes its values from so many px further down and further right.
    """
    slices, rows, columns = config.control_points
    largest_px = np.array(config.max_displacement_px[1:]) * image_size_px / REFERENCE_SIZE_PX
    grid = generator.uniform(-1, 1, size=(slices, rows, columns, 2)) * largest_px
    # FIDELITY: TorchIO locks the first two axes only, so the left and right borders move.
    grid[[0, -1]] = 0
    grid[:, [0, -1]] = 0
    plane = np.tensordot(_slice_weights(slices), grid, axes=1)
    return plane.round(_DECIMALS).tolist()


def transform(array, parameters, interpolation="nearest"):
    """Transform an image or a label map with drawn parameters; nothing is random here.

    Args:
        array: (H, W), of the size that the parameters were drawn for.
        parameters: from ``draw``.
        interpolation: ``nearest`` for label maps (no new ids appear), ``linear`` for images.

    Returns:
        (H, W) of the same type; what comes from beyond the array is 0.
    """
    size = parameters["image_size_px"]
    if array.shape != (size, size):
        raise ValueError(
            f"array of shape {array.shape}, but the parameters were drawn for {(size, size)}; "
            "resize the array or draw again"
        )
    if interpolation not in _ORDERS:
        raise ValueError(f"interpolation {interpolation!r}; expected one of {tuple(_ORDERS)}")
    moved = _affine(array.astype(np.float32), parameters, interpolation)
    moved = _elastic(moved, parameters, interpolation)
    whole = np.issubdtype(array.dtype, np.integer)
    return (np.rint(moved) if whole else moved).astype(array.dtype)


def apply(camus_map, parameters, *, sector):
    """One augmented map as the SDM sees it.

    Args:
        camus_map: (H, W) CAMUS ids of the frame.
        parameters: from ``draw``.
        sector: (H, W) bool, the sector of the untransformed image.

    Returns:
        (H, W) uint8 SDM ids: the transformed structures over the untransformed sector, clipped to
        it.
    """
    labels.require_labels(camus_map, len(labels.CAMUS_NAMES), "augment.apply")
    moved = transform(camus_map.astype(np.uint8, copy=False), parameters)
    return labels.clip_to_sector(labels.add_sector(moved, sector), sector)


def affine_matrix(parameters):
    """The forward map of torchvision's ``affine`` about the image centre.

    Returns:
        ``matrix`` (2, 2) and ``shift_px`` (2,), both in (x = columns, y = rows): a point at ``p``
        from the centre moves to ``matrix @ p + shift_px``.
    """
    angle, shear = (math.radians(parameters[k]) for k in ("angle_degrees", "shear_degrees"))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shearing = np.array([[1.0, -math.tan(shear)], [0.0, 1.0]])
    rows, columns = parameters["translate_px"]
    return parameters["scale"] * rotation @ shearing, np.array([columns, rows], dtype=float)


def _affine(array, parameters, interpolation):
    matrix, shift_px = affine_matrix(parameters)
    # SciPy asks for the map from output to input, in (rows, columns).
    inverse = np.linalg.inv(matrix)[::-1, ::-1]
    centre = (np.array(array.shape) - 1) / 2
    offset = centre - inverse @ (centre + shift_px[::-1])
    order = _ORDERS[interpolation]
    return scipy.ndimage.affine_transform(array, inverse, offset, order=order, mode="grid-constant")


def _elastic(array, parameters, interpolation):
    plane = np.array(parameters["displacement_px"])
    if not plane.any():
        return array
    grid = np.zeros((_SPLINE_ORDER + 1, *plane.shape[:2], 3))
    grid[..., 1:] = plane[::-1] * (-1, 1)  # TorchIO counts the second axis upwards
    # The largest displacement serves TorchIO to warn of possible folding alone, which the paper's
    # own values would do for every map.
    deformation = torchio.ElasticDeformation(grid, max_displacement=(0, 1e-3, 1e-3))
    volume = torch.from_numpy(array[None, None])
    return deformation.apply_bspline_transform(volume, np.eye(4), interpolation)[0, 0].numpy()


def _slice_weights(slices):
    spans = slices - _SPLINE_ORDER
    knots = np.arange(-_SPLINE_ORDER, spans + _SPLINE_ORDER + 1, dtype=float)
    splines = scipy.interpolate.BSpline(knots, np.eye(slices), _SPLINE_ORDER)
    return splines(spans / 2)
