"""How many real patients does a network need, and what do synthetic images add?"""

import numpy as np

from echo_lib.figures.style import ACCENT, WIDTH_MM, new_figure, paper_style, stamp
from echo_lib.labels import STRUCTURES
from echo_lib.rows import find_row

COLUMNS = (*STRUCTURES, "Mean")
HEIGHT_MM = 60.0
SERIES = {
    "real alone": (("real",), "#1B7F8C"),
    "SDM + real": (("synthetic", "real"), "#7A4FA3"),
}
_ALONE = "sdm_all"  # no real frame of any patient


def series(ledger, sources, structure):
    """The rows of the ledger that train on these sources, all views and phases, from scratch.

    Args:
        ledger: from ``evaluation.ledger.ledger``.
        sources: as in ``rows.Row``.
        structure: of Table 1, or "Mean".

    Returns:
        A data frame with percent (of patients), ours, low and high, by rising percentage; rows
        that were not run are left out.
    """
    cells = ledger[(ledger["tested_on"] == "all") & (ledger["structure"] == structure)]
    cells = cells[cells["n_cases"] > 0]
    rows = [find_row(slug) for slug in cells["row"]]
    cells = cells.assign(percent=[100 * row.real_fraction for row in rows])
    plain = [
        row.sources == sources and row.view is row.phase is None and row.is_plain for row in rows
    ]
    return cells.loc[plain, ["percent", "ours", "low", "high"]].sort_values("percent")


def has_points(ledger):
    """True where a share of the patients was run, so that there is a curve to draw."""
    return any(len(series(ledger, sources, "Mean")) > 1 for sources, _ in SERIES.values())


@paper_style()
def draw(ledger, *, stamp_text):
    """Dice over the share of training patients whose real frames were seen, with intervals.

    Args:
        ledger: from ``evaluation.ledger.ledger``.
        stamp_text: ``profile.stamp``.

    Raises:
        ValueError: no share but all patients was run.
    """
    if not has_points(ledger):
        raise ValueError("no share of the patients was run; set segmentation.extra_rows to some")
    figure = new_figure(WIDTH_MM, HEIGHT_MM)
    panels = figure.subplots(1, len(COLUMNS))
    figure.subplots_adjust(left=0.06, right=0.99, top=0.83, bottom=0.22, wspace=0.24)
    for panel, structure in zip(panels, COLUMNS, strict=True):
        for name, (sources, colour) in SERIES.items():
            if len(points := series(ledger, sources, structure)):
                _line(panel, points, colour, name)
        _alone(panel, ledger, structure)
        panel.set_title(structure)
        panel.set_xscale("log")
        panel.set_xticks([5, 10, 25, 50, 100], ["5", "10", "25", "50", "100"])
        panel.minorticks_off()
        panel.set_xlabel("real patients (%)")
    panels[0].set_ylabel("Dice (%)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", ncols=len(names), borderaxespad=0.3)
    return stamp(figure, stamp_text)


def _line(panel, points, colour, name):
    x, ours, low, high = points.to_numpy(dtype=float).T
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(x, ours, "o-", color=colour, markersize=3, label=name)


def _alone(panel, ledger, structure):
    cells = ledger[(ledger["tested_on"] == "all") & (ledger["structure"] == structure)]
    ours = cells.loc[cells["row"] == _ALONE, "ours"]
    if len(ours) and np.isfinite(ours.iloc[0]):
        panel.axhline(ours.iloc[0], color=ACCENT, linestyle="--", linewidth=0.9, label="SDM alone")
