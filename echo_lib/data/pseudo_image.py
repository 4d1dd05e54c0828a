"""The renderer of pseudo-images: from a five-class label map to what the CycleGAN starts from.

Mesh slices and augmented label maps both go through it, and it sees the label map alone, so what
the CycleGAN learns from and what it translates look alike. Simple on purpose: realism is the
CycleGAN's part.
"""

import functools

import numpy as np
from scipy import ndimage

from echo_lib import labels
from echo_lib.data import speckle

# Mean grey level of each SDM class, and how far it is drawn from there. [choice]
_GREY = {
    labels.SDM_LV: (38.0, 6.0),
    labels.SDM_SECTOR: (96.0, 10.0),
    labels.SDM_MYOCARDIUM: (140.0, 12.0),
    labels.SDM_LA: (44.0, 6.0),
}
_BEAMS = (144, 72)  # depths and angles of the speckle's grid: its grain is the same at any size
_BEAM_HALF_ANGLE = 45.0  # degrees; wide enough for any sector
_GREY_PER_DB = 2.6  # of the speckle


def render(label_map, *, rng):
    """A pseudo-image: each tissue's mean intensity, blood dark, under speckle.

    Args:
        label_map: (H, W) SDM ids.
        rng: NumPy generator of the item.

    Returns:
        (H, W) uint8; 0 exactly outside the sector, 1 to 255 inside.
    """
    labels.require_labels(label_map, len(labels.SDM_NAMES), "pseudo.render")
    grey = np.zeros(len(labels.SDM_NAMES))
    for label, (mean, spread) in _GREY.items():
        grey[label] = rng.uniform(mean - spread, mean + spread)
    inside = label_map != labels.SDM_OUTSIDE
    # Soft borders, without the outside's black in them.
    softness = 0.004 * len(label_map)
    total = ndimage.gaussian_filter(grey[label_map], softness)
    weight = ndimage.gaussian_filter(inside.astype(float), softness)
    level = total / np.maximum(weight, 1e-6) + _GREY_PER_DB * _speckle(label_map.shape, rng)
    return np.where(inside, np.clip(np.rint(level), 1, 255), 0).astype(np.uint8)


def _speckle(shape, rng):
    """Fully developed speckle in dB, (H, W), scan converted from a probe at the square's top."""
    white = rng.standard_normal((2, *_BEAMS), dtype=np.float32) / np.float32(2.0**0.5)
    echo = speckle.blur(white[0] + 1j * white[1], axial=0.7, lateral=(1.1, 0.7, 0.9))
    decibels = 10.0 * np.log10(np.abs(echo) ** 2 + 1e-2)
    return ndimage.map_coordinates(decibels, _beam_places(shape), order=1, mode="nearest")


@functools.lru_cache(maxsize=4)
def _beam_places(shape):
    """Row and column (2, H, W) on the beam grid of each pixel of a square with the probe on top."""
    height, width = shape
    z = (np.arange(height)[:, None] + 0.5) / height
    x = (np.arange(width)[None, :] + 0.5) / width - 0.5
    x = x * 2.0 * np.sin(np.radians(37.5))  # a sector of 75 degrees fills the square
    angle = np.degrees(np.arctan2(x, z)) / _BEAM_HALF_ANGLE
    depth = np.hypot(x, z)
    return np.stack([depth * (_BEAMS[0] - 1), (angle + 1.0) / 2.0 * (_BEAMS[1] - 1)])
