"""Intervals, paired tests and agreement, by patient.

The frames of a patient are not independent (two views, two phases), so a bootstrap that resamples
cases would give intervals that are too narrow: here patients are resampled, with all their frames,
and a test between rows sees one number per patient.
"""

import numpy as np
import pandas as pd
import scipy.stats

from echo_lib.labels import STRUCTURES
from echo_lib.seeding import numpy_generator

DRAWS = 2000
# The questions of the paper: is synthetic as good as real, and is SDM better than the rest?
REFERENCES = ("real_all", "sdm_all")
COMPARISON_COLUMNS = (
    "row", "other", "structure", "n_patients", "n_cases", "difference", "low", "high", "p",
    "p_holm",
)  # fmt: skip


def patient_means(cases):
    """Dice in % per patient (index) and structure (columns, with "Mean"), over frames and seeds.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``, of one row of the table.
    """
    table = cases.groupby(["patient", "structure"])["dice"].mean().mul(100).unstack()
    table = table[list(STRUCTURES)]
    return table.assign(Mean=table.mean(axis=1))


def bootstrap_interval(values, *, seed, weights=None, draws=DRAWS, level=0.95):
    """Percentile interval of the mean over cases, patients resampled.

    Args:
        values: (n,) floats, one per patient.
        seed: of the resampling.
        weights: (n,) numbers of cases behind the values; None takes as many of each.
        draws: resamples.
        level: share of the resampled means inside the interval.

    Returns:
        (low, high), in the unit of ``values``.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape}, expected two or more finite numbers")
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    chosen = numpy_generator("bootstrap", seed).integers(len(values), size=(draws, len(values)))
    means = (values * weights)[chosen].sum(axis=1) / weights[chosen].sum(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def compare_rows(cases, row, *, other, seed=0):
    """Paired difference of two rows of the table, ``row`` minus ``other``, in points of Dice.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``; both rows on the same frames.
        row, other: slugs.
        seed: of the bootstrap.

    Returns:
        A data frame with COMPARISON_COLUMNS but ``p_holm``, a line per structure and "Mean";
        ``low`` and ``high`` bound the 95 % interval of the mean difference over patients (NaN for
        one patient), ``p`` is Wilcoxon's signed rank test, two-sided, of the patients' differences.

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
        interval = bootstrap_interval(values, seed=seed) if len(values) > 1 else (np.nan, np.nan)
        counts = (len(values), a["name"].nunique())
        p = signed_rank_p(values)
        lines.append((row, other, structure, *counts, values.mean(), *interval, p))
    return pd.DataFrame(lines, columns=list(COMPARISON_COLUMNS[:-1]))


def compare_all(cases, *, rows, references=REFERENCES, seed=0):
    """Every row against each reference, on the frames that are own to both, with Holm's correction.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``.
        rows: the rows of the table; those without cases are left out.
        references: slugs of the rows compared with.
        seed: of the bootstrap.

    Returns:
        A data frame with COMPARISON_COLUMNS. The family over which ``p_holm`` is corrected is all
        comparisons of one structure, and of "Mean".
    """
    run = {row.slug: row for row in rows if (cases["row"] == row.slug).any()}
    pairs = [(slug, other) for other in references if other in run for slug in run if slug != other]
    parts = []
    for number, (slug, other) in enumerate(pairs):
        both = run[slug].select(run[other].select(cases))
        if len(both) and (other, slug) not in pairs[:number]:
            parts.append(compare_rows(both, slug, other=other, seed=seed))
    if not parts:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(p_holm=table.groupby("structure")["p"].transform(holm))


def signed_rank_p(differences):
    """Two-sided p of Wilcoxon's signed rank test; differences of 0 are left out, 1 where all are.

    Args:
        differences: (n,) floats, one per patient.
    """
    # Differences that are equal on paper shall tie: floats differ in their last digits.
    differences = np.round(np.asarray(differences, dtype=np.float64), 9)
    if not differences.any():
        return 1.0
    return float(scipy.stats.wilcoxon(differences[differences != 0]).pvalue)


def holm(p_values):
    """Holm's step-down correction: p times the number of hypotheses not yet rejected.

    Args:
        p_values: (m,) floats.

    Returns:
        (m,) corrected values in the same order, at most 1, monotone in ``p_values``.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def agreement(values, references):
    """Bland and Altman's limits of agreement, ``values`` minus ``references``.

    J. M. Bland and D. G. Altman, Lancet 327(8476), 1986: bias ± 1.96 sample std of the differences.

    Args:
        values, references: (n,) floats of the same patients; pairs with a NaN are left out.

    Returns:
        dict of n, n_undefined (pairs left out), bias, std, low, high, mean_absolute_error,
        correlation (Pearson's); NaN where fewer than two pairs are left, or nothing varies.
    """
    values, references = (np.asarray(x, dtype=np.float64) for x in (values, references))
    defined = np.isfinite(values) & np.isfinite(references)
    values, references = values[defined], references[defined]
    found = {"n": len(values), "n_undefined": int((~defined).sum())}
    names = ("bias", "std", "low", "high", "mean_absolute_error", "correlation")
    if len(values) < 2:
        return found | dict.fromkeys(names, float("nan"))
    errors = values - references
    bias, std = errors.mean(), errors.std(ddof=1)
    varies = np.ptp(values) > 0 and np.ptp(references) > 0
    correlation = np.corrcoef(values, references)[0, 1] if varies else float("nan")
    numbers = (bias, std, bias - 1.96 * std, bias + 1.96 * std, np.abs(errors).mean(), correlation)
    return found | {name: float(number) for name, number in zip(names, numbers, strict=True)}
