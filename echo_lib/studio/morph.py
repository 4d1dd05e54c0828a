"""A film from one anatomy to another: label maps between two, and the pictures as one GIF."""

import numpy as np
from PIL import Image

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_NAMES, SDM_OUTSIDE, require_labels
from echo_lib.provenance import atomic_path
from echo_lib.studio.shapes import VENTRICLE, is_one_of, signed_distance, without_heart


def morph(first, second, *, frames):
    """Label maps on the way from ``first`` to ``second``.

    The sector, the atrium, the ventricle with its wall, and its cavity each go their own way: their
    signed distances are interpolated, and painted over one another in this order.

    Args:
        first, second: (H, W) SDM ids of one size. A structure that one of them lacks grows from
            nothing, or shrinks to it.
        frames: how many, both ends included; 2 or more.

    Returns:
        (frames, H, W) uint8; its first and last maps are ``first`` and ``second``.
    """
    first, second = np.asarray(first), np.asarray(second)
    for label_map in (first, second):
        require_labels(label_map, len(SDM_NAMES), "morph")
    if first.shape != second.shape or first.ndim != 2 or frames < 2:
        raise ValueError(
            f"maps of {first.shape} and {second.shape} in {frames} frames; expected two maps of "
            "one size and 2 frames or more"
        )
    ways = [_distances(*pair) for pair in zip(_shapes(first), _shapes(second), strict=True)]
    return np.stack([_between(ways, t) for t in np.linspace(0.0, 1.0, frames)])


def save_animation(path, pictures, *, seconds_per_frame=0.12):
    """Write pictures as a GIF that runs there and back for ever, atomically.

    Args:
        path: of the file; it ends in .gif.
        pictures: (N, H, W) grey or (N, H, W, 3) colour, uint8, or floats in 0..1.
        seconds_per_frame: rounded to hundredths, as GIF counts.
    """
    pictures = np.asarray(pictures)
    if np.issubdtype(pictures.dtype, np.floating):
        pictures = np.rint(pictures * 255).astype(np.uint8)
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    frames = [Image.fromarray(np.ascontiguousarray(picture)) for picture in there_and_back]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], loop=0,
            duration=10 * round(100 * seconds_per_frame),
        )  # fmt: skip


def _shapes(label_map):
    """Masks of sector, atrium, ventricle with wall, cavity."""
    return (
        label_map != SDM_OUTSIDE,
        label_map == SDM_LA,
        is_one_of(label_map, VENTRICLE),
        label_map == SDM_LV,
    )


def _distances(before, after):
    """Signed distances of a shape in the two maps, finite where it is in one of them at least."""
    pair = [signed_distance(before), signed_distance(after)]
    known = [np.isfinite(distance).all() for distance in pair]
    if not any(known):  # absent, or everywhere, in both
        return [np.where(d < 0, -1.0, 1.0) for d in pair]
    for here, there in ((0, 1), (1, 0)):
        if not known[here]:  # moved until the last pixel is gone, or the last one is taken
            other, sign = pair[there], np.sign(pair[here])
            pair[here] = other - (other * sign).min() * sign + sign
    return pair


def _between(ways, t):
    sector, atrium, epi, endo = ((1 - t) * before + t * after < 0 for before, after in ways)
    label_map = without_heart(sector)
    label_map[atrium] = SDM_LA
    label_map[epi] = SDM_MYOCARDIUM
    label_map[endo & epi] = SDM_LV
    return label_map
