"""Pieces of flow charts: boxes, arrows, thumbnails, stacks of cards and the U-Net's glyph.

All places and sizes are millimetres on a canvas made by ``style.canvas_mm``.
"""

from dataclasses import dataclass

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from echo_lib.figures.style import INK, MUTED, PANEL, RULE, axes_mm


@dataclass(frozen=True)
class Place:
    """A rectangle on the canvas by its lower left corner, and the points where arrows meet it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self):
        return self.x, self.y + self.height / 2

    @property
    def right(self):
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self):
        return self.x + self.width / 2, self.y + self.height

    @property
    def bottom(self):
        return self.x + self.width / 2, self.y

    @property
    def centre(self):
        return self.x + self.width / 2, self.y + self.height / 2


def box(
    canvas, place, text="", *, fill="white", edge=RULE, fontsize=6.5, weight="normal", colour=INK
):
    """A rounded box with centred text."""
    patch = FancyBboxPatch(
        (place.x, place.y), place.width, place.height, boxstyle="round,pad=0,rounding_size=1.4",
        facecolor=fill, edgecolor=edge, linewidth=0.8, zorder=1,
    )  # fmt: skip
    canvas.add_patch(patch)
    canvas.text(
        *place.centre, text, ha="center", va="center", fontsize=fontsize, weight=weight,
        color=colour, linespacing=1.35, zorder=3,
    )  # fmt: skip
    return place


def panel(canvas, place, title):
    """A tinted ground for one row of a figure, its title set upright at the left edge."""
    box(canvas, place, fill=PANEL, edge=PANEL)
    canvas.text(
        place.x + 3, place.y + place.height / 2, title, ha="center", va="center", rotation=90,
        fontsize=7.5, weight="bold", zorder=3,
    )  # fmt: skip
    return place


def arrow(canvas, start, end, *, colour=INK, dashed=False, bend=0.0, linewidth=0.9):
    """An arrow from point to point; ``bend`` curves it, dashes mark what is not data."""
    canvas.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>,head_length=2.4,head_width=1.3", mutation_scale=1.0,
            shrinkA=1.5, shrinkB=1.5, color=colour, linewidth=linewidth,
            linestyle=(0, (3, 2)) if dashed else "solid",
            connectionstyle=f"arc3,rad={bend}", zorder=2,
        )
    )  # fmt: skip


def elbow(canvas, points, *, colour=INK, dashed=False, linewidth=0.9):
    """An arrow along right angles through ``points``."""
    xs, ys = zip(*points[:-1], strict=True)
    style = (0, (3, 2)) if dashed else "solid"
    canvas.plot(xs, ys, color=colour, linewidth=linewidth, linestyle=style, zorder=2)
    arrow(canvas, points[-2], points[-1], colour=colour, dashed=dashed, linewidth=linewidth)


def label(canvas, x, y, text, *, colour=INK, fontsize=6, ha="center", va="center", **keywords):
    """A line or two of text."""
    canvas.text(
        x,
        y,
        text,
        ha=ha,
        va=va,
        fontsize=fontsize,
        color=colour,
        linespacing=1.3,
        zorder=3,
        **keywords,
    )


def caption(canvas, place, text):
    """What a picture shows, under it."""
    label(canvas, place.bottom[0], place.y - 3.2, text, fontsize=6.5, va="baseline")


def thumbnail(figure, place, show, *arrays, frame=INK):
    """A small framed picture; ``show`` is one of ``overlay``'s functions of axes and arrays."""
    axes = axes_mm(figure, place.x, place.y, place.width, place.height, zorder=4)
    show(axes, *arrays)
    axes.spines[:].set(visible=True, color=frame, linewidth=0.5)
    return place


def stack(figure, place, pictures, *, step=1.6):
    """Pictures as cards, the first one in front; later ones peep out to the upper right.

    Args:
        figure: the figure.
        place: of the whole stack.
        pictures: sequence of ``(show, *arrays)``.
        step: offset between cards, millimetres.
    """
    shift = step * (len(pictures) - 1)
    side = min(place.width, place.height) - shift
    for depth in range(len(pictures) - 1, -1, -1):
        show, *arrays = pictures[depth]
        corner = Place(place.x + depth * step, place.y + depth * step, side, side)
        thumbnail(figure, corner, show, *arrays, frame="white")
    return place


def unet_glyph(canvas, place, text, *, colour, fontsize=6.5):
    """The hourglass by which networks of encoder and decoder are drawn, with its name below."""
    x, y, w, h = place.x, place.y, place.width, place.height
    waist, low, high = 0.36, y + 0.32 * h, y + 0.68 * h
    left = [(x, y), (x, y + h), (x + waist * w, high), (x + waist * w, low)]
    right = [(x + w, y), (x + w, y + h), (x + w - waist * w, high), (x + w - waist * w, low)]
    middle = Rectangle((x + waist * w, low), (1 - 2 * waist) * w, high - low)
    for patch in (Polygon(left), Polygon(right), middle):
        patch.set(facecolor=colour, edgecolor="white", linewidth=0.8, alpha=0.9, zorder=3)
        canvas.add_patch(patch)
    for level in (0.9, 0.1):
        canvas.plot(
            [x + 0.06 * w, x + 0.94 * w], [y + level * h] * 2, color=MUTED, linewidth=0.4,
            linestyle=(0, (1, 1.5)), zorder=2,
        )  # fmt: skip
    label(canvas, x + w / 2, y - 4.7, text, fontsize=fontsize, va="baseline")
    return place
