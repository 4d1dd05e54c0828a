"""Random transforms of image and label map together, drawn per item and applied per batch.

Drawing (NumPy, one generator per item and epoch) is apart from applying (torch, pure), so a pair's
transform depends neither on its batch nor on the device.
"""

import torch
import torch.nn.functional as F

from echo_lib.seeding import numpy_generator

COLUMNS = ("gamma", "flip", "degrees", "translate_x", "translate_y", "scale")


def draw(config, generator):
    """One item's transform.

    Args:
        config: a ``SegmentationConfig``.
        generator: the item's NumPy generator.

    Returns:
        Six floats, as COLUMNS: the exponent, flip 0 or 1, the angle, the shift as a fraction of
        width and of height, the zoom.
    """
    u = generator.random(6)
    shift_x, shift_y = config.translate
    return (
        _between(config.gamma, u[0]),
        float(u[1] < config.flip_probability),
        _between(config.degrees, u[2]),
        _between((-shift_x, shift_x), u[3]),
        _between((-shift_y, shift_y), u[4]),
        _between(config.scale, u[5]),
    )


def _between(limits, u):
    return limits[0] + (limits[1] - limits[0]) * float(u)


def draw_batch(config, names, *, key):
    """The transforms of a batch: (B, 6) float32, a row as from ``draw``.

    Args:
        config: a ``SegmentationConfig``.
        names: the items' names.
        key: what else names the draw: seed, row, epoch.
    """
    drawn = [draw(config, numpy_generator("augmentation", *key, name)) for name in names]
    return torch.tensor(drawn, dtype=torch.float32).reshape(-1, len(COLUMNS))


def apply(images, label_maps, parameters):
    """Transform pairs: gamma, then flip, zoom, rotation and shift about the centre.

    Args:
        images: (B, 1, H, W) float32 in [0, 1].
        label_maps: (B, H, W) integers.
        parameters: (B, 6) float32, from ``draw_batch``.

    Returns:
        The images and label maps in the same shapes and types; what enters from beyond the
        border is 0: black, and background.
    """
    grid = sampling_grid(parameters, images.shape[-2:])
    pair = torch.cat([images, label_maps[:, None].to(images.dtype)], dim=1)
    # FIDELITY: the image too is resampled by nearest neighbour, as in the released code.
    pair = F.grid_sample(pair, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    gamma = parameters[:, 0].reshape(-1, 1, 1, 1)
    return pair[:, :1] ** gamma, pair[:, 1].to(label_maps.dtype)


def sampling_grid(parameters, size):
    """Where each output pixel looks in the input: (B, H, W, 2), x and y in [-1, 1].

    Written pixel by pixel, without a matrix product, whose rounding may depend on the batch.
    """
    height, width = size
    _, flip, degrees, shift_x, shift_y, scale = parameters[:, :, None, None].unbind(1)
    cosine, sine = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    x = _centres(width, parameters).reshape(1, 1, width) - 2 * shift_x
    y = _centres(height, parameters).reshape(1, height, 1) - 2 * shift_y
    # A rotation acts on pixels, so the normalised axes are weighted by the aspect ratio.
    source_x = (x * cosine + y * sine * (height / width)) / scale
    source_y = (y * cosine - x * sine * (width / height)) / scale
    return torch.stack([source_x * (1 - 2 * flip), source_y], dim=-1)


def _centres(n, like):
    return (torch.arange(n, device=like.device, dtype=like.dtype) * 2 + 1) / n - 1
