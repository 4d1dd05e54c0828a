import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio.label_map import Edit, apply
from echo_lib.studio.parameters import EditError

ROW = 40  # half-way between mitral plane (59) and apex (21)
LENGTH = 38
THICKNESS = 16 * np.sqrt(1 - (20 / 46) ** 2) - 10 * np.sqrt(1 - (20 / 40) ** 2)  # in ROW


def columns_of(label_map, label, row=ROW):
    return np.flatnonzero(label_map[row] == label)


@pytest.mark.parametrize(("side", "left"), [("septum", True), ("lateral wall", False)])
def test_a_septal_defect_takes_the_wall_in_its_window_and_nothing_else(heart, side, left):
    edit = Edit("septal_defect", {"position": 0.5, "width": 0.25, "side": side})
    expected = heart.copy()
    half = np.s_[:, :48] if left else np.s_[:, 48:]
    # |59 - row - 19| < 4.75 px are the rows 36 to 44.
    window = np.zeros(heart.shape, dtype=bool)
    window[36:45] = True
    gone = np.zeros(heart.shape, dtype=bool)
    gone[half] = (window & (heart == SDM_MYOCARDIUM))[half]
    expected[gone] = SDM_SECTOR
    np.testing.assert_array_equal(apply(heart, edit), expected)
    assert gone.sum() > 40


def test_a_missing_atrium_leaves_none_of_it_and_all_else(heart):
    after = apply(heart, Edit("missing_atrium"))
    assert not (after == SDM_LA).any()
    np.testing.assert_array_equal(after[heart != SDM_LA], heart[heart != SDM_LA])
    assert (after[heart == SDM_LA] == SDM_SECTOR).all()


def test_half_an_atrium_keeps_the_half_at_the_valve(heart):
    after = apply(heart, Edit("missing_atrium", {"missing": 0.5}))
    assert (after[60:70, 40:56] == SDM_LA).all()
    assert not (after[70:] == SDM_LA).any()


def test_a_map_without_an_atrium_has_none_to_lose_or_to_enlarge(heart):
    without = apply(heart, Edit("missing_atrium"))
    np.testing.assert_array_equal(apply(without, Edit("missing_atrium")), without)
    with pytest.raises(EditError, match="no left atrium to enlarge"):
        apply(without, Edit("enlarged_atrium"))


@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_an_atrium_is_as_much_larger_as_the_factor_squared(heart, factor):
    after = apply(heart, Edit("enlarged_atrium", {"factor": factor}))
    before = (heart == SDM_LA).sum()
    assert (after == SDM_LA).sum() == pytest.approx(before * factor**2, rel=0.05)
    for label in (SDM_LV, SDM_MYOCARDIUM):
        np.testing.assert_array_equal(after == label, heart == label)


def test_a_dilated_ventricle_is_wider_with_a_wall_as_thick(heart):
    after = apply(heart, Edit("dilated_ventricle", {"width": 1.5}))
    # Half the mean half width, 8.27 px, is what both walls move at mid-height.
    moved = (len(columns_of(after, SDM_LV)) - len(columns_of(heart, SDM_LV))) / 2
    assert moved == pytest.approx(0.5 * 8.27, abs=0.8)
    for label_map in (heart, after):
        thickness = len(columns_of(label_map, SDM_MYOCARDIUM)) / 2
        assert thickness == pytest.approx(THICKNESS, abs=0.8)
    np.testing.assert_array_equal(columns_of(after, SDM_LV, 59), columns_of(heart, SDM_LV, 59))
    np.testing.assert_array_equal(after == SDM_LA, heart == SDM_LA)


def test_a_dilated_ventricle_may_have_a_thin_wall(heart):
    after = apply(heart, Edit("dilated_ventricle", {"width": 1.3, "wall": 0.5}))
    thickness = len(columns_of(after, SDM_MYOCARDIUM)) / 2
    assert thickness == pytest.approx(0.5 * THICKNESS, abs=0.8)


def test_septal_hypertrophy_thickens_the_left_wall_alone(heart):
    after = apply(heart, Edit("hypertrophy", {"factor": 2, "region": "septum"}))
    left, right = (
        [int((m[ROW][half] == SDM_MYOCARDIUM).sum()) for m in (heart, after)]
        for half in (np.s_[:48], np.s_[48:])
    )
    assert left[1] == pytest.approx(2 * THICKNESS, abs=0.8)
    assert right[1] == right[0]


def test_hypertrophy_of_all_walls_narrows_the_cavity(heart):
    after = apply(heart, Edit("hypertrophy", {"factor": 1.5}))
    # Four fifths of half a wall of 6 px come off the cavity's 40 x 10 px, the rest goes outwards.
    share = (after == SDM_LV).sum() / (heart == SDM_LV).sum()
    assert share == pytest.approx(37.6 * 7.6 / 400, abs=0.05)
    epi = [np.isin(m, (SDM_LV, SDM_MYOCARDIUM)).sum() for m in (heart, after)]
    assert epi[1] / epi[0] == pytest.approx(46.6 * 16.6 / (46 * 16), abs=0.03)


def test_an_aneurysm_stands_out_of_the_apex_with_a_thin_wall(heart):
    after = apply(heart, Edit("apical_aneurysm", {"size": 0.1, "wall": 0.5}))
    top = [np.flatnonzero((m == SDM_LV).any(axis=1)).min() for m in (heart, after)]
    assert top[0] - top[1] == pytest.approx(0.1 * LENGTH, abs=1.2)
    above = int((after[: top[1], 47] == SDM_MYOCARDIUM).sum())
    assert above == pytest.approx(0.5 * 6, abs=1.2)
    np.testing.assert_array_equal(after[45:], heart[45:])


def test_an_effusion_moves_both_walls_inwards(heart):
    after = apply(heart, Edit("pericardial_effusion", {"width": 0.1}))
    for label, tolerance in ((SDM_LV, 1), (SDM_MYOCARDIUM, 1)):
        first = [columns_of(m, label).min() for m in (heart, after)]
        assert first[1] - first[0] == pytest.approx(0.1 * LENGTH, abs=tolerance)
    lost = (heart == SDM_MYOCARDIUM) & ~np.isin(after, (SDM_MYOCARDIUM, SDM_LV))
    assert (after[lost] == SDM_SECTOR).all()
    np.testing.assert_array_equal(after[60:], heart[60:])
