"""The pairs that a segmentation network is trained on and chosen on, in memory on the device."""

from dataclasses import dataclass

import numpy as np
import pandas
import torch

from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.labels import SDM_OUTSIDE, remove_sector
from echo_lib.provenance import StageError
from echo_lib.rows import INPUT_STAGES, config_of
from echo_lib.seeding import numpy_generator, seed_for
from echo_lib.segmentation.augmentation import apply

FIDELITY = ("fidelity/images.csv", "fidelity/also.csv")
SCORE_TYPES = {"name": str, "generator": str}
TRANSFORMED_TOGETHER = 2**18  # pixels, so that a core's cache holds them; no result depends on it


@dataclass(frozen=True)
class Frames:
    """N training or validation pairs on the device.

    Attributes:
        images: (N, 1, H, W) uint8.
        label_maps: (N, H, W) uint8 CAMUS ids.
        names: N names, each its own.
        left_out: synthetic pairs that ``fidelity_threshold`` kept away.
        of_all_patients: how many pairs there were, did the row see all patients; at least N.
    """

    images: torch.Tensor
    label_maps: torch.Tensor
    names: tuple
    left_out: int
    of_all_patients: int


def load_frames(run, row, part, device, *, seed=0):
    """The pairs of ``row`` that weights are fitted to ("fit") or chosen on ("choose").

    A row that sees real frames is chosen on real frames alone, whatever else it is fitted to: they
    are what it is tested on, and rows of one fraction of patients then compare. Of a fraction, the
    patients that choose are the same fraction of those that would.

    Args:
        run: the run.
        row: a ``rows.Row``.
        part: "fit" or "choose".
        device: where the pairs are kept.
        seed: the table's; it draws the patients of a fraction.

    Raises:
        StageError: there are none.
    """
    sources = row.sources
    if part == "choose" and "real" in sources:
        sources = ("real",)
    indices = {source: _part_of_source(run, row, source, part) for source in sources}
    found = sum(len(index) for index in indices.values())
    if "synthetic" in indices:
        indices["synthetic"] = _faithful(run, row, indices["synthetic"])
    of_all_patients = sum(len(index) for index in indices.values())
    if "real" in indices:
        indices["real"] = _of_some_patients(run, row, indices["real"], seed)
    index = _joined(row, part, indices)
    pairs = load_pairs(run.folder, index)
    if row.clipped:
        pairs.images[(pairs.label_maps == SDM_OUTSIDE)[:, None]] = 0
    # One map at a time: a check of the whole set at once would take several times its memory.
    label_maps = np.stack([remove_sector(label_map) for label_map in pairs.label_maps.numpy()])
    return Frames(
        pairs.images.to(device),
        torch.from_numpy(label_maps).to(device),
        tuple(pairs.names),
        found - of_all_patients,
        of_all_patients,
    )


def _joined(row, part, indices):
    """The pairs of all sources in one index."""
    for source, index in indices.items():
        if index.empty:
            raise StageError(
                f"row {row.slug!r}: no pairs to {part} from: {row.views}, {row.phases}, {source}; "
                f"run stage {INPUT_STAGES[source]!r} with them first"
            )
        if len(row.sources) > 1:  # a synthetic pair may bear the name of a translated one
            indices[source] = index.assign(name=f"{source}/" + index["name"])
    return pandas.concat(indices.values(), ignore_index=True)


def _part_of_source(run, row, source, part):
    index = row.select(read_index(run.folder, source))
    index = index[part_of(index, run.profile.data.evaluation_split) == part]
    if source == "synthetic" and row.maps_per_frame is not None:
        return index[index["name"].str.rsplit("_", n=1).str[1].astype(int) < row.maps_per_frame]
    return index


def _of_some_patients(run, row, index, seed):
    if index.empty:
        return index
    kept = share_of_patients(index["patient"], row.real_fraction, key=(run.seed, seed))
    return index[index["patient"].isin(kept)]


def part_of(index, evaluation_split):
    """Which pairs weights are fitted to ("fit") and which choose the best epoch ("choose").

    The validation split chooses, as in the paper. Where Dice is reported on that very split, a
    network must not be chosen on it: every tenth training patient chooses instead.
    """
    if evaluation_split == "test":
        return index["split"].map({"training": "fit", "validation": "choose"})
    training = index["split"] == "training"
    patients = sorted(index.loc[training, "patient"].unique())
    chooses = index["patient"].isin(patients[-1::-10])
    return training.map({True: "fit", False: None}).where(~(training & chooses), "choose")


