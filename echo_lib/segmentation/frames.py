"""The pairs that a segmentation network is trained on and chosen on, in memory on the device."""

from dataclasses import dataclass

import numpy as np
import torch

from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.labels import remove_sector
from echo_lib.provenance import StageError

INPUT_STAGES = {"real": "prepared", "synthetic": "synthetic", "cyclegan": "cyclegan"}


@dataclass(frozen=True)
class Frames:
    """N training or validation pairs on the device.

    Attributes:
        images: (N, 1, H, W) uint8.
        label_maps: (N, H, W) uint8 CAMUS ids.
        names: N names.
    """

    images: torch.Tensor
    label_maps: torch.Tensor
    names: tuple


def load_frames(run, row, part, device):
    """The pairs of ``row`` that weights are fitted to ("fit") or chosen on ("choose").

    Raises:
        StageError: there are none.
    """
    index = row.select(read_index(run.folder, row.source))
    index = index[part_of(index, run.profile.data.evaluation_split) == part]
    if index.empty:
        raise StageError(
            f"row {row.slug!r}: no pairs to {part} from: {row.views}, {row.phases}, {row.source}; "
            f"run stage {INPUT_STAGES[row.source]!r} with them first"
        )
    pairs = load_pairs(run.folder, index)
    # One map at a time: a check of the whole set at once would take several times its memory.
    label_maps = np.stack([remove_sector(label_map) for label_map in pairs.label_maps.numpy()])
    return Frames(
        pairs.images.to(device), torch.from_numpy(label_maps).to(device), tuple(pairs.names)
    )


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
