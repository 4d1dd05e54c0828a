import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.strata import THIRDS, describe_frames, tabulate
from echo_lib.labels import STRUCTURES
from echo_lib.rows import find_row

INDEX = pd.DataFrame(
    {"name": ["a", "b"], "patient": ["p", "q"], "view": ["2CH", "4CH"], "phase": ["ED", "ES"]}
)


def make_cases(scores, *, row="real_all", seed=0):
    """A frame per score (in %), each of a patient of its own; views take turns."""
    return pd.DataFrame(
        {"row": row, "seed": seed, "name": f"f{n}", "patient": f"p{n}", "phase": "ED",
         "view": ("2CH", "4CH")[n % 2], "structure": structure, "dice": score / 100}
        for n, score in enumerate(scores)
        for structure in STRUCTURES
    )  # fmt: skip


def test_contrast_is_muscle_minus_blood():
    image = np.array([[10, 10, 90, 110]], dtype=np.uint8)
    truth = np.array([[1, 1, 2, 2]], dtype=np.uint8)
    frames = describe_frames(INDEX, np.stack([image, image]), np.stack([truth, 0 * truth]))
    assert frames["contrast"][0] == 90
    assert np.isnan(frames["contrast"][1])
    assert frames["fidelity"].isna().all()


def test_fidelity_is_the_mean_over_the_images_of_the_frame_s_maps():
    blank = np.zeros((2, 1, 2), dtype=np.uint8)
    scores = pd.DataFrame(
        {"patient": "p", "view": "2CH", "phase": ["ED", "ED", "ES"], "mean_dice": [0.8, 0.6, 0.1]}
    )
    fidelity = describe_frames(INDEX, blank, blank, fidelity=scores)["fidelity"]
    assert fidelity[0] == pytest.approx(0.7)
    assert np.isnan(fidelity[1])


def test_strata_hold_the_means_of_their_cases():
    cases = make_cases([90, 80, 70, 60, 50, 40])
    names = [f"f{n}" for n in range(6)]
    frames = pd.DataFrame({"name": names, "contrast": [6.0, 5, 4, 3, 2, 1], "fidelity": np.nan})
    table = tabulate(cases, frames, rows=[find_row("real_all"), find_row("sdm_all")])
    assert set(table["row"]) == {"real_all"}
    mean = table[table["structure"] == "Mean"].set_index(["by", "stratum"])
    assert mean.loc[("view", "2CH"), "mean"] == pytest.approx(70)
    assert mean.loc[("view", "4CH"), "mean"] == pytest.approx(60)
    assert mean.loc[("phase", "ED"), "n_cases"] == 6
    thirds = [mean.loc[("contrast", third), "mean"] for third in THIRDS]
    assert thirds == pytest.approx([45, 65, 85])
    assert "fidelity" not in set(table["by"])  # nothing was scored
    low, high = mean.loc[("contrast", "highest third"), ["low", "high"]]
    assert 80 <= low < 85 < high <= 90


def test_quality_is_a_stratum_where_it_is_known():
    blank = np.zeros((2, 1, 2), dtype=np.uint8)
    assert describe_frames(INDEX, blank, blank)["quality"].isna().all()
    assert describe_frames(INDEX, blank, blank, quality=("Poor", ""))["quality"][0] == "Poor"

    cases = make_cases([90, 80, 70, 60])
    frames = pd.DataFrame({"name": [f"f{n}" for n in range(4)], "contrast": np.nan})
    frames = frames.assign(fidelity=np.nan, quality=["Good", "Good", "Poor", None])
    table = tabulate(cases, frames, rows=[find_row("real_all")])
    mean = table[(table["by"] == "quality") & (table["structure"] == "Mean")].set_index("stratum")
    assert mean["mean"].to_dict() == pytest.approx({"Good": 85, "Poor": 70})
    earlier = tabulate(cases, frames.drop(columns="quality"), rows=[find_row("real_all")])
    assert "quality" not in set(earlier["by"])


def test_a_row_of_one_view_is_seen_on_its_own_frames():
    cases = make_cases([90, 10, 80, 20], row="sdm_2ch_ed")
    frames = pd.DataFrame({"name": [f"f{n}" for n in range(4)], "contrast": 1.0, "fidelity": 0.5})
    table = tabulate(cases, frames, rows=[find_row("sdm_2ch_ed")])
    views = table[(table["by"] == "view") & (table["structure"] == "LA")]
    assert views[["stratum", "mean"]].values.tolist() == [["2CH", pytest.approx(85)]]
