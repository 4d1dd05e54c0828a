"""Fig. 2: how the datasets are made, with this run's own counts."""

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.diagram import Place, arrow, box, elbow, label, thumbnail
from echo_lib.figures.style import (
    INK,
    MUTED,
    PANEL,
    RULE,
    VIEW_COLOURS,
    WIDTH_MM,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import PHASES, VIEWS

HEIGHT_MM = 98.0
_ROW_MM = 16.0
_TOPS_MM = {("2CH", "ED"): 86.0, ("2CH", "ES"): 68.0, ("4CH", "ED"): 44.0, ("4CH", "ES"): 26.0}
# Left edge and width of the columns: source, frames, augmented maps, SDM, synthetic, all frames.
_COLUMNS_MM = ((3, 22), (33, 33), (80, 33), (123, 15), (145, 15), (165, 13))


@paper_style()
def draw(frames, maps, images, label_maps, index, *, source, phases=("ED",), stamp_text):
    """Flow chart from patients to the five synthetic datasets.

    Args:
        frames: every prepared frame: columns ``patient``, ``view``, ``phase``, ``split``.
        maps: every augmented map: columns ``view``, ``phase``, ``split``.
        images: (N, H, W) one frame per view and phase, as thumbnails.
        label_maps: (N, H, W) SDM ids: an augmented map of each.
        index: data frame with ``view`` and ``phase``, aligned with the thumbnails.
        source: what the frames are, e.g. ``CAMUS``.
        phases: of the frames that the SDMs see.
        stamp_text: ``profile.stamp``.
    """
    figure = new_figure(WIDTH_MM, HEIGHT_MM)
    canvas = canvas_mm(figure)
    _headings(canvas)
    _source(canvas, frames, source)
    for position, key in enumerate(zip(index["view"], index["phase"], strict=True)):
        picture = np.asarray(images[position]), np.asarray(label_maps[position])
        _row(figure, canvas, key, counts(frames, *key), counts(maps, *key), picture)
    for view in VIEWS:
        seen = sum(counts(frames, view, phase)[0] for phase in phases)
        _model(canvas, view, f"trained on the {seen} {view} {' and '.join(phases)} training frames")
    _all_frames(canvas, counts(maps))
    return stamp(figure, stamp_text)


def counts(table, view=None, phase=None):
    """Rows in training and in validation, of one view and phase or of all.

    Raises:
        ValueError: none in training: the table is not one of frames or maps with their splits.
    """
    if view is not None:
        table = table[(table["view"] == view) & (table["phase"] == phase)]
    training, validation = (
        int((table["split"] == split).sum()) for split in ("training", "validation")
    )
    if training == 0:
        raise ValueError(
            f"no training rows for {view} {phase}; expected the index of a prepared run"
        )
    return training, validation


def _plus(pair):
    return f"{pair[0]} + {pair[1]}"


def _place(column, top, height=_ROW_MM):
    x, width = _COLUMNS_MM[column]
    return Place(x, top - height, width, height)


def _headings(canvas):
    titles = ("Patients", "Frames with labels", "Augmented label maps", "SDM", "Synthetic", "All")
    for (x, width), title in zip(_COLUMNS_MM, titles, strict=True):
        label(
            canvas, x + width / 2, HEIGHT_MM - 5, title, fontsize=7.5, weight="bold", va="baseline"
        )
    label(canvas, 2, 2.4, "counts: training + validation", colour=MUTED, fontsize=5.5, ha="left")


def _patients(frames, split):
    return frames.loc[frames["split"] == split, "patient"].nunique()


def _source(canvas, frames, source):
    pair = _patients(frames, "training"), _patients(frames, "validation")
    place = box(
        canvas, _place(0, 64, 24), f"{source}\n\n{_plus(pair)}\npatients", fill=PANEL, fontsize=7
    )
    for top in _TOPS_MM.values():
        middle = top - _ROW_MM / 2
        bus = (_COLUMNS_MM[0][0] + _COLUMNS_MM[0][1] + 4, place.right[1])
        target = (_COLUMNS_MM[1][0], middle)
        elbow(canvas, [place.right, bus, (bus[0], middle), target], colour=MUTED)
    held_out = _patients(frames, "test")
    if held_out:
        text = f"Test split\n{held_out} patient{'s' * (held_out != 1)}\nheld out"
        box(canvas, _place(0, 30, 14), text, edge=MUTED, fontsize=6, colour=MUTED)
        arrow(canvas, place.bottom, (place.bottom[0], 30), colour=MUTED, dashed=True)


def _row(figure, canvas, key, of_frames, of_maps, picture):
    image, label_map = picture
    top, colour = _TOPS_MM[key], VIEW_COLOURS[key[0]]
    frames, maps, synthetic = (_place(column, top) for column in (1, 2, 4))
    box(canvas, frames, edge=colour)
    box(canvas, maps, edge=colour)
    for place, show, noun, pair in (
        (frames, overlay.show_image, "frames", of_frames),
        (maps, overlay.show_label_map, "maps", of_maps),
    ):
        inset = Place(place.x + 1.5, place.y + 1.5, _ROW_MM - 3, _ROW_MM - 3)
        thumbnail(
            figure, inset, show, image if show is overlay.show_image else label_map, frame=RULE
        )
        text = f"{key[0]} {key[1]}\n{_plus(pair)}\n{noun}"
        label(canvas, place.x + 24, place.centre[1], text, fontsize=6.2)
    box(
        canvas, synthetic, f"{key[0]} {key[1]}\n{_plus(of_maps)}\nimages", edge=colour, fontsize=5.8
    )
    arrow(canvas, frames.right, maps.left, colour=colour)
    times = f"× {of_maps[0] // of_frames[0]}"
    label(canvas, (frames.right[0] + maps.left[0]) / 2, frames.centre[1] + 2.4, times, fontsize=7)
    arrow(canvas, maps.right, (_COLUMNS_MM[3][0], maps.centre[1]), colour=colour)
    arrow(canvas, (sum(_COLUMNS_MM[3]), maps.centre[1]), synthetic.left, colour=colour)
    arrow(canvas, synthetic.right, (_COLUMNS_MM[5][0], synthetic.centre[1]), colour=colour)


def _model(canvas, view, text):
    """The view's SDM, trained on frames as they are: the dashed way over the augmented maps."""
    colour, top = VIEW_COLOURS[view], _TOPS_MM[view, "ED"]
    height = top - _TOPS_MM[view, PHASES[-1]] + _ROW_MM
    place = _place(3, top, height)
    box(
        canvas,
        place,
        f"SDM\n{view}",
        fill=colour,
        edge=colour,
        fontsize=8,
        weight="bold",
        colour="white",
    )
    start, over = _place(1, top).top, top + 2.2
    elbow(
        canvas,
        [start, (start[0], over), (place.top[0], over), place.top],
        colour=colour,
        dashed=True,
    )
    x, width = _COLUMNS_MM[2]
    label(canvas, x + width / 2, over + 1.6, text, colour=colour, fontsize=5.8)


def _all_frames(canvas, of_maps):
    bottom = min(_TOPS_MM.values()) - _ROW_MM
    place = Place(_COLUMNS_MM[5][0], bottom, _COLUMNS_MM[5][1], max(_TOPS_MM.values()) - bottom)
    text = f"All\nframes\n\n{of_maps[0]}\n+ {of_maps[1]}\nimages"
    box(canvas, place, text, fill=PANEL, edge=INK, fontsize=6.2)
