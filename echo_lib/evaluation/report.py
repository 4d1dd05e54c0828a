"""The tables of stage ``evaluation`` as text to read: table.md and ledger.md."""

from echo_lib.evaluation import ledger, table
from echo_lib.evaluation.contradictions import CONTRADICTION_COLUMNS
from echo_lib.rows import ROWS

DISTANCES_CAPTION = (
    "In the resolution of the files that masks were drawn in; where their spacing is not known, in "
    "their pixels, and if they were stretched, so are distances. "
    "95 % Hausdorff (HD95) and mean surface distance over cases and seeds of each row's own views "
    "and phases, in the unit named; area error in % of the true area, positive where too large; "
    "Dice in the same resolution. A distance is 0 where a structure is absent from prediction and "
    "reference, undefined and left out where it is absent from one: these are counted."
)
VOLUMES_CAPTION = (
    "Simpson's biplane rule, 20 disks. Difference (network minus reference): bias, and Bland and "
    "Altman's limits of agreement (± 1.96 std). Reference: the experts' masks, measured in the "
    "same way, or the ejection fraction that the Info files name. Left out: patients with a map "
    "without cavity or mitral plane, or without the reference. A network of one view measures the "
    "other as well."
)
COMPARISONS_CAPTION = (
    "Dice in points, per patient, on the frames that are own to both rows; of several seeds "
    "(ledger) a patient's mean counts; interval by bootstrap over patients; p of Wilcoxon's signed "
    "rank test, two-sided, corrected by Holm over all comparisons of a structure. Shown: Mean; "
    "comparisons.csv holds the structures."
)


def render(tables, profile):
    """File name to Markdown.

    Args:
        tables: from ``results.summaries``; "distances" and "agreement" may be absent.
        profile: the run's; its stamp stands in every title.
    """
    stamp = f" · {profile.stamp}" if profile.stamp else ""
    title = table.table_title(profile)
    every = f"{title} · tested on all views and phases"
    parts = [
        table.render_markdown(tables["table"], title=title),
        table.render_markdown(tables["table"], title=every, tested_on="all"),
    ]
    sections = [
        ledger.render_markdown(tables["ledger"], title=f"Reproduction ledger{stamp}"),
        _comparisons(tables["comparisons"]),
        _distances(tables["distances"]) if "distances" in tables else "",
        _agreement(tables["agreement"]) if "agreement" in tables else "",
        _contradictions(tables["contradictions"]),
    ]
    return {"table.md": "\n".join(parts), "ledger.md": "\n".join(filter(None, sections))}


def _comparisons(found):
    names = {row.slug: row.name for row in ROWS}
    lines = [
        [names[x["row"]], names[x["other"]], f"{x['n_patients']} ({x['n_cases']})",
         f"{x['difference']:+.1f}", f"{x['low']:+.1f} to {x['high']:+.1f}",
         f"{x['p']:.2g}", f"{x['p_holm']:.2g}"]
        for x in found[found["structure"] == "Mean"].to_dict("records")
    ]  # fmt: skip
    head = ["Row", "Against", "Patients (cases)", "Difference", "95 % interval", "p", "p, Holm"]
    return _section("Differences between rows", COMPARISONS_CAPTION, head, lines)


def _distances(found):
    def pair(line, measure, scale=1.0):
        return f"{scale * line[measure]:.1f} ± {scale * line[f'{measure}_std']:.1f}"

    lines = [
        [x["name"], x["structure"], f"{x['n']} ({x['n_undefined']} undefined)",
         pair(x, "dice_original", 100), pair(x, "hd95"), pair(x, "mean_distance"), x["unit"],
         pair(x, "area_error_percent")]
        for x in found.to_dict("records")
    ]  # fmt: skip
    head = ["Trained on", "Structure", "Cases", "Dice, %", "HD95", "Mean distance", "Unit"]
    head += ["Area error, %"]
    return _section("Distances", DISTANCES_CAPTION, head, lines)


def _agreement(found):
    quantity = {"ef_percent": "EF, %", "edv_ml": "EDV, ml", "esv_ml": "ESV, ml"}
    lines = [
        [x["name"], str(x["seed"]), quantity[x["measure"]],
         "Info files" if x["against"].startswith("info") else "masks",
         f"{x['n']} ({x['n_undefined']} left out)", f"{x['bias']:+.1f}",
         f"{x['low']:.1f} to {x['high']:.1f}", f"{x['mean_absolute_error']:.1f}",
         f"{x['correlation']:.2f}"]
        for x in found[found["n"] > 1].to_dict("records")
    ]  # fmt: skip
    head = ["Trained on", "Seed", "Quantity", "Reference", "Patients", "Bias"]
    head += ["Limits of agreement", "Mean error", "r"]
    without = found.groupby(["measure", "against"], sort=False)["n"].max() < 2
    missing = [
        f"{quantity[measure]} against {'Info files' if against.startswith('info') else 'masks'}"
        for measure, against in without.index[without]
    ]
    caption = VOLUMES_CAPTION
    if missing:
        caption += (
            f" Not run, for want of the reference or of the pixels' size: {'; '.join(missing)}."
        )
    return _section("Volumes and ejection fraction", caption, head, lines)


def _contradictions(found):
    head = [name.capitalize() for name in CONTRADICTION_COLUMNS]
    caption = "The paper's numbers beside what Table 1, as printed, gives for them."
    lines = found.replace("", "–").to_numpy().tolist()
    return _section("Where the paper disagrees with itself", caption, head, lines)


def _section(heading, caption, head, lines):
    return f"**{heading}**\n\n{caption}\n\n{ledger.markdown_table(head, lines)}\n"
