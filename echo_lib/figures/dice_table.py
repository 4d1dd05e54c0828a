"""Table 1 as a figure, the paper's numbers beside this run's, and the cases behind it."""

import numpy as np
import pandas as pd
import seaborn

from echo_lib.figures import sheet
from echo_lib.figures.diagram import label
from echo_lib.figures.style import (
    FOOT_MM,
    INK,
    MUTED,
    PANEL,
    WIDTH_MM,
    canvas_mm,
    in_lines,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import STRUCTURE_COLOURS, STRUCTURES, add_sector
from echo_lib.rows import ROWS, find_row

COLUMNS = (*STRUCTURES, "Mean")
_ROW_MM, _NAME_MM, _HEAD_MM = 6.4, 41.0, 14.0
_NOT_TRAINED = "not run"


@paper_style()
def draw(table, *, stamp_text):
    """Mean and std of the Dice score per training set and structure.

    Args:
        table: from ``evaluation.table.summarise``; its ``own`` lines are drawn, each network on
            the views and phases that it was trained on. A row that the paper lacks has a dash
            in the paper's place.
        stamp_text: ``profile.stamp``.
    """
    own = table[table["tested_on"] == "own"]
    rows = [find_row(slug) for slug in dict.fromkeys(own["row"])]
    ours = own[own["status"] == "run"].set_index(["row", "structure"])
    height = _HEAD_MM + len(rows) * _ROW_MM + FOOT_MM + 2
    figure = new_figure(WIDTH_MM, height)
    canvas = canvas_mm(figure)
    width = (WIDTH_MM - _NAME_MM - 2) / len(COLUMNS)
    _head(canvas, height, width)
    for position, row in enumerate(rows):
        y = height - _HEAD_MM - (position + 0.5) * _ROW_MM
        if position % 2 == 0:
            canvas.axhspan(y - _ROW_MM / 2, y + _ROW_MM / 2, color=PANEL, linewidth=0, zorder=0)
        name = in_lines(row.name, 28)
        label(canvas, 3, y, name, ha="left", fontsize=5.8 if "\n" in name else 7)
        for column, structure in enumerate(COLUMNS):
            x, key = _NAME_MM + column * width, (row.slug, structure)
            text = _NOT_TRAINED
            if key in ours.index:
                text = _ours(ours.loc[key])
            label(canvas, x + 0.26 * width, y, text, fontsize=6.5)
            paper = _plus_minus(*row.paper[structure]) if row.in_paper else "–"
            label(canvas, x + 0.75 * width, y, paper, colour=MUTED, fontsize=6)
    return stamp(figure, stamp_text)


def _head(canvas, height, width):
    label(
        canvas, 3, height - 11.4, "Trained on", ha="left", fontsize=7, weight="bold", va="baseline"
    )
    for column, structure in enumerate(COLUMNS):
        x = _NAME_MM + column * width
        colour = STRUCTURE_COLOURS.get(structure, INK)
        label(
            canvas, x + width / 2, height - 5.4, structure, fontsize=8, weight="bold", va="baseline"
        )
        line = [x + 2, x + width - 2]
        canvas.plot(line, [height - 7.4] * 2, color=colour, linewidth=1.4)
        label(canvas, x + 0.26 * width, height - 11.4, "this run", fontsize=6.5, va="baseline")
        label(
            canvas,
            x + 0.75 * width,
            height - 11.4,
            "paper",
            colour=MUTED,
            fontsize=6.5,
            va="baseline",
        )
    for y in (height - 1, height - _HEAD_MM + 0.6, FOOT_MM + 1.6):
        canvas.plot([2, WIDTH_MM - 2], [y, y], color=INK, linewidth=0.7)
    note = (
        "Dice, %: mean ± std over cases (Mean: of the three means); after a comma: std over seeds"
    )
    label(canvas, 3, 2.3, note, ha="left", colour=MUTED, fontsize=5.5)


def _ours(cell):
    text = _plus_minus(cell["mean"], cell["std"])
    return f"{text}, {cell['seed_std']:.1f}" if cell["n_seeds"] > 1 else text


def _plus_minus(mean, std):
    return f"{mean:.1f} ± {std:.1f}"


@paper_style()
def draw_cases(cases, *, stamp_text):
    """Every case's Dice score, one panel per structure: points, median and quartiles.

    Args:
        cases: from ``evaluation.metrics.dice``: Dice in [0, 1], one line per case and structure;
            several seeds' are averaged, and each row shows the frames it was trained for.
        stamp_text: ``profile.stamp``.
    """
    data = _own_cases(cases)
    order = list(dict.fromkeys(data["trained_on"]))
    figure = new_figure(WIDTH_MM, 22 + 8 * len(order))
    axes = figure.subplots(1, len(STRUCTURES), sharey=True)
    height_mm = figure.get_figheight() * 25.4
    figure.subplots_adjust(
        left=0.215, right=0.99, top=1 - 6 / height_mm, bottom=13 / height_mm, wspace=0.06
    )
    lowest = 10 * np.floor(data["percent"].min() / 10)
    for panel, structure in zip(axes, STRUCTURES, strict=True):
        _cases_panel(panel, data[data["structure"] == structure], order, structure)
        panel.set_xlim(lowest - 1, 101)
    return stamp(figure, stamp_text)


def draw_extremes(scores, images, truths, predicted, *, stamp_text, count=4):
    """The worst and the best frames of one network, worst first: frame, reference and prediction.

    Args:
        scores: N mean Dice scores in [0, 1], by name of the frame, in the order of the arrays.
        images: (N, 1, H, W) uint8.
        truths, predicted: (N, H, W) CAMUS ids.
        stamp_text: ``profile.stamp``.
        count: frames from either end, fewer where there are not twice as many.
    """
    order = np.argsort(scores.to_numpy(), kind="stable")
    count = min(count, len(order) // 2)
    at = np.concatenate([order[:count], order[len(order) - count :]])
    images = np.asarray(images)[at, 0]
    truths, predicted = (add_sector(np.asarray(x)[at], images > 0) for x in (truths, predicted))
    pictures = {
        "frame": ("images", images, None),
        "reference": ("contours", images, truths),
        "network": ("contours", images, predicted),
    }
    titles = []
    for name, score in scores.iloc[at].items():
        patient, view, phase = name.rsplit("_", 2)
        titles.append(f"{patient}\n{view} {phase}\n{100 * score:.1f} %")
    return sheet.draw(pictures, titles, stamp_text=stamp_text)


def _own_cases(cases):
    """Percent per row's name, structure and case, in the table's order."""
    parts = []
    for row in ROWS:
        own = row.select(cases[cases["row"] == row.slug])
        percent = own.groupby(["structure", "name"])["dice"].mean().mul(100).rename("percent")
        parts.append(percent.reset_index().assign(trained_on=in_lines(row.name)))
    return pd.concat(parts, ignore_index=True)


def _cases_panel(panel, data, order, structure):
    seaborn.boxplot(
        data=data, x="percent", y="trained_on", order=order, ax=panel, width=0.62, fill=False,
        color=INK, linewidth=0.8, showfliers=False, zorder=3,
    )  # fmt: skip
    for position, name in enumerate(order):
        percent = data.loc[data["trained_on"] == name, "percent"].sort_values()
        # Spread by the golden ratio, not at random: the figure's bytes shall repeat.
        spread = (np.arange(len(percent)) * 0.6180339887) % 1 - 0.5
        colour = STRUCTURE_COLOURS[structure]
        panel.scatter(percent, position + 0.5 * spread, s=3, color=colour, alpha=0.45, linewidths=0)
    panel.set(xlabel="Dice (%)", ylabel="", title=structure)
    panel.tick_params(axis="y", length=0)
    panel.xaxis.grid(True, color=PANEL)
    panel.set_axisbelow(True)
