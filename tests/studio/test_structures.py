import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio import landmarks
from echo_lib.studio.label_map import Edit, apply

ROW = 40  # half-way between mitral plane and apex


def width_at(label_map, label, row=ROW):
    return int((label_map[row] == label).sum())


@pytest.fixture
def rings():
    """A cavity of radius 15 px in a wall of 6 px, closed, as a short axis shows it."""
    reach = np.hypot(*(np.indices((128, 128)) - 63.5))
    label_map = np.full((128, 128), SDM_SECTOR, dtype=np.uint8)
    label_map[reach < 21] = SDM_MYOCARDIUM
    label_map[reach < 15] = SDM_LV
    return label_map


def radius(label_map, *labels):
    """Of a disc with as many pixels."""
    return np.sqrt(np.isin(label_map, labels).sum() / np.pi)


A_PIXEL = 0.5  # an edge lies between two pixels


@pytest.mark.parametrize("amount_px", [8, -8, 3])
def test_a_disc_grows_to_the_disc_of_a_larger_radius(disc, amount_px):
    after = apply(disc, Edit("grow", {"amount": amount_px / 128}))
    assert radius(after, SDM_LV) == pytest.approx(20 + amount_px, abs=A_PIXEL)
    assert set(np.unique(after)) == {SDM_LV, SDM_SECTOR}


def test_nothing_grows_out_of_the_sector(heart):
    after = apply(heart, Edit("grow", {"structure": "left atrium", "amount": 0.15}))
    np.testing.assert_array_equal(after == 0, heart == 0)


def test_what_an_erosion_uncovers_is_sector_or_the_neighbour(rings):
    bare = apply(rings, Edit("grow", {"amount": -5 / 128}))
    assert radius(bare, SDM_LV) == pytest.approx(10, abs=A_PIXEL)
    np.testing.assert_array_equal(bare == SDM_MYOCARDIUM, rings == SDM_MYOCARDIUM)
    filled = apply(rings, Edit("grow", {"amount": -5 / 128, "uncovered": "neighbour"}))
    np.testing.assert_array_equal(filled == SDM_LV, bare == SDM_LV)
    np.testing.assert_array_equal(filled == SDM_SECTOR, rings == SDM_SECTOR)


@pytest.mark.parametrize(
    ("factor", "anchor", "inner", "outer"),
    [
        (2.0, "outwards", 15, 27),
        (2.0, "inwards", 9, 21),
        (2.0, "both ways", 12, 24),
        (0.5, "outwards", 15, 18),
        (0.5, "inwards", 18, 21),
    ],
)
def test_wall_thickness_of_rings(rings, factor, anchor, inner, outer):
    after = apply(rings, Edit("wall_thickness", {"factor": factor, "anchor": anchor}))
    assert radius(after, SDM_LV) == pytest.approx(inner, abs=A_PIXEL)
    assert radius(after, SDM_LV, SDM_MYOCARDIUM) == pytest.approx(outer, abs=A_PIXEL)


def test_a_thicker_wall_stops_at_the_base_and_spares_the_atrium(heart):
    after = apply(heart, Edit("wall_thickness", {"factor": 2}))
    np.testing.assert_array_equal(after == SDM_LV, heart == SDM_LV)
    np.testing.assert_array_equal(after == SDM_LA, heart == SDM_LA)
    assert not (after[60:] == SDM_MYOCARDIUM).any()
    assert width_at(after, SDM_MYOCARDIUM) > 1.8 * width_at(heart, SDM_MYOCARDIUM)


@pytest.mark.parametrize("shift", [0.2, -0.15])
def test_the_mitral_plane_moves_by_the_shift(heart, shift):
    marks = landmarks.find(apply(heart, Edit("mitral_plane", {"shift": shift})))
    assert marks.annulus[0] == pytest.approx(59 - 38 * shift, abs=1)
    np.testing.assert_allclose(marks.apex, (21, 47.5), atol=0.6)


def test_the_mitral_plane_turns_clockwise(heart):
    marks = landmarks.find(apply(heart, Edit("mitral_plane", {"tilt_degrees": 20})))
    rows, columns = marks.annulus_right - marks.annulus_left
    assert np.degrees(np.arctan2(rows, columns)) == pytest.approx(20, abs=4)
