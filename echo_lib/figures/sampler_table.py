"""Quality against network evaluations: one line per sampler, the reference and real frames."""

import pandas as pd
from matplotlib.ticker import NullFormatter, NullLocator

from echo_lib.figures.style import (
    ACCENT,
    INK,
    MUTED,
    WIDTH_MM,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import SDM_NAMES

NAMES = {"ddpm": "ancestral", "ddim": "DDIM", "dpm_solver_pp": "DPM-Solver++(2M)"}
COLOURS = {"ddpm": "#7A4FA3", "ddim": "#1B7F8C", "dpm_solver_pp": "#C4572E"}
MARKERS = {"ddpm": "s", "ddim": "o", "dpm_solver_pp": "^"}
# Columns of ``evaluation.fidelity.score_images`` that a line of the table holds the means of.
_LABELS = [name.lower().replace(" ", "_") for name in SDM_NAMES]
GREYS = [f"grey_{kind}_{label}" for label in _LABELS for kind in ("mean", "std")]
MEASURES = ["mean_dice", *GREYS, "energy_outside"]
PANELS = {
    "mean_dice": "Dice with the label map",
    "frechet": "Fréchet distance to real",
    "grey_std_myocardium": "std of grey, myocardium",
    "energy_outside": "energy outside the sector",
}
HEIGHT_MM = 58.0


def tabulate(scores, distances):
    """A line per sampler and number of steps: means over images, and their standard errors.

    Args:
        scores: (sampler, steps) to a data frame with the columns MEASURES, a line per image; steps
            are network evaluations per image. ("real", 0) stands for frames of a scanner.
        distances: data frame with frechet and kernel, lines in the order of ``scores``: how far the
            images' features lie from those of real frames.

    Returns:
        A data frame with sampler, steps, images, each measure and its error (``_se``), frechet and
        kernel.
    """
    lines = []
    for (sampler, steps), own in scores.items():
        means, errors = own[MEASURES].mean(), own[MEASURES].sem().add_suffix("_se")
        lines.append(
            {"sampler": sampler, "steps": steps, "images": len(own), **means, **errors}
        )  # fmt: skip
    found = distances[["frechet", "kernel"]].reset_index(drop=True)
    return pd.concat([pd.DataFrame(lines), found], axis=1)


@paper_style()
def draw(table, *, panels=PANELS, stamp_text):
    """One panel per measure; the reference is a line with a band of two standard errors.

    Args:
        table: from ``tabulate``. The ancestral line with the most steps is the reference.
        panels: column to axis label, left to right.
        stamp_text: ``profile.stamp``.
    """
    figure = new_figure(WIDTH_MM, HEIGHT_MM)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    figure.subplots_adjust(left=0.065, right=0.99, top=0.85, bottom=0.22, wspace=0.38)
    generated = table[table["sampler"] != "real"]
    reference = reference_of(table)
    steps = sorted(set(generated["steps"]) - {reference["steps"]})
    for panel, (column, label) in zip(axes, panels.items(), strict=True):
        _level(panel, reference, column, colour=INK, label=f"ancestral, {reference['steps']} steps")
        for _, real in table[table["sampler"] == "real"].iterrows():
            panel.axhline(real[column], color=ACCENT, linestyle=":", label="real frames")
        for sampler, name in NAMES.items():
            own = generated[generated["sampler"] == sampler]
            own = own[own["steps"].isin(steps)].sort_values("steps")
            keywords = {"color": COLOURS[sampler], "marker": MARKERS[sampler], "markersize": 3}
            panel.plot(own["steps"], own[column], label=name, **keywords)
        panel.set(xscale="log", xlabel="network evaluations an image", title=label)
        panel.set_xticks(steps, [str(each) for each in steps])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
    handles, names = axes[0].get_legend_handles_labels()
    place = {"loc": "upper center", "ncols": len(names), "borderaxespad": 0.2}
    figure.legend(handles, names, handlelength=1.8, columnspacing=1.4, **place)
    return stamp(figure, stamp_text)


def reference_of(table):
    """The line of ancestral sampling with the most steps.

    Raises:
        ValueError: there is none.
    """
    ancestral = table[table["sampler"] == "ddpm"]
    if ancestral.empty:
        raise ValueError("no line of ddpm: ancestral sampling is the reference; draw it too")
    return ancestral.loc[ancestral["steps"].idxmax()]


def _level(panel, line_, column, *, colour, label):
    panel.axhline(line_[column], color=colour, linewidth=0.9, label=label)
    error = line_.get(f"{column}_se")
    if error is not None and pd.notna(error):
        low, high = line_[column] - 2 * error, line_[column] + 2 * error
        panel.axhspan(low, high, color=MUTED, alpha=0.15, linewidth=0)
