"""Does the image follow its map?

A synthetic image is segmented by a network trained on real frames, and what the network finds is
compared with the label map that the image was made from. The network errs too: real frames, scored
in the same way against their own maps, say how far a perfect generator could come.
"""

import numpy as np
import pandas as pd

from echo_lib.evaluation import metrics
from echo_lib.evaluation.statistics import bootstrap_interval
from echo_lib.evaluation.structures import merged_chambers, missing_classes
from echo_lib.labels import (
    CAMUS_NAMES,
    SDM_NAMES,
    SDM_OUTSIDE,
    STRUCTURES,
    remove_sector,
    require_labels,
    structure_mask,
)
from echo_lib.provenance import MANIFEST, Stage, digest, require, write_text


def _slug(name):
    return name.lower().replace(" ", "_")


DICE_COLUMNS = tuple(f"dice_{_slug(structure)}" for structure in STRUCTURES)
DISTANCE_COLUMNS = tuple(f"distance_{_slug(structure)}" for structure in STRUCTURES)
GREY_COLUMNS = tuple(f"grey_{kind}_{_slug(name)}" for name in SDM_NAMES for kind in ("mean", "std"))
INDEX_COLUMNS = ("name", "patient", "view", "phase", "split")
IMAGE_COLUMNS = (
    "generator", *INDEX_COLUMNS, *DICE_COLUMNS, "mean_dice", *DISTANCE_COLUMNS, "mean_distance",
    "distance_unit", "n_missing", "missing", "n_merged", "merged", *GREY_COLUMNS, "energy_outside",
)  # fmt: skip
MEASURES = (
    *DICE_COLUMNS, "mean_dice", *DISTANCE_COLUMNS, "mean_distance", "with_missing", "with_merged",
    *GREY_COLUMNS, "energy_outside",
)  # fmt: skip
SUMMARY_COLUMNS = (
    "generator", "measure", "unit", "n_images", "n_patients", "mean", "low", "high",
)  # fmt: skip
_DECIMALS = {"share": 3, "mm": 2, "px": 2, "grey": 1}  # in a table to read


def score_images(predictions, label_maps, index, *, images=None, spacing_mm=None, generator="sdm"):
    """How well each image follows the label map that it was made from.

    Args:
        predictions: (N, H, W) CAMUS ids that a network trained on real frames found in the images.
        label_maps: (N, H, W) SDM ids that the images were made from.
        index: data frame of N lines with INDEX_COLUMNS.
        images: (N, H, W) or (N, 1, H, W) uint8; without them the grey values are left empty.
        spacing_mm: (2,) or (N, 2) pixel spacing of the maps, rows and columns; a line that is not
            finite is unknown, and its contour distances are in px.
        generator: what made the images: "sdm", "cyclegan", or "real" for frames of a scanner.

    Returns:
        A data frame with IMAGE_COLUMNS, in the order of ``index``. Contour distances are mean
        surface distances, empty where a structure is absent from map or prediction. ``missing`` and
        ``merged`` name what ``structures`` found, "; " between.

    Raises:
        ValueError: lengths, shapes or label values do not fit.
    """
    predictions, label_maps = np.asarray(predictions), np.asarray(label_maps)
    if predictions.shape != label_maps.shape or len(index) != len(label_maps):
        raise ValueError(
            f"predictions of {predictions.shape}, label maps of {label_maps.shape} and an index of "
            f"{len(index)} lines; expected one shape (N, H, W) and N lines"
        )
    images = _grey_images(images, label_maps.shape)
    spacings = _spacings(spacing_mm, len(index))
    lines = []
    for number, case in enumerate(index.to_dict("records")):
        require_labels(predictions[number], len(CAMUS_NAMES), f"prediction of {case['name']}")
        line = {"generator": generator, **{key: case[key] for key in INDEX_COLUMNS}}
        line |= _overlap(predictions[number], remove_sector(label_maps[number]), spacings[number])
        line |= _intensities(None if images is None else images[number], label_maps[number])
        lines.append(line)
    return pd.DataFrame(lines, columns=list(IMAGE_COLUMNS))


