"""Table 1, from the Dice per case alone, beside the paper's."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from echo_lib.evaluation.metrics import CASE_COLUMNS
from echo_lib.labels import STRUCTURES
from echo_lib.rows import PAPER_ROWS

COLUMNS = (*STRUCTURES, "Mean")
TESTED_ON = ("own", "all")
NOT_RUN = "not run"
TABLE_COLUMNS = (
    "row", "name", "tested_on", "status", "structure", "n_cases", "n_seeds", "mean", "std",
    "seed_std", "paper_mean", "paper_std", "difference",
)  # fmt: skip
CAPTION = (
    "Dice in %: mean ± population std over cases; the ± of Mean is the population std of the three "
    "structure means, as in the paper. A structure absent from prediction and reference scores "
    "100 (in rows as released 0), one absent from either alone 0. Paper's values in brackets."
)
SEEDS_CAPTION = "After a comma: sample std over seeds of the mean; a case's Dice is averaged first."


def summarise(cases, *, rows=PAPER_ROWS):
    """Table 1 as tidy data: one line per row, test set and structure (and "Mean").

    A row is tested on the frames of its own view and phase ("own", beside the paper's numbers) and
    on all frames ("all"). With several seeds a case's Dice is first averaged over them.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``, Dice from 0 to 1.
        rows: the rows wanted, as ``rows.rows_of`` gives them; one without cases has the status
            "not run" and no numbers, one that the paper lacks no paper's.

    Returns:
        A data frame with TABLE_COLUMNS; Dice in %, ``seed_std`` the sample std of the seeds' means,
        ``difference`` in points from the paper.
    """
    missing = [column for column in CASE_COLUMNS if column not in cases]
    if missing:
        raise ValueError(
            f"cases lack {', '.join(missing)}; expected the columns {', '.join(CASE_COLUMNS)}"
        )
    lines = []
    for row in rows:
        own = cases[cases["row"] == row.slug]
        for tested_on, chosen in (("own", row.select(own)), ("all", own)):
            lines += _row_lines(row, tested_on, chosen)
    return pd.DataFrame(lines, columns=list(TABLE_COLUMNS))


def _row_lines(row, tested_on, cases):
    # The paper's numbers stand beside the test set that they come from.
    compared = tested_on == "own" or row.select(cases).equals(cases)
    numbers = _numbers(cases) if len(cases) else {}
    lines = []
    for column in COLUMNS:
        nothing = (np.nan, np.nan)
        paper_mean, paper_std = row.paper.get(column, nothing) if compared else nothing
        line = {"row": row.slug, "name": row.name, "tested_on": tested_on, "structure": column}
        line |= {"status": "run" if numbers else NOT_RUN, "n_cases": 0, "n_seeds": 0}
        line |= {"mean": np.nan, "std": np.nan, "seed_std": np.nan} | numbers.get(column, {})
        line |= {"paper_mean": paper_mean, "paper_std": paper_std}
        lines.append(line | {"difference": line["mean"] - paper_mean})
    return lines


def _numbers(cases):
    """Per structure and "Mean": mean, std, seed_std, n_cases, n_seeds."""
    per_case = cases.groupby(["structure", "name"])["dice"].mean().mul(100)
    per_seed = cases.groupby(["seed", "structure"])["dice"].mean().mul(100).unstack()
    means = per_case.groupby("structure").mean()[list(STRUCTURES)]
    stds = per_case.groupby("structure").std(ddof=0)
    counts = {"n_cases": cases["name"].nunique(), "n_seeds": cases["seed"].nunique()}
    numbers = {
        structure: {
            "mean": means[structure],
            "std": stds[structure],
            "seed_std": per_seed[structure].std(),
        }
        for structure in STRUCTURES
    }
    seed_std = per_seed[list(STRUCTURES)].mean(axis=1).std()
    numbers["Mean"] = {"mean": means.mean(), "std": means.std(ddof=0), "seed_std": seed_std}
    return {column: line | counts for column, line in numbers.items()}


def render_markdown(table, *, title, tested_on="own"):
    """The table in Markdown; a row that was not run says so.

    Args:
        table: from ``summarise``.
        title: first line; it should name the profile and the data (``profile.stamp``).
        tested_on: "own" or "all".
    """
    head = ["Trained on", "Cases", *COLUMNS]
    lines = [f"**{title}**", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cells) + " |" for cells in _cells(table, tested_on)]
    return "\n".join([*lines, "", caption(table), ""])


def render_text(table, *, title, tested_on="own"):
    """The table in plain text, for the terminal; see ``render_markdown``."""
    body = [["Trained on", "Cases", *COLUMNS], *_cells(table, tested_on)]
    widths = [max(len(line[i]) for line in body) for i in range(len(body[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in body
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([title, "", *lines, "", caption(table), ""])


def caption(table):
    """What stands below the table."""
    return f"{CAPTION} {SEEDS_CAPTION}" if (table["n_seeds"] > 1).any() else CAPTION


def _cells(table, tested_on):
    if tested_on not in TESTED_ON:
        raise ValueError(f"tested_on {tested_on!r}, expected one of {TESTED_ON}")
    for _, row in table[table["tested_on"] == tested_on].groupby("row", sort=False):
        row = row.set_index("structure")
        first = row.iloc[0]
        ran = first["status"] == "run"
        yield [
            first["name"],
            _count(first) if ran else NOT_RUN,
            *(_cell(row.loc[column], ran) for column in COLUMNS),
        ]


def _count(line):
    return f"{line['n_cases']}" + (f", {line['n_seeds']} seeds" if line["n_seeds"] > 1 else "")


def _cell(line, ran):
    own = f"{line['mean']:.1f} ± {line['std']:.1f}" if ran else "–"
    if line["n_seeds"] > 1:
        own += f", {line['seed_std']:.1f}"
    if np.isnan(line["paper_mean"]):
        return own
    return f"{own} ({line['paper_mean']:.1f} ± {line['paper_std']:.1f})"


def table_title(profile):
    """The first line of the table, with the stamp of whatever is not the paper on real data."""
    return "Table 1. Dice of the segmentation networks" + (
        f" · {profile.stamp}" if profile.stamp else ""
    )


def read_table(folder):
    """The tidy table of a run, ``evaluation/table.csv`` below its folder.

    Raises:
        ValueError: the run has none.
    """
    path = Path(folder) / "evaluation" / "table.csv"
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; expected a run folder whose stage 'evaluation' is finished"
        )
    return pd.read_csv(path)


def main(arguments=None):
    """Print Table 1 of a run: ``python -m echo_lib.evaluation.table runs/demo``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--tested-on", choices=TESTED_ON, default="own")
    options = parser.parse_args(arguments)
    try:
        table = read_table(options.run_folder)
    except ValueError as error:
        sys.exit(str(error))
    title = (
        (options.run_folder / "evaluation" / "table.md").read_text(encoding="utf-8").splitlines()[0]
    )
    print(render_text(table, title=title.strip("*"), tested_on=options.tested_on))


if __name__ == "__main__":
    main()
