"""The two label sets: worked by hand, and exact there and back."""

import numpy as np
import pytest

from echo_lib import labels

CAMUS = np.array([[0, 0, 1, 2], [3, 0, 2, 0]], dtype=np.uint8)
SECTOR = np.array([[0, 1, 1, 0], [1, 1, 1, 0]], dtype=bool)
SDM = np.array([[0, 2, 1, 3], [4, 2, 3, 0]], dtype=np.uint8)


def test_add_sector_by_hand():
    made = labels.add_sector(CAMUS, SECTOR)
    assert made.dtype == np.uint8
    assert made.tolist() == SDM.tolist()  # the wall that an expert drew beyond the sector stays


def test_remove_sector_gives_the_camus_map_back_exactly():
    assert labels.remove_sector(SDM).tolist() == CAMUS.tolist()
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 4, (3, 20, 30), dtype=np.uint8)
    sectors = generator.random((3, 20, 30)) < 0.5
    assert np.array_equal(labels.remove_sector(labels.add_sector(maps, sectors)), maps)


def test_clip_to_sector_by_hand():
    clipped = labels.clip_to_sector(SDM, SECTOR)
    assert clipped.tolist() == [[0, 2, 1, 0], [4, 2, 3, 0]]
    assert clipped.dtype == np.uint8


def test_structures_by_hand():
    masks = {name: labels.structure_mask(CAMUS, name) for name in labels.STRUCTURES}
    masks = {name: mask.astype(int).tolist() for name, mask in masks.items()}
    assert masks["LV endo"] == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert masks["LV epi"] == [[0, 0, 1, 1], [0, 0, 1, 0]]  # the cavity with its wall
    assert masks["LA"] == [[0, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("function", [lambda m: labels.add_sector(m, SECTOR), labels.remove_sector])
@pytest.mark.parametrize("value", [5, 255])
def test_unknown_label_is_refused_and_named(function, value):
    wrong = CAMUS.copy()
    wrong[0, 0] = value
    with pytest.raises(ValueError, match=rf"label values \[{value}\] found, expected 0\.\.[34]"):
        function(wrong)


def test_camus_map_with_an_sdm_label_is_refused():
    with pytest.raises(ValueError, match=r"\[4\] found, expected 0\.\.3"):
        labels.add_sector(SDM, SECTOR)


def test_floats_are_no_labels():
    with pytest.raises(ValueError, match="label map of float64, expected integers"):
        labels.require_labels(CAMUS.astype(float), 4, "here")


def test_names_and_ids_agree_with_the_released_implementation():
    ids = {name: i for i, name in enumerate(labels.SDM_NAMES)}
    assert ids == {"outside": 0, "LV cavity": 1, "sector": 2, "myocardium": 3, "left atrium": 4}
    assert len(labels.SDM_COLOURS) == len(set(labels.SDM_COLOURS)) == 5
    for camus_id, name in enumerate(labels.CAMUS_NAMES[1:], 1):
        made = labels.add_sector(np.array([[camus_id]], dtype=np.uint8), np.array([[True]]))
        assert labels.SDM_NAMES[made[0, 0]] == name
