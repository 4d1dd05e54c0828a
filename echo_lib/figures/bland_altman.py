"""Agreement of ejection fractions: difference over mean, after Bland and Altman."""

import numpy as np

from echo_lib.figures.style import (
    ACCENT,
    FOOT_MM,
    INK,
    MUTED,
    WIDTH_MM,
    in_lines,
    new_figure,
    paper_style,
    stamp,
)

_COLUMNS, _PANEL_MM, _HEAD_MM, _AXIS_MM = 4, 40.0, 10.0, 11.0


@paper_style()
def draw(volumes, agreement, names, *, against, stamp_text):
    """A panel per network: every patient, the bias and the limits of agreement.

    Args:
        volumes: from ``evaluation.volumes.network_volumes``; its first seed of a row is drawn.
        agreement: from ``evaluation.results.summarise_volumes``.
        names: row slug to the title of its panel, in order.
        against: "mask_ef_percent" or "info_ef_percent".
        stamp_text: ``profile.stamp``.
    """
    columns = min(_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    height = lines * (_PANEL_MM + _HEAD_MM + _AXIS_MM) + FOOT_MM
    figure = new_figure(WIDTH_MM, height)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.075, right=0.99, top=1 - _HEAD_MM / height, bottom=(_AXIS_MM + FOOT_MM) / height,
        hspace=(_HEAD_MM + 4) / _PANEL_MM, wspace=0.07,
    )  # fmt: skip
    for position, (slug, name) in enumerate(names.items()):
        panel = axes.flat[position]
        of_row = volumes[volumes["row"] == slug]
        of_row = of_row[of_row["seed"] == of_row["seed"].min()]
        found = agreement[(agreement["row"] == slug) & (agreement["against"] == against)]
        found = found[found["measure"] == "ef_percent"].iloc[0]
        _panel(panel, of_row, against, found)
        panel.set_title(f"{in_lines(name)}\n{_note(found)}", fontsize=6.5)
        panel.xaxis.set_tick_params(labelbottom=True)
    for panel in axes.flat[len(names) :]:
        panel.set_visible(False)
    reference = {"mask_ef_percent": "masks'", "info_ef_percent": "Info files'"}[against]
    figure.supxlabel(
        f"mean of the network's and the {reference} EF (%)", y=1.1 * FOOT_MM / height, fontsize=6.5
    )
    figure.supylabel(f"network's minus {reference} EF (points)", x=0.004, fontsize=6.5)
    return stamp(figure, stamp_text)


def _panel(panel, volumes, against, found):
    ours, reference = volumes["ef_percent"].to_numpy(), volumes[against].to_numpy()
    panel.scatter((ours + reference) / 2, ours - reference, s=5, color=INK, alpha=0.6, linewidths=0)
    panel.axhline(0, color=MUTED, linewidth=0.5)
    if not np.isfinite(found["bias"]):
        return
    for key, style in (("bias", "-"), ("low", "--"), ("high", "--")):
        panel.axhline(found[key], color=ACCENT, linestyle=style, linewidth=0.9)


def _note(found):
    if not np.isfinite(found["bias"]):
        return f"n = {found['n']}"
    return f"{found['bias']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f}), n = {found['n']}"
