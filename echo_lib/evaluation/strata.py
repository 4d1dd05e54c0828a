"""Where a row of the table falls short: Dice by view, phase, quality, contrast and fidelity.

The quality of an image is the grade that experts gave it, where the Info files of CAMUS are at
hand. The contrast of a frame (mean grey value of the myocardium minus that of the LV cavity) stands
for it elsewhere: it can be measured on every frame. The fidelity of a frame is that of the
synthetic images of its label maps.
"""

import numpy as np
import pandas as pd

from echo_lib.evaluation.statistics import bootstrap_interval, patient_means
from echo_lib.labels import CAMUS_LV, CAMUS_MYOCARDIUM

KINDS = ("view", "phase", "quality", "contrast", "fidelity")
THIRDS = ("lowest third", "middle third", "highest third")
FRAME_COLUMNS = ("name", "quality", "contrast", "fidelity")
STRATA_COLUMNS = (
    "row", "name", "by", "stratum", "structure", "n_cases", "n_patients", "mean", "low", "high",
)  # fmt: skip


def describe_frames(index, images, truths, *, quality=None, fidelity=None):
    """What a frame's Dice may depend on.

    Args:
        index: data frame of N frames with name, patient, view and phase.
        images: (N, H, W) uint8 grey values.
        truths: (N, H, W) CAMUS ids.
        quality: N grades, "" where there is none; from ``originals.load``.
        fidelity: scores of synthetic images (``fidelity.score_images``, of generator "sdm") with
            patient, view, phase and mean_dice; a frame takes the mean over its own maps.

    Returns:
        A data frame with FRAME_COLUMNS: quality, None where it is not known; contrast in grey
        values, NaN where a structure is absent; fidelity from 0 to 1, NaN where no image of the
        frame's maps was scored.
    """
    contrasts = [
        _mean(image, truth == CAMUS_MYOCARDIUM) - _mean(image, truth == CAMUS_LV)
        for image, truth in zip(images, truths, strict=True)
    ]
    found = np.full(len(index), np.nan)
    if fidelity is not None:
        keys = ["patient", "view", "phase"]
        scores = fidelity.groupby(keys)["mean_dice"].mean()
        found = scores.reindex(pd.MultiIndex.from_frame(index[keys])).to_numpy()
    grades = [grade or None for grade in quality or [""] * len(index)]
    columns = {"name": index["name"], "quality": grades}
    return pd.DataFrame(columns | {"contrast": contrasts, "fidelity": found})


def tabulate(cases, frames, *, rows, seed=0):
    """Mean Dice of every row and stratum, on the row's own views and phases.

    Args:
        cases: data frame with ``metrics.CASE_COLUMNS``.
        frames: from ``describe_frames``, of all their frames.
        rows: the rows of the table; those without cases are left out.
        seed: of the bootstrap over patients.

    Returns:
        A data frame with STRATA_COLUMNS, Dice in %; thirds are of the frames, by contrast and by
        fidelity, the same for every row.
    """
    named = frames.set_index("name")
    strata = {kind: _thirds(named[kind]) for kind in ("contrast", "fidelity")}
    strata["quality"] = named.get("quality", {})  # earlier tables lack it
    lines = []
    for row in rows:
        own = row.select(cases[cases["row"] == row.slug])
        own = own.assign(**{kind: own["name"].map(known) for kind, known in strata.items()})
        for kind in KINDS:
            for stratum, group in own.groupby(kind, observed=True):
                head = {"row": row.slug, "name": row.name, "by": kind, "stratum": str(stratum)}
                lines += [head | numbers for numbers in _numbers(group, seed)]
    return pd.DataFrame(lines, columns=list(STRATA_COLUMNS))


def _numbers(group, seed):
    per_patient, weights = patient_means(group), group.groupby("patient")["name"].nunique()
    for structure, values in per_patient.items():
        low = high = np.nan
        if len(values) > 1:
            low, high = bootstrap_interval(values, seed=seed, weights=weights.to_numpy())
        counts = {"n_cases": int(weights.sum()), "n_patients": len(values)}
        mean = np.average(values, weights=weights.loc[values.index])
        yield {"structure": structure, **counts, "mean": mean, "low": low, "high": high}


def _thirds(values):
    """Name of the third that each frame is in; ties in the order of names, NaN in none."""
    known = values.dropna().sort_index()
    if len(known) < len(THIRDS):
        return known.iloc[:0].astype("category")
    return pd.qcut(known.rank(method="first"), len(THIRDS), labels=list(THIRDS))


def _mean(image, mask):
    return float(image[mask].mean()) if mask.any() else float("nan")
