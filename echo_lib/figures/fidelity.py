"""Fidelity of the generators: how well a network finds in an image what its map says."""

import numpy as np

from echo_lib.figures.style import (
    FOOT_MM,
    MUTED,
    RULE,
    WIDTH_MM,
    axes_mm,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)
from echo_lib.labels import STRUCTURES

NAMES = {"real": "real frames", "sdm": "SDM", "cyclegan": "CycleGAN"}
COLOURS = {"real": MUTED, "sdm": "#1B7F8C", "cyclegan": "#C2571A"}
_STRUCTURE_SLUGS = tuple(structure.lower().replace(" ", "_") for structure in STRUCTURES)
_WIDTH_MM, _HEIGHT_MM, _LEFT_MM, _BETWEEN_MM = 74.0, 38.0, 14.0, 16.0


@paper_style()
def draw(summary, against_strength, *, stamp_text):
    """A) Dice and B) contour distance of each generator, C) and D) against strength of deformation.

    Means over patients with their 95 % intervals. Real frames, scored in the same way against their
    own maps, and deformed with them, are what the network itself can reach.

    Args:
        summary: data frame with generator, measure, unit, mean, low, high.
        against_strength: the same with a column ``strength``, 0 and up.
        stamp_text: ``profile.stamp``.
    """
    height = FOOT_MM + 2 * (_HEIGHT_MM + 15) + 4
    figure = new_figure(WIDTH_MM, height)
    canvas = canvas_mm(figure)
    places = [(x, y) for y in (FOOT_MM + 64, FOOT_MM + 11) for x in (0, _WIDTH_MM + _BETWEEN_MM)]
    panels = []
    for letter, (x, y) in zip("ABCD", places, strict=True):
        panels.append(axes_mm(figure, _LEFT_MM + x, y, _WIDTH_MM, _HEIGHT_MM))
        canvas.text(x + 2, y + _HEIGHT_MM + 2, f"{letter})", fontsize=8, va="bottom")
    _dice_panel(panels[0], summary)
    _distance_panel(panels[1], summary)
    _strength_panel(panels[2], against_strength)
    _fault_panel(panels[3], against_strength)
    return stamp(figure, stamp_text)


def _dice_panel(axes, summary):
    columns = {f"dice_{slug}": name for slug, name in _structures()} | {"mean_dice": "Mean"}
    _groups(axes, summary, columns, factor=100)
    axes.set(ylabel="Dice to the map (%)")
    axes.legend(loc="lower left", ncols=3, bbox_to_anchor=(0, 1.0), borderaxespad=0.2)


def _distance_panel(axes, summary):
    columns = {f"distance_{slug}": name for slug, name in _structures()}
    columns |= {"mean_distance": "Mean"}
    units = summary[summary["measure"].isin(columns)]["unit"].unique()
    if len(units) > 1:
        raise ValueError(f"contour distances in {' and '.join(units)}; select one unit first")
    _groups(axes, summary, columns)
    axes.set(ylabel=f"mean contour distance ({units[0] if len(units) else 'px'})")
    axes.set_ylim(bottom=0)


def _structures():
    return zip(_STRUCTURE_SLUGS, STRUCTURES, strict=True)


def _groups(axes, summary, columns, *, factor=1):
    """A point with its interval per generator, side by side for each measure."""
    generators = [name for name in NAMES if name in set(summary["generator"])]
    table = summary.set_index(["generator", "measure"])
    for number, generator in enumerate(generators):
        offset = 0.2 * (number - (len(generators) - 1) / 2)
        label = NAMES[generator]
        for place, measure in enumerate(columns):
            if (generator, measure) in table.index:
                line = factor * table.loc[(generator, measure), ["mean", "low", "high"]]
                _point(axes, place + offset, line.astype(float), COLOURS[generator], label)
                label = None
    axes.set_xticks(range(len(columns)), columns.values())
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.grid(axis="y", color=RULE, linewidth=0.4)
    axes.tick_params(axis="x", length=0)


def _point(axes, x, line, colour, label):
    axes.plot([x, x], [line["low"], line["high"]], color=colour, linewidth=1.4, alpha=0.6)
    axes.plot(x, line["mean"], "o", color=colour, markersize=4, label=label)


def _strength_panel(axes, against_strength):
    _curves(axes, against_strength, "mean_dice")
    axes.set(xlabel="strength of deformation", ylabel="mean Dice to the map (%)")


def _fault_panel(axes, against_strength):
    styles = {"with_missing": "solid", "with_merged": (0, (3, 1.5))}
    for measure, style in styles.items():
        _curves(axes, against_strength, measure, linestyle=style, band=False)
    axes.plot([], [], color=MUTED, linestyle=styles["with_missing"], label="a structure missing")
    axes.plot([], [], color=MUTED, linestyle=styles["with_merged"], label="chambers merged")
    shown = against_strength[against_strength["measure"].isin(styles)]["mean"]
    top = max(10, 105 * shown.max())
    axes.set(xlabel="strength of deformation", ylabel="images (%)", ylim=(-0.03 * top, top))
    axes.legend(loc="lower left", ncols=2, bbox_to_anchor=(0, 1.0), borderaxespad=0.2)


def _curves(axes, against_strength, measure, *, linestyle="solid", band=True):
    for generator in NAMES:
        chosen = against_strength[
            (against_strength["generator"] == generator) & (against_strength["measure"] == measure)
        ].sort_values("strength")
        x, mean, low, high = (
            chosen[key].to_numpy(dtype=np.float64) for key in ("strength", "mean", "low", "high")
        )
        colour = COLOURS[generator]
        if band and len(x):
            axes.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, 100 * mean, color=colour, linestyle=linestyle, marker="o", markersize=2.5)
    axes.grid(axis="y", color=RULE, linewidth=0.4)
