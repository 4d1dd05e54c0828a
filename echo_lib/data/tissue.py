"""Mean echo level of every pixel of a phantom frame, in dB: what each tissue sends back."""

import numpy as np
from scipy import ndimage

from echo_lib.data.anatomy import SPACING_MM, atrium_mask, heart_coordinates, ventricle_half_width
from echo_lib.labels import CAMUS_BACKGROUND, CAMUS_LV, CAMUS_MYOCARDIUM

BLOOD_DB, MUSCLE_DB, SURROUNDING_DB = -24.0, 0.0, -1.0


def echo_level(frame, label_map, rng):
    """Mean echo level of a frame.

    Args:
        frame: ``anatomy.Geometry``.
        label_map: (H, W) CAMUS ids of the same frame.
        rng: NumPy generator of the patient's view, the same for both phases.

    Returns:
        (H, W) float32, dB relative to muscle.
    """
    along, across = heart_coordinates(frame)
    level = np.full(label_map.shape, SURROUNDING_DB)
    if frame.shape.ventricle_width > 0:
        _add_right_heart(level, frame, along, across, label_map == CAMUS_BACKGROUND)
    level[label_map == CAMUS_MYOCARDIUM] = MUSCLE_DB
    level[(label_map == CAMUS_LV) | atrium_mask(frame.shape, along, across)] = BLOOD_DB
    _add_papillary_muscles(level, frame, along, across, label_map == CAMUS_LV, rng)
    level = ndimage.gaussian_filter(level, 1.0)
    _add_interfaces(level, frame, along, across, label_map, rng)
    return level.astype(np.float32)


def _edge(mask, width_mm=0.8):
    """A soft line along the border of ``mask``, 1 on it and 0 away from it."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), width_mm / SPACING_MM)
    return 4.0 * soft * (1.0 - soft)


def _add_right_heart(level, frame, along, across, free):
    """Right ventricle and right atrium, left of the septum; their free wall and valve."""
    shape = frame.shape
    epicardium = ventricle_half_width(shape, along, across, shape.wall)
    beyond = -across - epicardium
    t = np.clip(along / (0.82 * shape.length), 0.0, 1.0)
    width = shape.ventricle_width * np.sqrt(1.0 - t**1.6)
    ventricle = free & (beyond > 0) & (beyond < width) & (along > 4) & (t < 1)
    below = (along + 0.55 * shape.atrium_length) / (0.45 * shape.atrium_length)
    centre = shape.atrium_half_width + 5.0 + 0.55 * shape.ventricle_width
    sideways = (across + centre) / (0.6 * shape.ventricle_width + 4.0)
    atrium = free & (below**2 + sideways**2 < 1)
    level[_near(ventricle, 4.0) & free & (across < 0)] = MUSCLE_DB + 1.0
    level[ventricle | atrium] = BLOOD_DB
    level += 8.0 * _edge(ventricle) + 8.0 * _edge(atrium)


def _near(mask, distance_mm):
    """``mask`` and what lies within ``distance_mm`` of it."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), distance_mm / SPACING_MM / 1.5)
    return soft > 0.08


def _add_papillary_muscles(level, frame, along, across, cavity, rng):
    """Blobs inside the cavity, against either wall; the expert's contour runs behind them."""
    half = ventricle_half_width(frame.shape, along, across)
    for side, strength in ((1.0, rng.uniform(14.0, 24.0)), (-1.0, rng.uniform(0.0, 16.0))):
        t, thickness = rng.uniform(0.35, 0.6), rng.uniform(3.0, 4.5)
        distance = (half - side * across) / thickness
        reach = (along / frame.shape.length - t) / 0.16
        level += cavity * strength * np.exp(-(distance**2) - reach**2)


def _add_interfaces(level, frame, along, across, label_map, rng):
    """Endocardium, valve leaflets, annulus, atrial wall and pericardium: bright lines."""
    shape = frame.shape
    septal, lateral = rng.uniform(8.0, 20.0), rng.uniform(2.0, 12.0)
    side = np.where(across < 0, septal, lateral)
    level += side * _edge(label_map == CAMUS_LV, 1.0) * (along > 1)
    level += rng.uniform(4.0, 11.0) * _edge(atrium_mask(shape, along, across)) * (along < -2)
    level += _mitral_valve(shape, along, across, rng)
    outer = ventricle_half_width(shape, along, across, shape.wall + 2.5)
    pericardium = np.exp(-(((np.abs(across) - outer) / 1.5) ** 2)) * (along > -4)
    depthwards = np.clip(1.0 - along / shape.length, 0.0, 1.0)
    left = 0.0 if shape.ventricle_width > 0 else rng.uniform(4.0, 15.0)
    level += pericardium * depthwards * np.where(across > 0, rng.uniform(8.0, 20.0), left)


def _mitral_valve(shape, along, across, rng):
    """Two leaflets that meet above the mitral plane, and the annulus they hang from."""
    half = 0.82 * shape.half_width
    leaflet = rng.uniform(2.0, 8.0) * (1.0 - np.abs(across) / half)
    line = np.exp(-(((along - leaflet) / 1.1) ** 2)) * (np.abs(across) < half)
    ends = (np.abs(across) - half - 2.0) ** 2 + (along + 1.0) ** 2
    return rng.uniform(22.0, 34.0) * line + rng.uniform(5.0, 12.0) * np.exp(-ends / 3.5**2)
