"""How a loss, a score or a learning rate went over a training."""

import math

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from echo_lib.figures.style import VIEW_COLOURS, WIDTH_MM, new_figure, paper_style, stamp

HEIGHT_MM = 58.0
_SMOOTHING = 20  # points in the span of the running mean


@paper_style()
def draw(logs, panels, *, step, stamp_text, noisy=("loss",), across=None):
    """One panel per logged column, one line per training.

    Args:
        logs: name of the training to its log, a data frame.
        panels: column of the logs to its axis label, left to right and down.
        step: column on the horizontal axis, ``step`` or ``epoch``.
        stamp_text: ``profile.stamp``.
        noisy: positive columns shown on a logarithmic axis with their running mean.
        across: panels in a row; all of them by default.
    """
    across = across or len(panels)
    rows = math.ceil(len(panels) / across)
    figure = new_figure(WIDTH_MM, rows * HEIGHT_MM)
    axes = figure.subplots(rows, across, squeeze=False).flatten()
    edges = {"left": 0.095, "right": 0.985, "top": 1 - 0.1 / rows, "bottom": 0.23 / rows}
    figure.subplots_adjust(**edges, wspace=0.26 if across < 3 else 0.34, hspace=0.35)
    for spare in axes[len(panels) :]:
        spare.set_axis_off()
    for panel, (column, title) in zip(axes, panels.items(), strict=False):
        for position, (name, log) in enumerate(logs.items()):
            colour = VIEW_COLOURS.get(name, f"C{position}")
            _line(panel, log[[step, column]].dropna(), colour, name, smoothed=column in noisy)
        panel.set(xlabel=step, ylabel=title)
        if column in noisy:
            _logarithmic(panel)
    _legend(figure, axes[0])
    return stamp(figure, stamp_text)


def _legend(figure, panel):
    """Above the panels in one line, so that no curve is hidden."""
    handles, names = panel.get_legend_handles_labels()
    keywords = {"handlelength": 1.4, "columnspacing": 1.2, "borderaxespad": 0.2}
    figure.legend(handles, names, loc="upper center", ncols=len(names), **keywords)


def _logarithmic(panel):
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def smooth(values):
    """Running mean over at most twenty past points, as long as ``values``; no point looks ahead."""
    values = np.asarray(values, dtype=float)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - _SMOOTHING)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _line(panel, log, colour, name, *, smoothed):
    steps, values = log.to_numpy(dtype=float).T
    if smoothed and len(values) > 2 * _SMOOTHING:
        panel.plot(steps, values, color=colour, alpha=0.25, linewidth=0.5)
        values = smooth(values)
    panel.plot(steps, values, color=colour, label=name)
