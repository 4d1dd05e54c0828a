"""Two sets of frames side by side, many small pictures each: could one tell them apart?"""

import math

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.style import FOOT_MM, WIDTH_MM, axes_mm, canvas_mm, new_figure, paper_style
from echo_lib.figures.style import stamp as write_stamp

_GAP_MM, _HEAD_MM, _BETWEEN_MM = 0.4, 5.0, 4.0


@paper_style()
def draw(sets, *, stamp_text):
    """Each set as one square of pictures, a name and the number of pictures above it.

    Args:
        sets: name to (N, H, W) images, uint8; as many of each, or fewer.
        stamp_text: ``profile.stamp``.
    """
    columns = math.ceil(math.sqrt(max(len(images) for images in sets.values())))
    side = (WIDTH_MM - (len(sets) - 1) * _BETWEEN_MM) / len(sets)
    figure = new_figure(WIDTH_MM, side + _HEAD_MM + FOOT_MM)
    canvas = canvas_mm(figure)
    for number, (name, images) in enumerate(sets.items()):
        x = number * (side + _BETWEEN_MM)
        title = f"{name} ({len(images)})"
        y = FOOT_MM + side + _HEAD_MM / 2
        canvas.text(x + side / 2, y, title, ha="center", va="center", fontsize=7)
        axes = axes_mm(figure, x, FOOT_MM, side, side)
        overlay.show_image(axes, tiled(np.asarray(images), columns))
    return write_stamp(figure, stamp_text)


def tiled(images, columns):
    """(N, H, W) images as one picture of ``columns`` by ``columns``, white between and after them.

    Args:
        images: (N, H, W) uint8, N at most columns**2.
        columns: pictures in a row.
    """
    height, width = images.shape[1:]
    gap = max(1, round(width * _GAP_MM / 10))
    step = height + gap, width + gap
    picture = np.full([columns * size - gap for size in step], 255, dtype=np.uint8)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = row * step[0], column * step[1]
        picture[top : top + height, left : left + width] = image
    return picture
