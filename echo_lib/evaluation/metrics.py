"""Dice, contour distances and area error per case and structure.

What holds for an empty structure: absent from both masks, Dice is 1 (``absent``), distances and
area error are 0; absent from one mask, Dice is 0 and distances are NaN, undefined, and counted
where they are summarised; absent from the reference alone, so is the area error.
"""

import numpy as np
import pandas as pd
from monai.metrics import get_surface_distance

from echo_lib.labels import STRUCTURES, require_labels, structure_mask

CASE_COLUMNS = ("row", "seed", "name", "patient", "view", "phase", "structure", "dice")
DISTANCE_COLUMNS = ("dice_original", "hd95", "mean_distance", "area_error_percent", "unit")
PERCENTILE = 95


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
    _require_one_shape(predicted, truth)
    extent = int(predicted.sum()) + int(truth.sum())
    if extent == 0:
        # FIDELITY: "zero" is what the released code gives.
        return {"one": 1.0, "zero": 0.0}[absent]
    return 2 * int((predicted & truth).sum()) / extent


def surface_distances(predicted, truth, *, spacing_mm):
    """95 % Hausdorff distance and mean surface distance of two masks, both symmetric.

    A contour is the mask's pixels with one of four neighbours outside it. Every contour pixel of
    one mask has a distance to the nearest of the other: the first number is the larger of the two
    directions' 95th percentiles, the second the mean over the pixels of both contours, as in MONAI.

    Args:
        predicted, truth: (H, W) bool.
        spacing_mm: (2,) rows, columns; (1, 1) gives pixels.

    Returns:
        (hd95, mean) in the unit of ``spacing_mm``; (0, 0) where both masks are empty, (NaN, NaN)
        where one is.
    """
    _require_one_shape(predicted, truth)
    if predicted.any() != truth.any():
        return float("nan"), float("nan")
    if not truth.any():
        return 0.0, 0.0
    contours = [_contour(mask) for mask in _cropped(predicted, truth)]
    spacing = [float(value) for value in spacing_mm]
    there = get_surface_distance(*contours, spacing=spacing)
    back = get_surface_distance(*contours[::-1], spacing=spacing)
    hd95 = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
    return float(hd95), float(np.concatenate([there, back]).mean())


