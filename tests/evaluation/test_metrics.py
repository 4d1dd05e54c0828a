import numpy as np
import pandas
import pytest

from echo_lib.evaluation.metrics import CASE_COLUMNS, dice, dice_coefficient

TRUTH = np.array([[0, 2, 2, 2], [0, 2, 1, 2], [0, 2, 1, 2], [3, 3, 0, 0]])
PREDICTED = np.array([[0, 2, 2, 0], [0, 1, 1, 2], [0, 2, 1, 2], [0, 3, 3, 3]])


def index(n=1):
    names = [f"patient{i:04d}_4CH_ED" for i in range(n)]
    return pandas.DataFrame(
        {"name": names, "patient": [n[:11] for n in names], "view": "4CH", "phase": "ED"}
    )


def scores(predicted, truth, **options):
    table = dice([predicted], [truth], index(), row="real_all", **options)
    return dict(zip(table["structure"], table["dice"], strict=True))


def test_dice_by_hand():
    # endo: 3 predicted, 2 true, 2 common; epi: 8, 9, 8; LA: 3, 2, 1
    assert scores(PREDICTED, TRUTH) == {
        "LV endo": pytest.approx(4 / 5),
        "LV epi": pytest.approx(16 / 17),
        "LA": pytest.approx(2 / 5),
    }


def test_a_structure_absent_from_both():
    without = np.where(TRUTH == 3, 0, TRUTH)
    assert scores(without, without) == {"LV endo": 1.0, "LV epi": 1.0, "LA": 1.0}
    assert scores(without, without, absent="zero") == {"LV endo": 1.0, "LV epi": 1.0, "LA": 0.0}


def test_a_structure_absent_from_one():
    without = np.where(TRUTH == 3, 0, TRUTH)
    for absent in ("one", "zero"):
        assert scores(without, TRUTH, absent=absent)["LA"] == 0.0
        assert scores(TRUTH, without, absent=absent)["LA"] == 0.0


def test_wrong_wall_lowers_the_cavity_but_not_the_epicardium():
    filled = np.where(TRUTH == 2, 1, TRUTH)
    found = scores(filled, TRUTH)
    assert found["LV epi"] == 1.0
    assert found["LV endo"] == pytest.approx(2 * 2 / (9 + 2))


def test_one_line_per_case_and_structure():
    table = dice([TRUTH, PREDICTED], [TRUTH, TRUTH], index(2), row="sdm_all", seed=3)
    assert tuple(table.columns) == CASE_COLUMNS
    assert len(table) == 6
    assert table["name"].tolist()[::3] == ["patient0000_4CH_ED", "patient0001_4CH_ED"]
    assert set(table["row"]) == {"sdm_all"}
    assert set(table["seed"]) == {3}
    assert (table["dice"] == 1.0).tolist() == [True] * 3 + [False] * 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 predictions, 2 truths and an index of 1"):
        dice([TRUTH], [TRUTH, TRUTH], index(), row="real_all")
    with pytest.raises(ValueError, match=r"masks of \(4, 4\) and \(4, 3\)"):
        dice([TRUTH], [TRUTH[:, :3]], index(), row="real_all")
    with pytest.raises(ValueError, match=r"truth of patient0000_4CH_ED: label values \[4\]"):
        dice([TRUTH], [TRUTH + (TRUTH == 3)], index(), row="real_all")
    with pytest.raises(ValueError, match="absent 'nan'"):
        dice_coefficient(TRUTH == 1, TRUTH == 1, absent="nan")