def share_of_patients(patients, fraction, *, key):
    """A fraction of the patients, drawn by name, at least one; a smaller one lies in a larger.

    Args:
        patients: their names, repeated or not.
        fraction: from 0 to 1.
        key: what names the draw: the run's seed and the table's.
    """
    drawn = sorted(set(patients), key=lambda name: seed_for("share of patients", *key, name))
    return drawn[: max(1, round(fraction * len(drawn)))]


def _faithful(run, row, index):
    """The synthetic pairs whose image follows its map at least as well as the row asks."""
    threshold = config_of(row, run.profile.segmentation).fidelity_threshold
    if threshold <= 0:
        return index
    files = [run.folder / name for name in FIDELITY if (run.folder / name).is_file()]
    scores = pandas.concat([pandas.read_csv(file, dtype=SCORE_TYPES) for file in files])
    scores = scores[scores["generator"] == "sdm"].set_index("name")["mean_dice"]
    unknown = sorted(set(index["name"]) - set(scores.index))
    if unknown:
        raise StageError(
            f"{run.folder / FIDELITY[0]}: no score of {len(unknown)} synthetic pairs "
            f"({', '.join(unknown[:3])}, ...); score all of them, or set "
            "segmentation.fidelity_threshold to 0"
        )
    kept = index[index["name"].map(scores) >= threshold]
    if len(index) and kept.empty:
        best = scores[index["name"]].max()
        raise StageError(
            f"none of {len(index)} synthetic pairs reaches segmentation.fidelity_threshold "
            f"{threshold}; the best has {best:.3f}: lower it"
        )
    return kept


def draw_epoch(n, images_per_epoch, epoch, *, key):
    """Which of ``n`` pairs an epoch sees, in order, and in which pass over them.

    The pairs come in endless passes, each a permutation of all; an epoch takes the next
    ``images_per_epoch`` of them. So at any time every pair was seen equally often, or once more.

    Args:
        n: number of pairs.
        images_per_epoch: 0 takes one whole pass.
        epoch: counted from 1.
        key: what names the order: seed, row.

    Returns:
        Two int64 arrays: places in 0..n-1, and passes counted from 1.
    """
    size = images_per_epoch or n
    passes = np.arange((epoch - 1) * size, epoch * size) // n
    orders = [
        numpy_generator("order", *key, number + 1).permutation(n)
        for number in range(int(passes[0]), int(passes[-1]) + 1)
    ]
    begin = (epoch - 1) * size - int(passes[0]) * n
    return np.concatenate(orders)[begin : begin + size], passes + 1


def transformed_batches(frames, places, parameters, size, *, normalisation):
    """Network inputs and label maps of an epoch, batch by batch, transformed on the device.

    Args:
        frames: ``Frames``.
        places: (N,) int64, which pairs, in order.
        parameters: (N, 6), from ``augmentation.draw_batch``.
        size: of a batch.
        normalisation: mean and std.

    Yields:
        (B, 1, H, W) float32 and (B, H, W) uint8.
    """
    # Small batches are transformed several at a time.
    batch_pixels = size * frames.label_maps[0].numel()
    together = size * max(1, TRANSFORMED_TOGETHER // batch_pixels)
    for chosen, drawn in zip(places.split(together), parameters.split(together), strict=True):
        images, label_maps = frames.images[chosen], frames.label_maps[chosen]
        images, label_maps = apply(images, label_maps, drawn, normalisation=normalisation)
        yield from zip(images.split(size), label_maps.split(size), strict=True)


def grey_statistics(images):
    """Mean and std of all pixels of (N, 1, H, W) uint8 images, on the scale 0 to 1."""
    counts = torch.zeros(256, dtype=torch.float64)
    for part in images.split(256):
        counts += torch.bincount(part.flatten().int(), minlength=256).cpu()
    grey, weights = np.arange(256) / 255, counts.numpy() / counts.sum().item()
    mean = float((weights * grey).sum())
    std = float(np.sqrt((weights * (grey - mean) ** 2).sum()))
    if std == 0:
        raise StageError(
            f"all training images have one grey value, {mean * 255:.0f}; expected ultrasound images"
        )
    return mean, std
