import numpy as np
import pandas
import pytest

from echo_lib.evaluation.statistics import (
    COMPARISON_COLUMNS,
    agreement,
    bootstrap_interval,
    compare_all,
    compare_rows,
    holm,
    patient_means,
    signed_rank_p,
)
from echo_lib.rows import PAPER_ROWS


def cases(row, scores, *, frames=("ED", "ES"), seed=0):
    """A patient per score, the same for every structure and frame."""
    return pandas.DataFrame(
        {"row": row, "seed": seed, "name": f"p{i}_4CH_{phase}", "patient": f"p{i}", "view": "4CH",
         "phase": phase, "structure": structure, "dice": score}
        for i, score in enumerate(scores)
        for phase in frames
        for structure in ("LV endo", "LV epi", "LA")
    )  # fmt: skip


def test_patient_means_by_hand():
    one, two = cases("a", [0.9, 0.5]), cases("a", [0.7, 0.7], seed=1)
    means = patient_means(pandas.concat([one, two]))
    assert means["Mean"].tolist() == pytest.approx([80, 60])
    assert list(means.columns) == ["LV endo", "LV epi", "LA", "Mean"]


def test_interval_is_that_of_the_standard_error():
    values = np.random.default_rng(0).normal(50, 10, size=400)
    low, high = bootstrap_interval(values, seed=0)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1)
    assert bootstrap_interval(values, seed=0) == (low, high)


def test_difference_of_rows_is_paired():
    scores = np.linspace(0.2, 0.9, 10)
    both = pandas.concat([cases("a", scores + 0.05), cases("b", scores)])
    found = compare_rows(both, "a", other="b").set_index("structure").loc["Mean"]
    assert found[["difference", "low", "high"]].tolist() == pytest.approx([5, 5, 5])
    assert found["n_patients"] == 10


def test_rows_on_different_frames_are_not_compared():
    both = pandas.concat([cases("a", [0.5, 0.6]), cases("b", [0.5, 0.6], frames=("ED",))])
    with pytest.raises(ValueError, match="'a' was tested on 4 frames and 'b' on 2"):
        compare_rows(both, "a", other="b")


def test_one_patient_has_no_interval():
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        bootstrap_interval([3.0], seed=0)


def test_interval_of_two_values_by_hand():
    # Resampled means of 0 and 1 are 0, 1/2 or 1, with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0], seed=0) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], seed=0, level=0.4) == (0.5, 0.5)


def test_interval_weighs_patients_by_their_cases():
    # Of the means only 0, 3/4 and 1 can occur: patient 1 has three cases, patient 0 has one.
    assert bootstrap_interval([0.0, 1.0], seed=0, weights=[1, 3], level=0.4) == (0.75, 0.75)


def test_signed_rank_by_hand():
    # All five of one sign: the two tails of 2**5 equally likely signs.
    assert signed_rank_p([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    # Ranks 1 (minus), 2, 3, 4: W = 1, reached by {} and {1} in either tail: 4 of 16.
    assert signed_rank_p([-1, 2, 3, 4]) == pytest.approx(4 / 16)
    assert signed_rank_p([0, 0, 1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert signed_rank_p([0.0, 0.0]) == 1
    assert signed_rank_p([0.1 + 0.2 - 0.3, 1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


def test_holm_by_hand():
    # Sorted 0.01 x 3, 0.03 x 2, 0.04 x 1: 0.03, 0.06, and 0.04 raised to 0.06.
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def rows_of_table(**scores):
    return pandas.concat(
        [cases(row, values, frames=("ED", "ES")) for row, values in scores.items()]
    )


def test_rows_are_compared_on_the_frames_of_both():
    scores = np.linspace(0.5, 0.9, 6)
    both = rows_of_table(sdm_4ch_ed=scores + 0.01, sdm_all=scores, real_all=scores + 0.02)
    table = compare_all(both, rows=PAPER_ROWS)
    assert tuple(table.columns) == COMPARISON_COLUMNS
    pairs = table.loc[table["structure"] == "Mean", ["row", "other", "n_cases"]]
    assert pairs.to_numpy().tolist() == [
        ["sdm_4ch_ed", "real_all", 6],
        ["sdm_all", "real_all", 12],
        ["sdm_4ch_ed", "sdm_all", 6],
    ]
    first = table.iloc[3]
    assert (first["difference"], first["n_patients"]) == pytest.approx((-1, 6))
    # six patients of one sign: 2 / 64; the same three times, times three
    assert (first["p"], first["p_holm"]) == pytest.approx((2 / 64, 6 / 64))


def test_nothing_to_compare():
    alone = rows_of_table(sdm_4ch_ed=[0.5, 0.6])
    assert compare_all(alone, rows=PAPER_ROWS).empty
    single = rows_of_table(sdm_all=[0.5], real_all=[0.6])
    table = compare_all(single, rows=PAPER_ROWS)
    assert table["low"].isna().all()
    assert (table["p"] == 1).all()


def test_agreement_by_hand():
    # differences 1, 3, 5: mean 3, sample std 2, limits 3 -+ 3.92
    found = agreement([51, 53, 65, np.nan], [50, 50, 60, 40])
    assert (found["n"], found["n_undefined"]) == (3, 1)
    assert (found["bias"], found["std"]) == pytest.approx((3, 2))
    assert (found["low"], found["high"]) == pytest.approx((-0.92, 6.92))
    assert agreement([49, 53], [50, 50])["mean_absolute_error"] == 2
    assert found["correlation"] == pytest.approx(13 / np.sqrt(172), abs=1e-9)


def test_agreement_of_too_few():
    found = agreement([50, np.nan], [50, 50])
    assert (found["n"], found["n_undefined"]) == (1, 1)
    assert np.isnan(found["bias"])
    assert np.isnan(agreement([50, 50], [40, 60])["correlation"])