def map_spacing(index, frames, *, known_mm, size_px):
    """Pixel spacing of label maps: that of the frame each was drawn on, in the prepared size.

    Args:
        index: lines with split and name, of real frames or of maps made from them (a frame's name,
            an underscore and a number).
        frames: ``prepared/frames.csv``.
        known_mm: (N, 2) spacing of these frames as they were stored, NaN where it is not known.
        size_px: rows and columns of the maps.

    Returns:
        (len(index), 2) array in mm, rows and columns.
    """
    prepared = known_mm * frames[["rows_px", "columns_px"]].to_numpy(dtype=np.float64) / size_px
    by_name = dict(zip(zip(frames["split"], frames["name"], strict=True), prepared, strict=True))
    keys = zip(index["split"], index["name"], strict=True)
    return np.array(
        [by_name.get((s, n), by_name.get((s, n.rpartition("_")[0]))) for s, n in keys], dtype=float
    )


def _grey_images(images, shape):
    if images is None:
        return None
    images = np.asarray(images)
    images = images[:, 0] if images.ndim == 4 else images
    if images.shape != shape or images.dtype != np.uint8:
        raise ValueError(f"images of {images.shape} and {images.dtype}, expected {shape} uint8")
    return images


def _spacings(spacing_mm, count):
    if spacing_mm is None:
        return np.full((count, 2), np.nan)
    spacings = np.asarray(spacing_mm, dtype=np.float64)
    if spacings.shape not in ((2,), (count, 2)) or (spacings <= 0).any():
        raise ValueError(
            f"spacing_mm of shape {spacings.shape}, expected positive (2,) or ({count}, 2)"
        )
    return np.broadcast_to(spacings, (count, 2))


def _overlap(prediction, camus_map, spacing_mm):
    """Dice, contour distance, missing and merged structures of one image."""
    known = bool(np.isfinite(spacing_mm).all())
    spacing = tuple(spacing_mm) if known else (1.0, 1.0)
    line = {"distance_unit": "mm" if known else "px"}
    for structure, dice, distance in zip(STRUCTURES, DICE_COLUMNS, DISTANCE_COLUMNS, strict=True):
        masks = structure_mask(prediction, structure), structure_mask(camus_map, structure)
        line[dice] = metrics.dice_coefficient(*masks)
        both = all(mask.any() for mask in masks)
        line[distance] = (
            metrics.surface_distances(*masks, spacing_mm=spacing)[1] if both else np.nan
        )
    line["mean_dice"] = float(np.mean([line[column] for column in DICE_COLUMNS]))
    found = [line[c] for c in DISTANCE_COLUMNS if np.isfinite(line[c])]
    line["mean_distance"] = float(np.mean(found)) if found else np.nan
    for key, names in (
        ("missing", missing_classes(prediction, camus_map)),
        ("merged", merged_chambers(prediction, camus_map)),
    ):
        line |= {f"n_{key}": len(names), key: "; ".join(names)}
    return line


def _intensities(image, label_map):
    """Grey values under each label, and the share of the image's energy beyond the sector."""
    line = dict.fromkeys((*GREY_COLUMNS, "energy_outside"), np.nan)
    if image is None:
        return line
    grey = image.astype(np.float64)
    for label, name in enumerate(SDM_NAMES):
        under = grey[label_map == label]
        if under.size:
            line[f"grey_mean_{_slug(name)}"] = under.mean()
            line[f"grey_std_{_slug(name)}"] = under.std()
    energy = (grey**2).sum()
    if energy > 0:
        line["energy_outside"] = (grey[label_map == SDM_OUTSIDE] ** 2).sum() / energy
    return line


def summarise(frame, *, by=None, seed=0):
    """Fidelity per generator, with intervals over patients.

    Args:
        frame: from ``score_images``, generators one after another.
        by: a further column of the frame; its values are summarised apart.
        seed: of the bootstrap.

    Returns:
        A data frame with SUMMARY_COLUMNS, and ``by``: a line per generator, measure and unit.
        ``mean`` is the mean over patients of their images' mean; ``low`` and ``high`` bound its
        95 % bootstrap interval (empty for fewer than two patients). ``with_missing`` and
        ``with_merged`` are shares of images. A measure without any value has no line.
    """
    if by is not None:
        parts = [summarise(part, seed=seed).assign(**{by: key}) for key, part in frame.groupby(by)]
        return pd.concat(parts, ignore_index=True)
    shares = {f"with_{key}": (frame[f"n_{key}"] > 0).astype(float) for key in ("missing", "merged")}
    frame = frame.assign(**shares)
    lines = []
    for generator, own in frame.groupby("generator", sort=False):
        for measure in MEASURES:
            for unit, values in own.groupby(_units(own, measure), sort=False):
                lines += _summary_line(generator, measure, unit, values, seed)
    return pd.DataFrame(lines, columns=list(SUMMARY_COLUMNS))


