"""How a loss, a score or a learning rate went over a training."""

import numpy as np

from echo_lib.figures.style import VIEW_COLOURS, WIDTH_MM, new_figure, paper_style, stamp

HEIGHT_MM = 58.0
_SMOOTHING = 20  # points in the span of the running mean


@paper_style()
def draw(logs, panels, *, step, stamp_text, noisy=("loss",)):
    """One panel per logged column, one line per training.

    Args:
        logs: name of the training to its log, a data frame.
        panels: column of the logs to its axis label, left to right.
        step: column on the horizontal axis, ``step`` or ``epoch``.
        stamp_text: ``profile.stamp``.
        noisy: positive columns shown on a logarithmic axis with their running mean.
    """
    figure = new_figure(WIDTH_MM, HEIGHT_MM)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    figure.subplots_adjust(left=0.095, right=0.985, top=0.95, bottom=0.23, wspace=0.26)
    for panel, (column, title) in zip(axes, panels.items(), strict=True):
        for position, (name, log) in enumerate(logs.items()):
            colour = VIEW_COLOURS.get(name, f"C{position}")
            _line(panel, log[[step, column]].dropna(), colour, name, smoothed=column in noisy)
        panel.set(xlabel=step, ylabel=title, yscale="log" if column in noisy else "linear")
    axes[0].legend()
    return stamp(figure, stamp_text)


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
