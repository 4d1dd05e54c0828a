"""The reproduction ledger as a figure: our interval and the paper's number, cell by cell."""

import numpy as np
from matplotlib.lines import Line2D

from echo_lib.figures.style import (
    ACCENT,
    FOOT_MM,
    INK,
    MUTED,
    PANEL,
    WIDTH_MM,
    in_lines,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import STRUCTURES

COLUMNS = (*STRUCTURES, "Mean")
COLOURS = {"inside the interval": "#2F7D4F", "above": "#2B6CB0", "below": "#B03A2E"}
_NAME_MM, _ROW_MM, _HEAD_MM, _AXIS_MM, _GAP_MM = 38.0, 6.2, 10.0, 9.0, 4.0


@paper_style()
def draw(ledger, *, stamp_text, tested_on="own"):
    """Per cell of Table 1: our mean with its 95 % interval over patients, and the paper's mean.

    Args:
        ledger: from ``evaluation.ledger.ledger``.
        stamp_text: ``profile.stamp``.
        tested_on: "own" or "all".
    """
    cells = ledger[(ledger["tested_on"] == tested_on) & ledger["structure"].isin(COLUMNS)]
    slugs = list(dict.fromkeys(cells["row"]))
    height = _HEAD_MM + len(slugs) * _ROW_MM + _AXIS_MM + FOOT_MM
    figure = new_figure(WIDTH_MM, height)
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    figure.subplots_adjust(
        left=_NAME_MM / WIDTH_MM, right=1 - 2 / WIDTH_MM, top=1 - _HEAD_MM / height,
        bottom=(_AXIS_MM + FOOT_MM) / height, wspace=0.1,
    )  # fmt: skip
    for panel, structure in zip(panels, COLUMNS, strict=True):
        _panel(panel, cells[cells["structure"] == structure].set_index("row"), slugs)
        panel.set_title(structure, pad=4)
    names = cells.drop_duplicates("row")["name"].map(in_lines)
    panels[0].set_yticks(range(len(slugs)), names)
    panels[0].set_ylim(len(slugs) - 0.5, -0.5)
    _legend(figure, height)
    return stamp(figure, stamp_text)


def _panel(panel, cells, slugs):
    for position, slug in enumerate(slugs):
        cell = cells.loc[slug]
        if position % 2 == 0:
            panel.axhspan(position - 0.5, position + 0.5, color=PANEL, linewidth=0, zorder=0)
        if cell["n_cases"]:
            colour = COLOURS.get(cell["verdict"], MUTED)
            panel.plot([cell["low"], cell["high"]], [position] * 2, color=colour, linewidth=1.6)
            panel.plot(cell["ours"], position, "o", color=colour, markersize=3)
        if np.isfinite(cell["paper"]):
            panel.plot(cell["paper"], position, "D", color=ACCENT, markersize=3, fillstyle="none")
        if not cell["n_cases"]:
            place = panel.get_yaxis_transform()
            panel.text(
                0.98, position, "not run", transform=place, ha="right", va="center", color=MUTED,
                fontsize=5.5,
            )  # fmt: skip
    _limits(panel, cells)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("Dice (%)")


def _limits(panel, cells):
    values = cells[["low", "high", "ours", "paper"]].to_numpy(dtype=float)
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0, 100)
    # Room on the right for the words "not run".
    panel.set_xlim(low - 0.06 * (high - low) - 0.5, high + 0.25 * (high - low) + 0.5)


def _legend(figure, height):
    marks = {
        name: Line2D([], [], color=colour, marker="o", markersize=3, linewidth=1.6)
        for name, colour in COLOURS.items()
    }
    marks = {
        "paper": Line2D([], [], color=ACCENT, marker="D", markersize=3, fillstyle="none", lw=0),
        "ours, the paper's inside its interval": marks["inside the interval"],
        "all of it above the paper's": marks["above"],
        "below": marks["below"],
        "no paper's number": Line2D([], [], color=MUTED, marker="o", markersize=3, linewidth=1.6),
    }
    figure.legend(
        marks.values(), marks.keys(), loc="upper center", ncols=len(marks), handlelength=1.6,
        columnspacing=1.4, borderaxespad=0.3, labelcolor=INK,
        bbox_to_anchor=(0.5, 1 - 0.3 / height),
    )  # fmt: skip
