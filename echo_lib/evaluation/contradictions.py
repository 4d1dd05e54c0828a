"""Where the paper's numbers disagree with each other, with the arithmetic.

Everything computed here comes from Table 1 as printed (``rows.PAPER_ROWS``); what is printed
elsewhere is quoted below with its place.
"""

import numpy as np
import pandas as pd

from echo_lib.labels import STRUCTURES
from echo_lib.rows import PAPER_ROWS, find_row

CONTRADICTION_COLUMNS = ("claim", "where", "printed", "computed", "agrees", "note")
ABSTRACT_STDS = (4.91, 4.22, 4.83)
ABSTRACT_GAINS = (9.2, 3.3, 13.9)  # "a relative increase of"
CONCLUSION_GAINS = (11.6, 3.7, 19.5)  # "improvement in relation to previous SOTA results"
README_DICE = (88.5, 92.3, 86.3)  # of the released code, all SDM frames
_LAST_DIGIT = 0.05 + 1e-9  # half a unit of the last digit that Table 1 prints


def contradictions():
    """The paper's numbers beside what Table 1 gives for them.

    Returns:
        A data frame with CONTRADICTION_COLUMNS, all text; ``agrees`` is "no" where the two differ
        by more than half of Table 1's last digit, and empty where there is nothing to compute.
    """
    sdm, cyclegan = _means("sdm_all"), _means("cyclegan_all")
    points = [a - b for a, b in zip(sdm, cyclegan, strict=True)]
    relative = [100 * gain / b for gain, b in zip(points, cyclegan, strict=True)]
    lines = [
        *_per_structure(
            "± of all SDM frames", "abstract", ABSTRACT_STDS, _stds("sdm_all"),
            "Table 1 and the conclusion print the other number",
        ),
        *_per_structure(
            "relative gain over CycleGAN, %", "abstract", ABSTRACT_GAINS, relative,
            "what is printed is the gain in points of Dice, not relative to CycleGAN",
        ),
        *_per_structure("gain over CycleGAN, points", "abstract", ABSTRACT_GAINS, points),
        *_per_structure("relative gain over CycleGAN, %", "conclusion", CONCLUSION_GAINS, relative),
        *_per_structure(
            "Dice of all SDM frames", "README of the released code", README_DICE, sdm,
            "a third set of numbers for the same network",
        ),
        *(line for row in PAPER_ROWS for line in _mean_column(row)),
        *_unprinted(),
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=list(CONTRADICTION_COLUMNS))


def mean_and_std(values):
    """Mean and population std of the three structures' means: the last column of Table 1."""
    return float(np.mean(values)), float(np.std(values))


def _means(slug):
    return [find_row(slug).paper[structure][0] for structure in STRUCTURES]


def _stds(slug):
    return [find_row(slug).paper[structure][1] for structure in STRUCTURES]


def _per_structure(claim, where, printed, computed, note=""):
    for structure, said, found in zip(STRUCTURES, printed, computed, strict=True):
        *line, agrees, _ = _line(f"{claim}: {structure}", where, said, found, note)
        yield (*line, agrees, note if agrees == "no" else "")


def _mean_column(row):
    said_mean, said_std = row.paper["Mean"]
    mean, std = mean_and_std([row.paper[structure][0] for structure in STRUCTURES])
    carried = abs(said_mean - mean) > _LAST_DIGIT
    note = "the three structures' own rounding can carry this over" if carried else ""
    yield _line(f"Mean: {row.name}", "Table 1", said_mean, mean, note)
    note = "population std of the three structures' means: not a spread over patients"
    yield _line(f"± of Mean: {row.name}", "Table 1", said_std, std, note)


def _line(claim, where, said, found, note):
    # Whatever is computed rests on Table 1, which prints one decimal.
    agrees = "yes" if abs(said - found) <= _LAST_DIGIT else "no"
    return claim, where, f"{said}", f"{found:.2f}", agrees, note


def _unprinted():
    """What no arithmetic can settle."""
    yield (
        "tested on", "section 2.2", "the official test split", "", "",
        "the released code tests a network of one view on that view's own images, 50 and not 200; "
        "Table 1 does not say which",
    )  # fmt: skip
    yield (
        "CycleGAN row", "section 2.3", "originally published results of [6]", "", "",
        "Fig. 5 shows a CycleGAN of the authors' own, but the row is quoted from [6]: not the same "
        "test",
    )  # fmt: skip
    yield (
        "significantly outperformed", "section 4", "no test", "", "",
        "no p value or interval is given, and the ± of Mean cannot give one",
    )  # fmt: skip
