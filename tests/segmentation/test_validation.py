import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.segmentation.augmentation import apply, draw_batch
from echo_lib.segmentation.frames import Frames
from echo_lib.segmentation.losses import case_dice
from echo_lib.segmentation.validation import DICE_COLUMNS, validate


class Reader(torch.nn.Module):
    """A "network" that reads the class off the grey value: right only where gamma is 1."""

    def forward(self, images):
        return -(images - torch.arange(4).reshape(1, 4, 1, 1) / 3).abs()


@pytest.fixture
def frames():
    label_maps = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    return Frames(label_maps[:, None] * 85, label_maps, tuple("abc"), 0, 3)


def config(variant):
    overrides = {"segmentation.variant": variant, "segmentation.loss": "cross_entropy"}
    return load_profile("paper", overrides).segmentation


def test_as_written_leaves_the_frames_as_they_are(frames):
    scores = validate(Reader(), frames, config("as_written"), (0.0, 1.0), key=(1,))
    assert scores == {"validation_dice": 1.0, **dict.fromkeys(DICE_COLUMNS, 1.0)}


def test_as_released_transforms_them_as_in_training(frames):
    released = config("as_released")
    scores = validate(Reader(), frames, released, (0.0, 1.0), key=(1,))
    drawn = draw_batch(released, [("a",), ("b",), ("c",)], key=(1,))
    images, target = apply(frames.images, frames.label_maps, drawn)
    expected = case_dice(Reader()(images).argmax(1), target, absent="zero").mean().item()
    assert scores["validation_dice"] == pytest.approx(expected)
    assert expected < 0.99
    assert scores != validate(Reader(), frames, released, (0.0, 1.0), key=(2,))


def test_a_structure_absent_from_both_counts_as_the_variant_says(frames):
    empty = Frames(frames.images * 0, frames.label_maps * 0, frames.names, 0, 3)
    for variant, score in (("as_written", 1.0), ("as_released", 0.0)):
        scores = validate(Reader(), empty, config(variant), (0.0, 1.0), key=(1,))
        assert scores["validation_dice"] == score
