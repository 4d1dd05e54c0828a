import numpy as np
import pandas as pd
import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.seeding import torch_generator
from echo_lib.studio import strength

SIZE = 65  # so that the centre is a pixel


@pytest.fixture
def label_map():
    """SDM ids: a wall around a cavity, an atrium below, in a sector off the image's border."""
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    label_map[2:63, 2:63] = SDM_SECTOR
    label_map[12:36, 20:46] = SDM_MYOCARDIUM
    label_map[16:36, 24:42] = SDM_LV
    label_map[36:50, 24:42] = SDM_LA
    return label_map


def test_strength_0_leaves_map_and_frame_as_they_are(label_map):
    frame = np.where(label_map, 40 * label_map + 3, 0).astype(np.uint8)
    np.testing.assert_array_equal(strength.deform_map(label_map, 0), label_map)
    np.testing.assert_array_equal(strength.deform_image(frame, label_map, 0), frame)


def test_the_centre_turns_by_the_angle(label_map):
    # Around the centre the heart is turned by 60 degrees, leant by 15 and 0.8 times as large: the
    # pixel d to the right of it shows what lay d / 0.8 to the right, turned back.
    rows, columns = strength._places((SIZE, SIZE), 1, 1)
    middle = SIZE // 2
    assert (rows[middle, middle], columns[middle, middle]) == (middle, middle)
    d = 4
    fade = (1 - (d / 0.8 / (SIZE / 2)) ** 2) ** 2
    angle = np.radians(60 * fade)
    assert rows[middle, middle + d] - middle == pytest.approx(-np.sin(angle) * d / 0.8)
    assert columns[middle, middle + d] - middle == pytest.approx(np.cos(angle) * d / 0.8)
    # A pixel above comes from further left: what was there has leant to the right.
    assert strength._places((SIZE, SIZE), 1, 1)[1, 0, middle] < middle


def test_the_sector_stays_and_the_heart_shrinks(label_map):
    moved = strength.deform_map(label_map, 1)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved == SDM_OUTSIDE, label_map == SDM_OUTSIDE)
    for label in (SDM_LV, SDM_MYOCARDIUM, SDM_LA):
        # Turning keeps the area, nearly, and leaning does; the scale makes it 0.64 of what it was.
        area = (moved == label).sum() / (label_map == label).sum()
        assert area == pytest.approx(0.64, abs=0.08)


def test_turns_to_the_left_are_the_mirror_image(label_map):
    right = strength.deform_map(label_map, 0.7)
    left = strength.deform_map(label_map[:, ::-1], 0.7, turn=-1)
    np.testing.assert_array_equal(left[:, ::-1], right)


def test_a_frame_follows_its_map(label_map):
    # A frame that is bright where its cavity is shows the deformed map's cavity.
    frame = np.where(label_map == SDM_LV, 250, 50).astype(np.uint8)
    moved_map = strength.deform_map(label_map, 0.8)
    moved = strength.deform_image(frame, label_map, 0.8)
    assert (moved[label_map == SDM_OUTSIDE] == 0).all()
    cavity = moved_map == SDM_LV
    assert ((moved > 150) == cavity)[label_map != SDM_OUTSIDE].mean() > 0.99


def test_series_is_every_frame_at_every_strength(label_map):
    index = pd.DataFrame({"name": ["a", "b"]}, index=[7, 9])
    images = torch.from_numpy(np.stack([label_map * 40] * 2))
    maps = torch.from_numpy(np.stack([label_map] * 2))
    cases, frames, moved = strength.series(index, images, maps, [0, 0.5, 1])
    assert cases["name"].tolist() == ["a"] * 3 + ["b"] * 3
    assert cases["strength"].tolist() == [0, 0.5, 1] * 2
    assert frames.shape == moved.shape == (6, SIZE, SIZE)
    np.testing.assert_array_equal(moved[2], strength.deform_map(label_map, 1, turn=1))
    np.testing.assert_array_equal(moved[5], strength.deform_map(label_map, 1, turn=-1))


def test_maps_of_one_name_share_their_noise(label_map, monkeypatch):
    def echo_the_noise(denoiser, label_maps, config, *, generators):
        assert len(label_maps) == len(generators) <= config.batch_size == 16
        noise = [torch.randint(0, 256, label_maps.shape[1:], generator=g) for g in generators]
        return torch.stack(noise).to(torch.uint8)

    monkeypatch.setattr(strength, "sample", echo_the_noise)
    config = load_profile("demo").sdm.sampling
    maps, names = np.stack([label_map] * 20), ["a", "b"] * 10
    images = strength.sample_maps(None, maps, config, names=pd.Series(names), seed=3)
    expected = torch.randint(0, 256, (SIZE, SIZE), generator=torch_generator("sample", 3, "a"))
    assert images.shape == (20, SIZE, SIZE)
    assert (images[::2] == expected.numpy()).all()
    assert not (images[1] == images[0]).all()
