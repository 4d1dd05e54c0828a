"""One look for every figure: sizes in millimetres, one font, and the stamp at the foot."""

import textwrap

import matplotlib
from matplotlib.figure import Figure

WIDTH_MM = 180.0  # a figure over both columns of a journal page
COLUMN_MM = 88.0  # a figure in one column
FOOT_MM = 4.0  # kept free at the foot of every figure for the stamp

INK = "#1F2933"
MUTED = "#66727F"
RULE = "#C5CDD5"
PANEL = "#F3F5F7"
ACCENT = "#B8860B"
VIEW_COLOURS = {"2CH": "#7A4FA3", "4CH": "#1B7F8C"}

RC = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same glyphs on every machine
    "font.size": 6.5,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 7,
    "axes.labelsize": 6.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "pdf.fonttype": 42,
}


def paper_style():
    """The style as a context manager, also usable as a decorator."""
    return matplotlib.rc_context(RC)


def new_figure(width_mm, height_mm):
    """An empty figure of this size; free of pyplot, so nothing is kept or shown twice."""
    return Figure(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=RC["figure.dpi"])


def axes_mm(figure, x_mm, y_mm, width_mm, height_mm, **keywords):
    """Axes at a place in millimetres from the figure's lower left corner."""
    width, height = figure.get_size_inches() * 25.4
    return figure.add_axes(
        (x_mm / width, y_mm / height, width_mm / width, height_mm / height), **keywords
    )


def canvas_mm(figure):
    """Axes over the whole figure, without frame, whose data coordinates are millimetres."""
    width, height = figure.get_size_inches() * 25.4
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), zorder=0)
    axes.set_axis_off()
    return axes


def in_lines(name, width=30):
    """A name that is longer than ``width`` characters, cut at blanks into lines about as long."""
    lines = -(-len(name) // width)
    return textwrap.fill(name, -(-len(name) // lines) + 4) if lines > 1 else name


def stamp(figure, text):
    """Write at the foot what a figure was made from; an empty text writes nothing.

    Args:
        figure: the figure.
        text: ``profile.stamp``: profile, kind of data and split; empty for the paper's own.
    """
    if text:
        width, height = figure.get_size_inches() * 25.4
        figure.text(
            1 - 1 / width, 1.2 / height, text, ha="right", va="bottom", color=MUTED, fontsize=5.5
        )
    return figure
