import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio.label_map import Edit, apply
from echo_lib.studio.shapes import find_sector
from echo_lib.studio.validity import findings


def test_a_sound_heart_has_no_findings(heart):
    assert findings(heart) == []


def test_a_missing_structure_is_named(heart):
    # Without an atrium the longest opening of the wall is the mitral plane.
    assert findings(apply(heart, Edit("missing_atrium"))) == ["no left atrium"]
    assert findings(np.zeros((20, 20), dtype=np.uint8)) == ["no sector: everything is outside"]


def test_pieces_and_holes(heart):
    heart[4:8, 4:9] = SDM_LA  # 20 pixels beside 320
    assert findings(heart) == ["left atrium in 2 pieces: 5.9 % of it lies apart"]
    heart[4:8, 4:9] = SDM_SECTOR
    heart[65:68, 45:47] = SDM_SECTOR
    assert findings(heart) == ["left atrium has a hole of 6 pixels"]


def test_what_lies_outside_the_sector(heart):
    sector = heart > 0
    sector[:, :41] = False  # the atrium begins in column 40, and has 20 rows
    sentences = findings(heart, sector=sector)
    assert "20 pixels of left atrium outside the sector" in sentences
    assert any("LV cavity reaches the edge of the sector" in sentence for sentence in sentences)


def test_a_gap_in_the_wall_is_told(heart):
    gap = apply(heart, Edit("septal_defect", {"width": 0.3}))
    pieces, bare = findings(gap)
    assert "myocardium in 2 pieces" in pieces
    # 0.3 of 38 px are 11 rows, of an edge of 20 + 2 * 39 pixels.
    assert bare == "LV cavity touches the sector without a wall along 11 % of its edge"


def test_the_sector_is_convex_and_also_under_the_heart(heart):
    np.testing.assert_array_equal(find_sector(heart), heart > 0)
    # An expert draws wall beyond the sector's edge: it is no sector.
    beyond = heart.copy()
    beyond[40:50, 94:96] = SDM_MYOCARDIUM
    np.testing.assert_array_equal(find_sector(beyond), heart > 0)
    assert "20 pixels of myocardium outside the sector" in findings(beyond)
    moved = apply(beyond, Edit("affine", {"right": -0.1}))
    assert (moved[40:50, 94:96] == 0).all()


def test_a_map_without_sector_pixels_counts_all_that_is_not_outside():
    label_map = np.zeros((20, 20), dtype=np.uint8)
    label_map[5:15, 5:15] = SDM_LV
    np.testing.assert_array_equal(find_sector(label_map), label_map > 0)


@pytest.mark.parametrize("label", [SDM_LV, SDM_LA])
def test_one_pixel_is_one_pixel(heart, label):
    heart[0, 0] = label
    assert any(sentence.startswith("1 pixel of") for sentence in findings(heart))
