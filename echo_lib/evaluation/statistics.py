"""Intervals and paired differences of Dice, resampled by patient.

The frames of a patient are not independent (two views, two phases), so a bootstrap that resamples
cases would give intervals that are too narrow: here patients are resampled, with all their frames.
"""

import numpy as np
import pandas as pd

from echo_lib.labels import STRUCTURES
from echo_lib.seeding import numpy_generator

DRAWS = 2000
COMPARISON_COLUMNS = ("row", "other", "structure", "n_patients", "difference", "low", "high")


def patient_means(cases):
    """Dice in % per patient (index) and structure (columns, with "Mean"), over frames and seeds.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``, of one row of the table.
    """
    table = cases.groupby(["patient", "structure"])["dice"].mean().mul(100).unstack()
    table = table[list(STRUCTURES)]
    return table.assign(Mean=table.mean(axis=1))


def bootstrap_interval(values, *, seed, draws=DRAWS, level=0.95):
    """Percentile interval of the mean.

    Args:
        values: (n,) floats, one per patient.
        seed: of the resampling.
        draws: resamples.
        level: share of the resampled means inside the interval.

    Returns:
        (low, high), in the unit of ``values``.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape}, expected two or more finite numbers")
    chosen = numpy_generator("bootstrap", seed).integers(len(values), size=(draws, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(values[chosen].mean(axis=1), (tail, 1 - tail))
    return float(low), float(high)


def compare_rows(cases, row, *, other, seed=0):
    """Paired difference of two rows of the table, ``row`` minus ``other``, in points of Dice.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``; both rows on the same frames.
        row, other: slugs.
        seed: of the bootstrap.

    Returns:
        A data frame with COMPARISON_COLUMNS, a line per structure and "Mean"; ``low`` and ``high``
        bound the 95 % interval of the mean difference over patients.

    Raises:
        ValueError: the two rows were not tested on the same frames.
    """
    a, b = (cases[cases["row"] == slug] for slug in (row, other))
    if set(a["name"]) != set(b["name"]) or a.empty:
        raise ValueError(
            f"{row!r} was tested on {a['name'].nunique()} frames and {other!r} on "
            f"{b['name'].nunique()}, expected the same ones; predict both rows again"
        )
    differences = patient_means(a) - patient_means(b)
    lines = []
    for structure, values in differences.items():
        low, high = bootstrap_interval(values, seed=seed)
        lines.append((row, other, structure, len(values), values.mean(), low, high))
    return pd.DataFrame(lines, columns=list(COMPARISON_COLUMNS))