def as_table(summary):
    """The summary to read: measures down, generators across, ``mean (low to high)`` in a cell."""
    cells = []
    for line in summary.to_dict("records"):
        mean, low, high = (
            f"{line[k]:.{_DECIMALS[line['unit']]}f}" for k in ("mean", "low", "high")
        )
        cells.append(f"{mean} ({low} to {high})")
    keys = ["measure", "unit", "generator"]
    table = summary.assign(cell=cells).set_index(keys)["cell"].unstack(fill_value="")
    order = summary.drop_duplicates(["measure", "unit"]).set_index(["measure", "unit"]).index
    return table.loc[order, [*summary["generator"].drop_duplicates()]]


def _units(frame, measure):
    if "distance" in measure:
        return frame["distance_unit"]
    unit = "grey" if measure in GREY_COLUMNS else "share"
    return pd.Series(unit, index=frame.index)


def _summary_line(generator, measure, unit, values, seed):
    values = values.dropna(subset=[measure])
    if values.empty:
        return []
    means = values.groupby("patient")[measure].mean()
    low, high = bootstrap_interval(means, seed=seed) if len(means) > 1 else (np.nan, np.nan)
    return [(generator, measure, unit, len(values), len(means), means.mean(), low, high)]


def paired_difference(frame, *, generators=("sdm", "cyclegan"), measure="mean_dice", seed=0):
    """First minus second generator on the maps that both have drawn.

    Returns:
        (n_maps, n_patients, difference, low, high): the mean over patients and its 95 % interval.

    Raises:
        ValueError: fewer than two patients in common.
    """
    keys = ["split", "name"]
    first, second = (frame[frame["generator"] == name].set_index(keys) for name in generators)
    both = first.join(second[[measure]], how="inner", rsuffix="_other").dropna(subset=[measure])
    difference = both[measure] - both[f"{measure}_other"]
    means = difference.groupby(both["patient"]).mean()
    low, high = bootstrap_interval(means, seed=seed)
    return len(both), len(means), float(means.mean()), low, high


def worst(frame, *, count=8):
    """The ``count`` images of each generator that follow their map least, worst first."""
    ranked = frame.sort_values(["mean_dice", "name"])
    generators = frame["generator"].unique()
    return pd.concat([ranked[ranked["generator"] == name].head(count) for name in generators])


def write_fidelity(run, frame, *, inputs, tables=None):
    """Stage ``fidelity``: images.csv (a line per image), summary.csv (a line per measure).

    Args:
        run: the run.
        frame: from ``score_images``, generators one after another.
        inputs: names of the stages that the frame rests on: those of the images and maps, and the
            network's.
        tables: name to data frame of further results, each written as ``<name>.csv``; "also" holds
            scores of further images, which a fidelity threshold reads: they may show patients that
            the generators know, so they lie apart and no summary counts them.

    Returns:
        The manifest; its facts hold the number of images and the mean Dice of each generator.
    """
    if frame.empty or frame.duplicated(["generator", "split", "name"]).any():
        raise ValueError("frame is empty or names an image twice; expected a line per image")
    files = {"images.csv": _csv(frame[list(IMAGE_COLUMNS)])}
    files |= {f"{name}.csv": _csv(table) for name, table in (tables or {}).items()}
    extra = {"results": digest(files)}
    stage = Stage.open(run, "fidelity", config={}, inputs=inputs, extra=extra)
    finished = stage.finished()
    if finished:
        return finished
    files["summary.csv"] = _csv(summarise(frame, seed=run.seed))
    for name, content in files.items():
        write_text(stage.folder / name, content)
    scores = frame.groupby("generator", sort=False)["mean_dice"]
    facts = {"images": scores.size().to_dict(), "mean_dice": scores.mean().to_dict()}
    return stage.finish([stage.folder / name for name in files], facts=facts)


def read_scores(run, *, generator="sdm"):
    """The scores of a generator's images of unseen patients; None where nothing was scored.

    Args:
        run: the run.
        generator: "sdm", "cyclegan" or "real".
    """
    if not (run.folder / "fidelity" / MANIFEST).is_file():
        return None
    require(run, "fidelity")
    scores = pd.read_csv(run.folder / "fidelity" / "images.csv", dtype={"name": str})
    return scores[scores["generator"] == generator]


def _csv(table):
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
