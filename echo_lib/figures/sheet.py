"""Contact sheets: many frames in a grid, plain, with their labels or with their contours."""

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.style import (
    FOOT_MM,
    WIDTH_MM,
    axes_mm,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)

_GAP_MM, _LINE_MM, _SIDE_MM = 1.2, 3.0, 20.0
_MODES = ("images", "overlays", "contours", "label maps")


@paper_style()
def draw(rows, titles, *, stamp_text):
    """A grid of pictures with a title above each column and a name beside each row.

    Args:
        rows: name of the row to ``(mode, images, label_maps)``: mode one of ``images``,
            ``overlays``, ``contours``, ``label maps``; images
            and label maps (N, H, W), None where unused.
        titles: N column titles, of one or more lines.
        stamp_text: ``profile.stamp``.
    """
    side = (WIDTH_MM - _SIDE_MM) / len(titles) - _GAP_MM
    head = 1 + _LINE_MM * max(title.count("\n") + 1 for title in titles)
    height = FOOT_MM + head + len(rows) * (side + _GAP_MM)
    figure = new_figure(WIDTH_MM, height)
    canvas = canvas_mm(figure)
    for row, (name, (mode, images, label_maps)) in enumerate(rows.items()):
        y = height - head - (row + 1) * (side + _GAP_MM) + _GAP_MM
        canvas.text(_SIDE_MM - 2, y + side / 2, name, ha="right", va="center", fontsize=6.5)
        for column in range(len(titles)):
            axes = axes_mm(figure, _SIDE_MM + column * (side + _GAP_MM), y, side, side)
            _panel(axes, mode, images, label_maps, column)
    for column, title in enumerate(titles):
        x = _SIDE_MM + column * (side + _GAP_MM) + side / 2
        canvas.text(x, height - head / 2, title, ha="center", va="center", fontsize=6)
    if any(mode != "images" for mode, _, _ in rows.values()):
        overlay.class_legend(figure, bbox_to_anchor=(_SIDE_MM / WIDTH_MM, 0.002))
    return stamp(figure, stamp_text)


def _panel(axes, mode, images, label_maps, position):
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r}, expected one of {_MODES}")
    if mode == "images":
        overlay.show_image(axes, np.asarray(images[position]))
    elif mode == "label maps":
        overlay.show_label_map(axes, np.asarray(label_maps[position]))
    else:
        show = overlay.show_overlay if mode == "overlays" else overlay.show_contours
        show(axes, np.asarray(images[position]), np.asarray(label_maps[position]))
