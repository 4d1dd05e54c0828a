"""Dice per case and structure."""

import numpy as np
import pandas as pd

from echo_lib.labels import STRUCTURES, require_labels, structure_mask

CASE_COLUMNS = ("row", "seed", "name", "patient", "view", "phase", "structure", "dice")


def dice_coefficient(predicted, truth, *, absent="one"):
    """2 |A and B| / (|A| + |B|) of two masks.

    Args:
        predicted, truth: (H, W) bool.
        absent: the score of a structure that is absent from both: "one" (they agree), or "zero".

    Returns:
        A number from 0 to 1; a structure absent from one mask only scores 0.
    """
    if absent not in ("one", "zero"):
        raise ValueError(f"absent {absent!r}, expected 'one' or 'zero'")
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of {predicted.shape} and {truth.shape}; expected one shape")
    extent = int(predicted.sum()) + int(truth.sum())
    if extent == 0:
        # FIDELITY: "zero" is what the released code gives.
        return {"one": 1.0, "zero": 0.0}[absent]
    return 2 * int((predicted & truth).sum()) / extent


def dice(predictions, truths, index, *, row, seed=0, absent="one"):
    """Dice of every case and structure of Table 1.

    The epicardium is the cavity with its wall.

    Args:
        predictions, truths: (N, H, W) integers, CAMUS ids.
        index: data frame of N lines with columns name, patient, view, phase.
        row: slug of the row that predicted.
        seed: the table seed of the network.
        absent: see ``dice_coefficient``.

    Returns:
        A data frame with CASE_COLUMNS, three lines per case, in the order of ``index``.

    Raises:
        ValueError: lengths, shapes or label values do not fit.
    """
    if not len(predictions) == len(truths) == len(index):
        raise ValueError(
            f"{len(predictions)} predictions, {len(truths)} truths and an index of {len(index)}; "
            "expected as many of each"
        )
    lines = []
    for predicted, truth, case in zip(predictions, truths, index.to_dict("records"), strict=True):
        predicted, truth = np.asarray(predicted), np.asarray(truth)
        require_labels(predicted, 4, f"prediction of {case['name']}")
        require_labels(truth, 4, f"truth of {case['name']}")
        case = {key: case[key] for key in ("name", "patient", "view", "phase")}
        for structure in STRUCTURES:
            masks = structure_mask(predicted, structure), structure_mask(truth, structure)
            score = dice_coefficient(*masks, absent=absent)
            lines.append({"row": row, "seed": seed, **case, "structure": structure, "dice": score})
    return pd.DataFrame(lines, columns=list(CASE_COLUMNS))
