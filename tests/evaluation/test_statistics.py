import numpy as np
import pandas
import pytest

from echo_lib.evaluation.statistics import bootstrap_interval, compare_rows, patient_means


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
