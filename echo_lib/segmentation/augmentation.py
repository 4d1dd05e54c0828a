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


def draw_batch(config, items, *, key):
    """The transforms of a batch: (B, 6) float32, a row as from ``draw``.

    Args:
        config: a ``SegmentationConfig``.
        items: B tuples of strings and integers that name each item, e.g. (pass, name).
        key: what else names the draw: seed, row.
    """
    drawn = [draw(config, numpy_generator("augmentation", *key, *item)) for item in items]
    return torch.tensor(drawn, dtype=torch.float32).reshape(-1, len(COLUMNS))


def apply(images, label_maps, parameters, *, normalisation=(0.0, 1.0)):
    """Transform pairs: gamma, then flip, zoom, rotation and shift about the centre.

    Args:
        images: (B, 1, H, W) uint8.
        label_maps: (B, H, W) uint8.
        parameters: (B, 6) float32, from ``draw_batch``.
        normalisation: mean and std to bring to 0 and 1, last of all.

    Returns:
        (B, 1, H, W) float32, on the scale 0 to 1 before the normalisation, and (B, H, W) uint8;
        what enters from beyond the border is 0: black, and background.
    """
    n, height, width = label_maps.shape
    mean, std = normalisation
    # 256 grey values to the power of gamma, instead of every pixel.
    levels = torch.arange(256, device=images.device) / 255
    table = (levels ** parameters[:, :1] - mean) / std
    # A border of one black pixel: whatever lies further out is looked up there.
    images, label_maps = F.pad(images[:, 0], (1, 1, 1, 1)), F.pad(label_maps, (1, 1, 1, 1))
    grey = table.flatten().index_select(0, (images + 256 * _numbers(images)).flatten())
    # FIDELITY: the image too is resampled by nearest neighbour, as in the released code.
    looked_up = source_pixels(parameters, (height, width)).flatten()
    return (
        grey.index_select(0, looked_up).reshape(n, 1, height, width),
        label_maps.flatten().index_select(0, looked_up).reshape(n, height, width),
    )


def source_pixels(parameters, size):
    """Which pixel each output pixel shows: (B, H, W) int32, into B flat images with a border of 1.

    Written pixel by pixel, without a matrix product, whose rounding may depend on the batch.

    Args:
        parameters: (B, 6) float32, from ``draw_batch``.
        size: (H, W), without the border; (H + 2) (W + 2) < 2**24, to be exact in float32.
    """
    height, width = size
    _, flip, degrees, shift_x, shift_y, scale = parameters[:, :, None].unbind(1)
    angle = torch.deg2rad(degrees)
    cosine, sine, mirror = torch.cos(angle) / scale, torch.sin(angle) / scale, 1 - 2 * flip
    # Pixels from the centre, first shifted, then turned and zoomed, then mirrored.
    x, y = _from_centre(width, shift_x), _from_centre(height, shift_y)
    row = (-x * sine)[:, None, :] + (y * cosine + (height - 1) / 2)[:, :, None]
    column = (x * cosine * mirror)[:, None, :] + (y * sine * mirror + (width - 1) / 2)[:, :, None]
    row, column = row.round_().clamp_(-1, height), column.round_().clamp_(-1, width)
    place = row.mul_(width + 2).add_(column).to(torch.int32)
    # Counted from the first pixel of each image that is not its border.
    first = _numbers(place) * ((height + 2) * (width + 2)) + width + 3
    return place.add_(first)


def _from_centre(n, shift):
    return torch.arange(n, device=shift.device) - (n - 1) / 2 - shift * n


def _numbers(like):
    return torch.arange(len(like), device=like.device, dtype=torch.int32).reshape(-1, 1, 1)
