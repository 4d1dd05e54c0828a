"""Hearts deformed by degrees, mild to extreme: label maps, and real frames alike as a control.

A deformation turns the heart about the image's centre, most at the centre itself, leans it and
makes it smaller; strength 1 is far beyond the paper's augmentation, which turns and leans by 5
degrees. The sector stays.
"""

import numpy as np
import torch
from scipy import ndimage

from echo_lib.labels import SDM_OUTSIDE
from echo_lib.sdm.sampling import sample
from echo_lib.seeding import torch_generator
from echo_lib.studio.deform import resample

# At strength 1; beyond it a network trained on real frames no longer finds real ones, deformed.
TURN_DEGREES = 60.0  # at the centre; it fades to none at half the image's side from there
LEAN_DEGREES = 15.0
SCALE = 0.8


def deform_map(label_map, strength, *, turn=1):
    """A label map at a strength.

    Args:
        label_map: (H, W) SDM ids, array or tensor.
        strength: 0 leaves the map as it is.
        turn: 1 turns clockwise and leans to the right, -1 the other way round.

    Returns:
        (H, W) uint8 array.
    """
    label_map = np.asarray(label_map)
    places = _places(label_map.shape, strength, turn)
    return resample(label_map, label_map != SDM_OUTSIDE, places, move="heart")[0]


def deform_image(image, label_map, strength, *, turn=1):
    """A real frame at a strength, cut to its sector: what ``deform_map`` does to its map.

    Args:
        image: (H, W) uint8, array or tensor.
        label_map: (H, W) SDM ids of the frame; its sector is read.
        strength, turn: see ``deform_map``.

    Returns:
        (H, W) uint8 array.
    """
    image, label_map = np.asarray(image), np.asarray(label_map)
    places = _places(image.shape, strength, turn)
    moved = ndimage.map_coordinates(image.astype(np.float32), places, order=1)
    return np.where(label_map != SDM_OUTSIDE, np.rint(moved), 0).astype(np.uint8)


def _places(shape, strength, turn):
    """(2, H, W): rows and columns in px that each pixel of the deformed image comes from."""
    centre = ((np.array(shape) - 1) / 2)[:, None, None]
    rows, columns = (np.indices(shape) - centre) / (1 - strength * (1 - SCALE))
    columns = columns + np.tan(turn * strength * np.radians(LEAN_DEGREES)) * rows
    reach = np.hypot(rows, columns) / (shape[0] / 2)
    angle = turn * strength * np.radians(TURN_DEGREES) * np.maximum(1 - reach**2, 0) ** 2
    turned = (
        np.cos(angle) * rows - np.sin(angle) * columns,
        np.sin(angle) * rows + np.cos(angle) * columns,
    )
    return np.stack(turned) + centre


def series(index, images, label_maps, strengths):
    """Every frame at every strength, one turned to the right, the next to the left.

    Args:
        index: data frame of N lines.
        images: (N, H, W) uint8.
        label_maps: (N, H, W) SDM ids.
        strengths: S numbers.

    Returns:
        The index with a column ``strength``, N x S lines, strengths varying fastest; and the
        deformed images and label maps, (N x S, H, W) uint8 arrays.
    """
    cases = index.loc[index.index.repeat(len(strengths))].reset_index(drop=True)
    cases["strength"] = list(strengths) * len(index)
    frames, maps = [], []
    for number, (image, label_map) in enumerate(zip(images, label_maps, strict=True)):
        for strength in strengths:
            turn = (-1) ** number
            frames.append(deform_image(image, label_map, strength, turn=turn))
            maps.append(deform_map(label_map, strength, turn=turn))
    return cases, np.stack(frames), np.stack(maps)


def sample_maps(denoiser, label_maps, config, *, names, seed):
    """Images of label maps, each from the noise of its name.

    Maps of one name share their noise, so their images differ by the maps alone.

    Args:
        denoiser: ``sdm.sampling.Denoiser``.
        label_maps: (N, H, W) uint8 array of SDM ids.
        config: ``SamplingConfig``.
        names: N names.
        seed: the run's.

    Returns:
        (N, H, W) uint8 array.
    """
    maps, names = torch.from_numpy(label_maps), list(names)
    parts = [maps[:0]]
    for first in range(0, len(maps), config.batch_size):
        batch = slice(first, first + config.batch_size)
        generators = [torch_generator("sample", seed, name) for name in names[batch]]
        parts.append(sample(denoiser, maps[batch], config, generators=generators))
    return torch.cat(parts).numpy()
