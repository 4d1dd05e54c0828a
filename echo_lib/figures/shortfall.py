"""Where rows of the table differ: Dice by view, phase, quality, contrast and fidelity."""

from echo_lib.figures.style import FOOT_MM, WIDTH_MM, new_figure, paper_style, stamp
from echo_lib.labels import STRUCTURES

COLUMNS = (*STRUCTURES, "Mean")
COLOURS = ("#1B7F8C", "#7A4FA3", "#B8860B")
TITLES = {
    "view": "view", "phase": "phase", "quality": "quality by experts",
    "contrast": "contrast of the frame", "fidelity": "fidelity of its images",
}  # fmt: skip
_LINE_MM, _HEAD_MM, _AXIS_MM = 4.6, 13.0, 9.0


@paper_style()
def draw(strata, rows, *, stamp_text):
    """A panel per structure: mean Dice of each stratum, a colour per row, with intervals.

    Args:
        strata: from ``evaluation.strata.tabulate``.
        rows: one to three slugs to show; those that were not run are left out.
        stamp_text: ``profile.stamp``.
    """
    shown = strata[strata["row"].isin(rows)]
    strata_shown = [
        (kind, stratum)
        for kind in TITLES
        for stratum in dict.fromkeys(shown.loc[shown["by"] == kind, "stratum"])
    ]
    places, gaps = {}, 0
    for number, key in enumerate(strata_shown):
        gaps += bool(number and key[0] != strata_shown[number - 1][0])
        places[key] = number + 0.6 * gaps
    height = _HEAD_MM + _AXIS_MM + FOOT_MM + _LINE_MM * (len(places) + 0.6 * gaps)
    figure = new_figure(WIDTH_MM, height)
    panels = figure.subplots(1, len(COLUMNS), sharey=True)
    figure.subplots_adjust(
        left=0.27, right=0.99, top=1 - _HEAD_MM / height, bottom=(_AXIS_MM + FOOT_MM) / height,
        wspace=0.08,
    )  # fmt: skip
    for panel, structure in zip(panels, COLUMNS, strict=True):
        cells = shown[shown["structure"] == structure]
        for number, slug in enumerate(rows):
            _row(panel, cells[cells["row"] == slug], places, number, len(rows))
        panel.set_title(structure)
        panel.set_xlabel("Dice (%)")
        panel.grid(axis="x", linewidth=0.3)
    names = [f"{TITLES[kind]}: {stratum}" for kind, stratum in places]
    panels[0].set_yticks(list(places.values()), names)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), borderaxespad=0.2)
    return stamp(figure, stamp_text)


def _row(panel, cells, places, number, count):
    if cells.empty:
        return
    aside = 0.22 * (number - (count - 1) / 2)
    keys = zip(cells["by"], cells["stratum"], strict=True)
    y = [places[key] + aside for key in keys]
    error = [cells["mean"] - cells["low"], cells["high"] - cells["mean"]]
    panel.errorbar(
        cells["mean"], y, xerr=error, fmt="o", markersize=3, linewidth=0.9,
        color=COLOURS[number % len(COLOURS)], label=cells["name"].iloc[0],
    )  # fmt: skip
