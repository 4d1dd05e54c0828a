"""Fig. 5: images of two generators for the same label maps, mild to extreme."""

import numpy as np
import scipy.ndimage
from matplotlib import patheffects
from matplotlib.lines import Line2D

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
from echo_lib.labels import STRUCTURES, remove_sector, structure_mask

MISSED, FOLLOWED = "#FF3B30", "#39E75F"
_LEFT_MM, _TOP_MM, _GAP_MM, _GROUP_MM = 7.0, 6.0, 1.0, 2.0
_ARROW_SHARE = 0.2  # of the panel's side
_SHORTEST = 4  # points of a contour, about a pixel each
_EDGE = [patheffects.withStroke(linewidth=2.0, foreground="black")]


@paper_style()
def draw(titles, label_maps, images, gaps, *, threshold_px, places, scores, stamp_text):
    """Columns of label maps; for each generator its images, and below these the map upon them.

    Stretches of the map's contours are dashed where the re-segmentation of one generator's image or
    of both lies further away than ``threshold_px``: red in an image that misses the map, green in
    one that follows it there. An arrow in the same two colours points to the given place.

    Args:
        titles: S column titles.
        label_maps: (S, H, W) SDM ids.
        images: name of the generator to its (S, H, W) images.
        gaps: name of the generator to (S, 3, H, W), distances in px on the map's contours, a layer
            per structure of Table 1, NaN elsewhere.
        threshold_px: wider gaps are missed.
        places: S entries (structure, row, column, ...); None, or one that all follow, has no arrow.
        scores: name of the generator to S numbers written on the overlays: mean Dice.
        stamp_text: ``profile.stamp``.
    """
    side = (WIDTH_MM - _LEFT_MM - len(titles) * _GAP_MM) / len(titles)
    group = 2 * (side + _GAP_MM)
    height = FOOT_MM + len(images) * (group + _GROUP_MM) + _TOP_MM
    figure = new_figure(WIDTH_MM, height)
    canvas = canvas_mm(figure)
    for number, name in enumerate(images):
        top = height - _TOP_MM - number * (group + _GROUP_MM)
        _write(canvas, _LEFT_MM / 2, top - group / 2, name, rotation=90, fontsize=8)
        for column in range(len(titles)):
            x, image = _LEFT_MM + column * (side + _GAP_MM), np.asarray(images[name][column])
            overlay.show_image(axes_mm(figure, x, top - side, side, side), image)
            lower = axes_mm(figure, x, top - group + _GAP_MM, side, side)
            overlay.show_overlay(lower, image, label_maps[column], alpha=0.25)
            _write_score(lower, scores[name][column])
            missed = _missed(np.stack([gaps[each][column] for each in images]), threshold_px)
            _mark_contours(lower, np.asarray(label_maps[column]), missed, number)
            _mark_place(lower, places[column], missed, number)
    for column, title in enumerate(titles):
        x = _LEFT_MM + column * (side + _GAP_MM) + side / 2
        _write(canvas, x, height - _TOP_MM / 2, title, fontsize=7)
    _legend(figure, threshold_px)
    return stamp(figure, stamp_text)


def _write(canvas, x, y, text, **keywords):
    canvas.text(x, y, text, ha="center", va="center", **keywords)


def _missed(gaps, threshold_px):
    """(G, 3, H, W) bool: every pixel takes the answer of the nearest one on the map's contour."""
    spread = np.zeros(gaps.shape, dtype=bool)
    for layer in range(gaps.shape[1]):
        off = np.isnan(gaps[0, layer])
        if not off.all():
            nearest = scipy.ndimage.distance_transform_edt(
                off, return_distances=False, return_indices=True
            )
            spread[:, layer] = (gaps[:, layer] > threshold_px)[:, *nearest]
    return spread


def _mark_contours(axes, label_map, missed, here):
    """Dash the map's contours where any generator misses them, in the colour of this one."""
    camus_map = remove_sector(label_map)
    for layer, structure in enumerate(STRUCTURES):
        mask = structure_mask(camus_map, structure)
        if not mask.any() or mask.all() or not missed[:, layer].any():
            continue
        lines = axes.contour(mask.astype(np.float32), levels=[0.5], linewidths=0)
        for line in lines.allsegs[0]:
            columns, rows = np.rint(line).astype(int).T
            red = missed[here, layer, rows, columns]
            green = missed[:, layer, rows, columns].any(axis=0) & ~red
            for colour, chosen in ((FOLLOWED, green), (MISSED, red)):
                _dash(axes, line, chosen, colour)
        lines.remove()


def _dash(axes, line, chosen, colour):
    """The chosen stretches of a line, without those too short for a dash."""
    runs, count = scipy.ndimage.label(chosen)
    lengths = np.bincount(runs, minlength=count + 1)
    long = chosen & (lengths[runs] >= _SHORTEST)
    if not long.any():
        return
    line = np.where(long[:, None], line, np.nan)
    axes.plot(*line.T, color=colour, linewidth=1.3, linestyle=(0, (2.2, 1.2)), path_effects=_EDGE)


def _mark_place(axes, place, missed, here):
    if place is None:
        return
    structure, row, column, *_ = place
    layer = STRUCTURES.index(structure)
    if not missed[:, layer, row, column].any():
        return
    size = np.array(missed.shape[2:])
    # The arrow comes from the side of the image's centre: there is always room for it.
    way = (size - 1) / 2 - (row, column)
    length = np.hypot(*way)
    way = way / length if length > 1 else np.array([1.0, 0.0])
    start = np.array([row, column]) + way * _ARROW_SHARE * size
    colour = MISSED if missed[here, layer, row, column] else FOLLOWED
    arrow = axes.annotate(
        "", xy=(column, row), xytext=start[::-1],
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkB": 1},
    )  # fmt: skip
    arrow.arrow_patch.set_path_effects(_EDGE)


def _write_score(axes, score):
    keywords = {"transform": axes.transAxes, "ha": "left", "va": "bottom", "color": "white"}
    axes.text(0.03, 0.03, f"Dice {100 * score:.0f} %", fontsize=5.5, **keywords)


def _legend(figure, threshold_px):
    names = {
        MISSED: f"map missed by more than {threshold_px:.1f} px",
        FOLLOWED: "followed here, missed by the other",
    }
    handles = [
        Line2D([], [], color=colour, linestyle=(0, (2.2, 1.2)), linewidth=1.5, label=name)
        for colour, name in names.items()
    ]
    place = {"loc": "lower left", "borderpad": 0.1, "borderaxespad": 0.1, "labelcolor": INK}
    figure.legend(handles=handles, ncols=2, bbox_to_anchor=(_LEFT_MM / WIDTH_MM, 0.002), **place)