def _cropped(predicted, truth):
    """Two masks or label maps in the box that holds all that is not 0 in either."""
    either = predicted | truth
    ranges = (np.flatnonzero(either.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(r[0], r[-1] + 1) if len(r) else slice(0) for r in ranges)
    return predicted[box], truth[box]


def _contour(mask):
    """The pixels of a mask with one of their four neighbours outside it, or beyond the array."""
    # As MONAI's get_mask_edges, whose search for an absent GPU library costs more than all else.
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def area_error(predicted, truth):
    """How much larger the predicted area is than the true one, in % of the true one.

    Args:
        predicted, truth: (H, W) bool.

    Returns:
        A signed number; 0 where both masks are empty, NaN where the true one alone is.
    """
    _require_one_shape(predicted, truth)
    found, true = int(predicted.sum()), int(truth.sum())
    if true == 0:
        return 0.0 if found == 0 else float("nan")
    return 100 * (found - true) / true


def enlarge(label_map, shape):
    """A label map in another size, by nearest neighbour: back to the frame that it came from.

    The inverse of how frames are prepared: a pixel takes the value of the one in which its centre
    lies.

    Args:
        label_map: (H, W) integers.
        shape: (rows, columns) wanted.
    """
    places = (
        (2 * np.arange(wanted) + 1) * size // (2 * wanted)
        for wanted, size in zip(shape, label_map.shape, strict=True)
    )
    return label_map[np.ix_(*places)]


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
    lines = []
    for predicted, truth, case in _cases(predictions, truths, index):
        for structure in STRUCTURES:
            masks = structure_mask(predicted, structure), structure_mask(truth, structure)
            score = dice_coefficient(*masks, absent=absent)
            lines.append({"row": row, "seed": seed, **case, "structure": structure, "dice": score})
    return pd.DataFrame(lines, columns=list(CASE_COLUMNS))


def ventricle_dice(predictions, masks, index):
    """Dice of the LV cavity alone, for data that know no other structure.

    Args:
        predictions: (N, H, W) integers, CAMUS ids.
        masks: (N, H, W) bool, True inside the cavity.
        index: data frame of N lines with column name.

    Returns:
        A data frame with columns name and dice, in the order of ``index``.
    """
    pairs = zip(predictions, masks, strict=True)
    scores = [dice_coefficient(structure_mask(found, "LV endo"), mask) for found, mask in pairs]
    return pd.DataFrame({"name": index["name"].to_numpy(), "dice": scores})


def in_original_resolution(predictions, originals, spacing_mm, index):
    """Dice, distances and area error in the frames' original resolution.

    Args:
        predictions: (N, H, W) integers, CAMUS ids, in the size that the network sees.
        originals: N reference maps (rows, columns), CAMUS ids, each in its own size.
        spacing_mm: (N, 2) of the originals' rows and columns; NaN where it is not known, and
            distances are then in pixels.
        index: data frame of N lines with columns name, patient, view, phase.

    Returns:
        A data frame with name, structure and DISTANCE_COLUMNS, three lines per case; ``unit`` is
        that of the two distances, "mm" or "px".
    """
    lines = []
    spacings = np.asarray(spacing_mm, dtype=np.float64).reshape(len(index), 2)
    for (predicted, truth, case), spacing in zip(
        _cases(predictions, originals, index), spacings, strict=True
    ):
        known = bool(np.isfinite(spacing).all())
        # The rest is background in both, and counts in no measure.
        predicted, truth = _cropped(enlarge(predicted, truth.shape), truth)
        for structure in STRUCTURES:
            masks = structure_mask(predicted, structure), structure_mask(truth, structure)
            hd95, mean = surface_distances(*masks, spacing_mm=spacing if known else (1, 1))
            numbers = (dice_coefficient(*masks), hd95, mean, area_error(*masks))
            lines.append((case["name"], structure, *numbers, "mm" if known else "px"))
    return pd.DataFrame(lines, columns=["name", "structure", *DISTANCE_COLUMNS])


def measure(predictions, truths, index, *, row, seed=0, originals=None, variant="as_written"):
    """Every measure of a network's cases.

    Args:
        predictions, truths, index, row, seed: see ``dice``.
        originals: (N reference maps, (N, 2) spacing in mm), see ``in_original_resolution``; left
            out, the truths themselves, in pixels.
        variant: the row's; "as_released" scores a structure absent from both as 0.

    Returns:
        A data frame with CASE_COLUMNS and DISTANCE_COLUMNS, three lines per case; ``dice`` is
        measured in the size that the network sees, as in the paper.
    """
    # FIDELITY: a row as released scores a structure absent from both as the released code does.
    absent = {"as_written": "one", "as_released": "zero"}[variant]
    maps, spacing_mm = originals or (truths, np.full((len(index), 2), np.nan))
    scores = dice(predictions, truths, index, row=row, seed=seed, absent=absent)
    original = in_original_resolution(predictions, maps, spacing_mm, index)
    return pd.concat([scores, original[list(DISTANCE_COLUMNS)]], axis=1)


def _cases(predictions, truths, index):
    """Prediction, truth and identity of every case, all checked."""
    if not len(predictions) == len(truths) == len(index):
        raise ValueError(
            f"{len(predictions)} predictions, {len(truths)} truths and an index of {len(index)}; "
            "expected as many of each"
        )
    for predicted, truth, case in zip(predictions, truths, index.to_dict("records"), strict=True):
        predicted, truth = np.asarray(predicted), np.asarray(truth)
        require_labels(predicted, 4, f"prediction of {case['name']}")
        require_labels(truth, 4, f"truth of {case['name']}")
        yield predicted, truth, {key: case[key] for key in ("name", "patient", "view", "phase")}


def _require_one_shape(predicted, truth):
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of {predicted.shape} and {truth.shape}; expected one shape")
