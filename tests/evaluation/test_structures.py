import numpy as np
import pytest

from echo_lib.evaluation.structures import (
    compare_gaps,
    contour_gaps,
    farthest_gap,
    merged_chambers,
    missing_classes,
    usual_gap,
)
from echo_lib.labels import CAMUS_LA, CAMUS_LV, CAMUS_MYOCARDIUM

SIZE = 32


@pytest.fixture
def truth():
    """CAMUS ids: LV 8 x 10 in a wall 12 x 14, an atrium 6 x 10 four rows below."""
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[3:15, 5:19] = CAMUS_MYOCARDIUM
    truth[5:13, 7:17] = CAMUS_LV
    truth[19:25, 7:17] = CAMUS_LA
    return truth


def test_missing_classes(truth):
    without_atrium = np.where(truth == CAMUS_LA, 0, truth)
    assert missing_classes(without_atrium, truth) == ["left atrium"]
    assert missing_classes(truth, without_atrium) == []  # invented, not missing
    # The atrium has 60 px: 2 px are 3.3 % of it, 3 px are 5 %.
    without_atrium[19, 7:9] = CAMUS_LA
    assert missing_classes(without_atrium, truth) == ["left atrium"]
    without_atrium[19, 9] = CAMUS_LA
    assert missing_classes(without_atrium, truth) == []


def test_chambers_apart_in_the_map_merge_through_blood(truth):
    broken = truth.copy()
    broken[13:19, 10] = CAMUS_LV  # a gap of one column through the wall, down to the atrium
    assert merged_chambers(broken, truth) == ["LV cavity + left atrium"]
    broken[16, 10] = CAMUS_MYOCARDIUM
    assert merged_chambers(broken, truth) == []


def test_chambers_that_touch_in_the_map_merge_by_label_alone():
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[4:16, 8:20], truth[16:24, 8:20] = CAMUS_LV, CAMUS_LA
    assert merged_chambers(truth, truth) == []
    # The LV takes over 4 of the atrium's 8 rows, a half; then 5.
    taken = truth.copy()
    taken[16:20] = np.where(truth[16:20] == CAMUS_LA, CAMUS_LV, truth[16:20])
    assert merged_chambers(taken, truth) == []
    taken[20] = np.where(truth[20] == CAMUS_LA, CAMUS_LV, truth[20])
    assert merged_chambers(taken, truth) == ["LV cavity + left atrium"]


def test_two_parts_of_a_chamber_merge():
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[4:20, 4:12], truth[4:20, 14:22] = CAMUS_LV, CAMUS_LV
    truth[28, 28] = CAMUS_LV  # one pixel is no chamber
    bridged = np.where(np.arange(SIZE)[:, None] == 10, CAMUS_LV, truth)
    assert merged_chambers(truth, truth) == []
    assert merged_chambers(bridged, truth) == ["LV cavity + LV cavity"]


def test_gaps_and_the_farthest_of_them(truth):
    assert np.nanmax(contour_gaps(truth, truth)) == 0
    # The atrium's lowest row stays 3 px behind where the prediction ends it 3 rows sooner.
    short = truth.copy()
    short[22:25] = 0
    gaps = contour_gaps(short, truth)
    assert np.isnan(gaps[2, 0, 0])
    assert np.nanmax(gaps[:2]) == 0
    assert gaps[2, 24, 12] == 3
    assert gaps[2, 19, 12] == 0
    assert farthest_gap(gaps) == ("LA", 24, 7, 3.0)
    # Not found at all: the diagonal of its contour, 5 rows and 9 columns across.
    lost = np.where(truth == CAMUS_LA, 0, truth)
    assert farthest_gap(contour_gaps(lost, truth)).distance_px == pytest.approx(np.hypot(5, 9))
    assert farthest_gap(contour_gaps(truth, np.zeros_like(truth))) is None


def test_gaps_of_several_generators_and_the_widest_of_them(truth):
    short, shorter = truth.copy(), truth.copy()
    short[22:25], shorter[21:25] = 0, 0
    gaps, places = compare_gaps({"a": [short, truth], "b": [shorter, truth]}, [truth, truth])
    assert gaps["a"][0][2, 24, 12] == 3
    assert gaps["b"][0][2, 24, 12] == 4
    assert places == [("LA", 24, 7, 4.0), ("LV endo", 5, 7, 0.0)]


def test_usual_gap_is_a_quantile_over_all_contours(truth):
    # Contours of the LV, 8 x 10, the epicardium, 12 x 14, and the atrium, 6 x 10: 32, 48, 28 px.
    short = truth.copy()
    short[24] = 0  # the 10 px of the atrium's lowest row: 1 px away
    assert usual_gap([truth, truth], [truth, truth]) == 0
    assert usual_gap([short], [truth], share=1) == 1
    assert usual_gap([short, truth], [truth, truth], share=1 - 11 / 216) == 0
    assert usual_gap([short], [truth], share=1 - 9 / 108) == 1
