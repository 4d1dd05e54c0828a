"""The reproduction ledger: every cell of Table 1, the paper's number beside ours.

The verdict says where the paper's printed number lies: "inside the interval" of our mean, "above"
where all of our interval lies above it, "below" where all of it lies below. The interval holds 95 %
of the means over resampled patients, so it speaks of the patients tested, not of another training.
"""

import numpy as np
import pandas as pd

from echo_lib.evaluation.statistics import bootstrap_interval, patient_means
from echo_lib.evaluation.table import NOT_RUN, TESTED_ON, summarise

INSIDE, ABOVE, BELOW = "inside the interval", "above", "below"
NO_PAPER, NO_INTERVAL = "no number in the paper", "no interval of one patient"
LEDGER_COLUMNS = (
    "row", "name", "tested_on", "structure", "paper", "paper_std", "ours", "difference",
    "n_patients", "n_cases", "n_seeds", "low", "high", "verdict", "std_as_paper", "std_patients",
    "seed_std",
)  # fmt: skip
# Paper, section 3: Dice of the LV on EchoNet-Dynamic, A4C ED, of the network of all SDM frames.
ECHONET = {
    "echonet": ("All SDM frames, on EchoNet-Dynamic A4C ED", (87.83, 7.21)),
    "echonet_gilbert": ("The same, beside Gilbert et al. as the paper cites", (85.6, 7.0)),
}
SECTIONS = {
    "own": "On the frames of its own view and phase",
    "all": "On all views and phases",
    "echonet": "On EchoNet-Dynamic",
}
CAPTION = (
    "Dice in %. Interval: 95 % bootstrap of our mean, patients resampled. Verdict: whether the "
    "paper's number lies inside it, or all of it lies above or below that number. Std, as the "
    "paper computes it: population std over cases; of Mean, over the three structures' means. Std "
    "over patients: sample std of the patients' means. Seeds: sample std over seeds of the mean."
)
_HEAD = (
    "Trained on", "Structure", "Paper", "Ours", "Difference", "95 % interval", "Patients (cases)",
    "Std as the paper", "Std over patients", "Seeds", "Verdict",
)  # fmt: skip


def verdict(paper, low, high):
    """Where the paper's number lies; see the module's text.

    Args:
        paper: the printed mean; NaN where the paper has none.
        low, high: our interval; NaN where there is none.
    """
    if np.isnan(paper):
        return NO_PAPER
    if np.isnan(low):
        return NO_INTERVAL
    return ABOVE if low > paper else BELOW if high < paper else INSIDE


def ledger(cases, *, rows, seed=0, echonet=None):
    """Every cell: row of the table, test set, and structure or "Mean".

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``, Dice from 0 to 1.
        rows: the rows of the table, as ``rows.rows_of`` gives them.
        seed: of the bootstrap.
        echonet: data frame with columns name and dice (0 to 1), of every video of EchoNet-Dynamic
            that was tested; None where it was not run.

    Returns:
        A data frame with LEDGER_COLUMNS, Dice in %; a cell that was not run has no number of ours.
    """
    lines = []
    for row in rows:
        every = cases[cases["row"] == row.slug]
        for tested_on, chosen in zip(TESTED_ON, (row.select(every), every), strict=True):
            lines += _row_lines(chosen, cases, row, tested_on, seed)
    lines += _echonet_lines(echonet, seed)
    return pd.DataFrame(lines, columns=list(LEDGER_COLUMNS))


def _row_lines(chosen, cases, row, tested_on, seed):
    table = summarise(cases, rows=[row])
    per_patient = patient_means(chosen) if len(chosen) else None
    frames = chosen.groupby("patient")["name"].nunique()
    for cell in table[table["tested_on"] == tested_on].to_dict("records"):
        line = {key: cell[key] for key in ("row", "name", "tested_on", "structure", "difference")}
        line |= {"paper": cell["paper_mean"], "paper_std": cell["paper_std"], "ours": cell["mean"]}
        line |= {key: cell[key] for key in ("n_cases", "n_seeds", "seed_std")}
        line |= {"std_as_paper": cell["std"], "n_patients": len(frames)}
        values = None if per_patient is None else per_patient[cell["structure"]]
        yield line | _spread(values, cell["paper_mean"], seed, weights=frames.to_numpy())


def _spread(values, paper, seed, *, weights=None):
    """Interval, std over patients and verdict of one cell; ``values`` in %, one per patient."""
    if values is None:
        return {"low": np.nan, "high": np.nan, "std_patients": np.nan, "verdict": NOT_RUN}
    low = high = np.nan
    if len(values) > 1:
        low, high = bootstrap_interval(values, seed=seed, weights=weights)
    found = {"low": low, "high": high, "std_patients": values.std(ddof=1)}
    return found | {"verdict": verdict(paper, low, high)}


def _echonet_lines(echonet, seed):
    percent = None if echonet is None else 100 * echonet.groupby("name")["dice"].mean()
    for slug, (name, (paper, paper_std)) in ECHONET.items():
        line = {"row": slug, "name": name, "tested_on": "echonet", "structure": "LV endo"}
        line |= {"paper": paper, "paper_std": paper_std, "n_seeds": 0, "seed_std": np.nan}
        line |= {"n_patients": 0, "n_cases": 0, "ours": np.nan, "std_as_paper": np.nan}
        if percent is not None:
            counts = dict.fromkeys(("n_patients", "n_cases"), len(percent)) | {"n_seeds": 1}
            line |= counts | {"ours": percent.mean(), "std_as_paper": percent.std(ddof=0)}
        line |= {"difference": line["ours"] - paper}
        yield line | _spread(percent, paper, seed)


def render_markdown(table, *, title):
    """The ledger in Markdown, a section per test set.

    Args:
        table: from ``ledger``.
        title: first line; it should name the profile and the data (``profile.stamp``).
    """
    parts = [f"**{title}**", CAPTION]
    for tested_on, heading in SECTIONS.items():
        lines = table[table["tested_on"] == tested_on].to_dict("records")
        parts.append(f"**{heading}**\n\n{markdown_table(_HEAD, [_cells(line) for line in lines])}")
    return "\n\n".join(parts) + "\n"


def markdown_table(head, lines):
    """A table in Markdown.

    Args:
        head: names of the columns.
        lines: of each line its cells, all text.
    """
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _cells(line):
    def number(key, form=".1f"):
        return "–" if np.isnan(line[key]) else f"{line[key]:{form}}"

    # The paper's digits as it prints them.
    paper = "–" if np.isnan(line["paper"]) else f"{line['paper']} ± {line['paper_std']}"
    ran = line["n_cases"] > 0
    interval = "–" if np.isnan(line["low"]) else f"{line['low']:.1f} to {line['high']:.1f}"
    return [
        line["name"], line["structure"], paper,
        number("ours") if ran else NOT_RUN,
        number("difference", "+.1f"), interval,
        f"{line['n_patients']} ({line['n_cases']})" if ran else "–",
        number("std_as_paper"), number("std_patients"), number("seed_std"), line["verdict"],
    ]  # fmt: skip


def verdict_counts(table):
    """How many cells of the paper got each verdict, by test set.

    Args:
        table: from ``ledger``.
    """
    cells = table[table["paper"].notna()]
    counts = pd.crosstab(cells["tested_on"], cells["verdict"])
    return counts.reindex(index=[key for key in SECTIONS if key in counts.index])
