import numpy as np
import pytest

from echo_lib.evaluation.contradictions import (
    CONTRADICTION_COLUMNS,
    contradictions,
    mean_and_std,
)


@pytest.fixture(scope="module")
def table():
    return contradictions()


def found(table, claim, where):
    chosen = table[(table["claim"] == claim) & (table["where"] == where)]
    ((line),) = chosen.to_dict("records")
    return line["printed"], line["computed"], line["agrees"]


def test_abstract_and_table_have_other_stds(table):
    claim = "± of all SDM frames: "
    assert found(table, claim + "LV endo", "abstract") == ("4.91", "5.80", "no")
    assert found(table, claim + "LV epi", "abstract") == ("4.22", "4.20", "yes")
    assert found(table, claim + "LA", "abstract") == ("4.83", "13.20", "no")


def test_the_abstracts_relative_gains_are_points(table):
    # 88.6 - 79.4, 91.9 - 88.6, 85.2 - 71.3; over 79.4, 88.6, 71.3
    expected = {"LV endo": (9.2, 11.59), "LV epi": (3.3, 3.72), "LA": (13.9, 19.50)}
    for structure, (points, relative) in expected.items():
        claim = f"relative gain over CycleGAN, %: {structure}"
        assert found(table, claim, "abstract") == (f"{points}", f"{relative:.2f}", "no")
        claim = f"gain over CycleGAN, points: {structure}"
        assert found(table, claim, "abstract") == (f"{points}", f"{points:.2f}", "yes")
        claim = f"relative gain over CycleGAN, %: {structure}"
        assert found(table, claim, "conclusion")[2] == "yes"


def test_the_readme_has_a_third_set(table):
    printed = table[table["where"] == "README of the released code"]
    assert printed["printed"].tolist() == ["88.5", "92.3", "86.3"]
    assert printed["computed"].tolist() == ["88.60", "91.90", "85.20"]
    assert (printed["agrees"] == "no").all()


def test_std_of_the_mean_is_that_of_three_numbers():
    # 91.3, 94.0, 82.6: mean 89.3, deviations 2, 4.7, -6.7
    mean, std = mean_and_std([91.3, 94.0, 82.6])
    assert mean == pytest.approx(89.3)
    assert std == pytest.approx(np.sqrt((4 + 22.09 + 44.89) / 3))


def test_rows_whose_mean_disagrees(table):
    means = table[table["claim"].str.contains("Mean: ")]
    assert len(means) == 14
    wrong = means.loc[means["agrees"] == "no", ["claim", "printed", "computed"]]
    assert wrong.to_numpy().tolist() == [
        ["Mean: SDM 2 Chamber ED", "85.0", "84.93"],
        ["Mean: CycleGAN [6] all frames", "79.7", "79.77"],
    ]


def test_what_cannot_be_computed_is_named(table):
    assert tuple(table.columns) == CONTRADICTION_COLUMNS
    unsettled = table[table["computed"] == ""]
    assert (unsettled["agrees"] == "").all()
    assert unsettled["claim"].tolist() == [
        "tested on",
        "CycleGAN row",
        "significantly outperformed",
    ]
    assert (unsettled["note"] != "").all()
