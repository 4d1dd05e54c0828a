"""Fig. 4: images of extreme label maps; deformations in graded strengths; a morph as a film."""

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.style import (
    FOOT_MM,
    INK,
    MUTED,
    WIDTH_MM,
    axes_mm,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)

_GAP_MM, _HEAD_MM, _NOTE_MM = 1.2, 6.0, 3.0
_BAND_MM, _LINE_MM = 17.0, 3.2  # of the graded sheet: a row's name, the line above a picture
_FILM_COLUMNS = 8  # pictures side by side; a longer film goes on below


@paper_style()
def draw(titles, images, label_maps, *, stamp_text, note=""):
    """Columns of label maps; above the synthetic image, below the same with its map's contours.

    Args:
        titles: N column titles.
        images: (N, H, W).
        label_maps: (N, H, W) SDM ids that the images were made from.
        stamp_text: ``profile.stamp``.
        note: what else a reader must know: which weights drew the images.
    """
    _same_number(titles, images, label_maps)
    side = (WIDTH_MM - _GAP_MM * (len(titles) + 1)) / len(titles)
    foot = _foot(note)
    figure = new_figure(WIDTH_MM, foot + 2 * (side + _GAP_MM) + _HEAD_MM)
    canvas = canvas_mm(figure)
    for column, title in enumerate(titles):
        x = _GAP_MM + column * (side + _GAP_MM)
        y = foot + 2 * (side + _GAP_MM)
        canvas.text(
            x + side / 2, y + _HEAD_MM / 2 - 0.6, title, ha="center", va="center", fontsize=8
        )
        lower, upper = (
            axes_mm(figure, x, foot + row * (side + _GAP_MM), side, side) for row in (0, 1)
        )
        overlay.show_image(upper, np.asarray(images[column]))
        overlay.show_contours(lower, np.asarray(images[column]), np.asarray(label_maps[column]))
    return _signed(figure, stamp_text, note)


@paper_style()
def draw_grades(titles, strengths, images, label_maps, dice, *, stamp_text, note=""):
    """A row per deformation in growing strength; on each image the Dice of what is found in it.

    Args:
        titles: N names of deformations; equal ones stand together and share a row.
        strengths: N texts, how much.
        images: (N, H, W).
        label_maps: (N, H, W) SDM ids.
        dice: N mean Dice in 0..1 between map and what a segmentation network finds in the image.
        stamp_text: ``profile.stamp``.
        note: which weights drew the images, and which network judged them.
    """
    _same_number(titles, strengths, images, label_maps, dice)
    rows = list(dict.fromkeys(titles))
    each = max(list(titles).count(title) for title in rows)
    bands = 2 if len(rows) > 4 else 1
    lines = -(-len(rows) // bands)
    side = (WIDTH_MM / bands - _BAND_MM) / each - _GAP_MM
    foot, step = _foot(note), side + _LINE_MM + 0.6
    figure = new_figure(WIDTH_MM, foot + lines * step + 0.8)
    canvas = canvas_mm(figure)
    for number, title in enumerate(rows):
        band, line = divmod(number, lines)
        x, y = band * WIDTH_MM / bands, foot + (lines - 1 - line) * step
        name = title.replace(" ", "\n")
        canvas.text(x + _BAND_MM - 1.4, y + side / 2, name, ha="right", va="center", fontsize=6)
        for column, position in enumerate(np.flatnonzero([t == title for t in titles])):
            left = x + _BAND_MM + column * (side + _GAP_MM)
            centre = left + side / 2
            canvas.text(
                centre, y + side + 1.4, strengths[position], ha="center", va="center", fontsize=5.5
            )
            axes = axes_mm(figure, left, y, side, side)
            picture, label_map = np.asarray(images[position]), np.asarray(label_maps[position])
            overlay.show_contours(axes, picture, label_map, linewidth=0.55)
            _corner(axes, f"{100 * dice[position]:.0f} %")
    return _signed(figure, stamp_text, note)


@paper_style()
def draw_film(images, label_maps, *, stamp_text, note=""):
    """The frames of a morph, from left to right; each image above its contours.

    Args:
        images: (N, H, W).
        label_maps: (N, H, W) SDM ids.
        stamp_text: ``profile.stamp``.
        note: which weights drew the images.
    """
    _same_number(images, label_maps)
    bands = -(-len(images) // _FILM_COLUMNS)
    columns = -(-len(images) // bands)
    side = (WIDTH_MM - _GAP_MM) / columns - _GAP_MM
    foot, step = _foot(note), 2 * side + 2 * _GAP_MM + 1.0
    figure = new_figure(WIDTH_MM, foot + bands * step + 0.6)
    canvas_mm(figure)
    for position, (image, label_map) in enumerate(zip(images, label_maps, strict=True)):
        band, column = divmod(position, columns)
        x, y = _GAP_MM + column * (side + _GAP_MM), foot + (bands - 1 - band) * step
        upper = axes_mm(figure, x, y + side + _GAP_MM / 2, side, side)
        overlay.show_image(upper, np.asarray(image))
        _corner(upper, str(position + 1))
        lower = axes_mm(figure, x, y, side, side)
        overlay.show_contours(lower, np.asarray(image), np.asarray(label_map), linewidth=0.7)
    return _signed(figure, stamp_text, note)


def film_pictures(images, label_maps):
    """Each image beside itself under its labels, for an animation: uint8 (N, H, 2 W, 3)."""
    pairs = zip(np.asarray(images), np.asarray(label_maps), strict=True)
    pictures = [
        np.hstack([np.repeat(overlay.grey(i)[..., None], 3, axis=-1), overlay.blend(i, m)])
        for i, m in pairs
    ]
    return np.rint(255 * np.stack(pictures)).astype(np.uint8)


def _foot(note):
    return FOOT_MM + (_NOTE_MM if note else 0.6)


def _signed(figure, stamp_text, note):
    """Legend at the left of the foot, stamp at its right, the note in a line above."""
    height = figure.get_size_inches()[1] * 25.4
    left = _GAP_MM / WIDTH_MM
    overlay.class_legend(figure, bbox_to_anchor=(left, 0.002))
    if note:
        y = (FOOT_MM + 0.4) / height
        figure.text(1 - 1 / WIDTH_MM, y, note, ha="right", va="bottom", color=MUTED, fontsize=5.5)
    return stamp(figure, stamp_text)


def _corner(axes, text):
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    axes.text(
        0.03, 0.04, text, transform=axes.transAxes, fontsize=5, color=INK, bbox=box,
        ha="left", va="bottom",
    )  # fmt: skip


def _same_number(first, *others):
    lengths = [len(each) for each in (first, *others)]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(f"lengths {lengths}; expected one of each per picture, and one at least")
