"""Fig. 3: synthetic images of both views and phases, with the label maps they were made from."""

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.style import (
    FOOT_MM,
    INK,
    WIDTH_MM,
    axes_mm,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import PHASES, VIEWS

ROWS = ("A", "B", "C")
_LEFT_MM, _TOP_MM, _GAP_MM = 7.0, 6.0, 1.2


@paper_style()
def draw(index, images, label_maps, *, stamp_text):
    """Columns of views and phases; A synthetic image, B overlaid with its map, C with its contours.

    Args:
        index: data frame with columns ``view`` and ``phase``, one row per view and phase.
        images: (N, H, W), aligned with ``index``.
        label_maps: (N, H, W) SDM ids, aligned with ``index``.
        stamp_text: ``profile.stamp``.
    """
    columns = _columns(index)
    side = (WIDTH_MM - _LEFT_MM - len(columns) * _GAP_MM) / len(columns)
    height = FOOT_MM + len(ROWS) * (side + _GAP_MM) + _TOP_MM
    figure = new_figure(WIDTH_MM, height)
    canvas = canvas_mm(figure)
    for column, (title, position) in enumerate(columns.items()):
        x = _LEFT_MM + column * (side + _GAP_MM)
        canvas.text(x + side / 2, height - _TOP_MM / 2, title, ha="center", va="center", fontsize=8)
        for row in range(len(ROWS)):
            y = height - _TOP_MM - (row + 1) * (side + _GAP_MM) + _GAP_MM
            axes = axes_mm(figure, x, y, side, side)
            _panel(axes, ROWS[row], np.asarray(images[position]), np.asarray(label_maps[position]))
    for row, letter in enumerate(ROWS):
        y = height - _TOP_MM - row * (side + _GAP_MM) - side / 2
        canvas.text(_LEFT_MM / 2, y, f"{letter})", ha="center", va="center", fontsize=9, color=INK)
    overlay.class_legend(figure, bbox_to_anchor=(_LEFT_MM / WIDTH_MM, 0.002))
    return stamp(figure, stamp_text)


def _columns(index):
    """Column titles to positions in the arrays, in the paper's order."""
    keys = list(zip(index["view"], index["phase"], strict=True))
    wanted = [(view, phase) for view in VIEWS for phase in PHASES]
    if sorted(keys) != sorted(wanted):
        raise ValueError(
            f"rows for {sorted(keys)}, expected one each for {wanted}; select them first"
        )
    return {f"{view} {phase}": keys.index((view, phase)) for view, phase in wanted}


def _panel(axes, row, image, label_map):
    if row == "A":
        overlay.show_image(axes, image)
    elif row == "B":
        overlay.show_overlay(axes, image, label_map)
    else:
        overlay.show_contours(axes, image, label_map)
