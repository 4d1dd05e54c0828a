import numpy as np
import pandas
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from echo_lib.data.prepare import resize_label_map
from echo_lib.evaluation.metrics import (
    CASE_COLUMNS,
    DISTANCE_COLUMNS,
    area_error,
    dice,
    dice_coefficient,
    enlarge,
    measure,
    surface_distances,
    ventricle_dice,
)

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


def mask(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


def test_distances_by_hand():
    # Contours: columns 0, 1 against columns 0..3 of one row. There 0, 0; back 0, 0, 1, 2 columns.
    predicted, truth = mask("##....", "......"), mask("####..", "......")
    hd95, mean = surface_distances(predicted, truth, spacing_mm=(1, 1))
    # the 95th percentile of 0, 0, 1, 2 lies at place 2.85 of 0..3: 1 + 0.85
    assert hd95 == pytest.approx(1.85)
    assert mean == pytest.approx(3 / 6)
    assert surface_distances(predicted, truth, spacing_mm=(9, 0.5)) == pytest.approx((0.925, 0.25))


def test_distances_know_rows_from_columns():
    upper, lower = mask("#.", "..", ".."), mask("..", "..", ".#")
    distance = np.hypot(2 * 0.3, 0.7)
    found = surface_distances(upper, lower, spacing_mm=(0.3, 0.7))
    assert found == pytest.approx((distance, distance))


def test_a_full_disc_is_measured_at_its_contour():
    y, x = np.mgrid[:41, :41]
    small, large = (np.hypot(y - 20, x - 20) <= radius for radius in (10, 14))
    hd95, mean = surface_distances(small, large, spacing_mm=(1, 1))
    assert hd95 == pytest.approx(4, abs=0.5)
    assert mean == pytest.approx(4, abs=0.3)
    assert surface_distances(small, small, spacing_mm=(1, 1)) == (0, 0)


def test_distances_are_monais():
    generator = np.random.default_rng(0)
    for spacing in ((1.0, 1.0), (0.3, 0.5)):
        # At the border too: what lies beyond the array is background.
        a, b = generator.random((2, 20, 17)) < 0.6
        ours = surface_distances(a, b, spacing_mm=spacing)
        one_hot = [torch.from_numpy(x)[None, None] for x in (a, b)]
        options = {"include_background": True, "spacing": list(spacing)}
        hd95 = compute_hausdorff_distance(*one_hot, percentile=95, **options)
        mean = compute_average_surface_distance(*one_hot, symmetric=True, **options)
        assert ours == pytest.approx((hd95.item(), mean.item()), rel=1e-5)


def test_distances_of_empty_structures():
    empty, some = mask("..", ".."), mask("#.", "..")
    assert surface_distances(empty, empty, spacing_mm=(1, 1)) == (0, 0)
    for pair in ((empty, some), (some, empty)):
        assert np.isnan(surface_distances(*pair, spacing_mm=(1, 1))).all()
    with pytest.raises(ValueError, match="expected one shape"):
        surface_distances(empty, mask("..."), spacing_mm=(1, 1))


def test_area_error_by_hand():
    assert area_error(mask("###."), mask("##..")) == 50
    assert area_error(mask("#..."), mask("####")) == -75
    assert area_error(mask("...."), mask("....")) == 0
    assert area_error(mask("...."), mask("#...")) == -100
    assert np.isnan(area_error(mask("#..."), mask("....")))


@pytest.mark.parametrize("shape", [(40, 24), (299, 361), (65, 64), (64, 64)])
def test_enlarging_is_undone_by_preparing(shape):
    small = np.random.default_rng(1).integers(0, 4, size=(16, 16), dtype=np.uint8)
    large = enlarge(small, shape)
    assert large.shape == shape
    assert (resize_label_map(large, 16) == small).all()


def test_enlarging_by_hand():
    assert enlarge(np.array([[1, 2, 3]]), (2, 6)).tolist() == [[1, 1, 2, 2, 3, 3]] * 2
    assert enlarge(np.array([[1, 2]]), (1, 3)).tolist() == [[1, 2, 2]]


def test_measures_are_of_the_original_frame():
    # A truth of 8 x 12 px of 0.5 x 0.25 mm, and the network's 4 x 4 map of it.
    truth = np.repeat(np.repeat(TRUTH, 2, axis=0), 3, axis=1)
    originals = ([truth], [(0.5, 0.25)])
    table = measure([PREDICTED], [TRUTH], index(), row="real_all", originals=originals)
    assert tuple(table.columns) == CASE_COLUMNS + DISTANCE_COLUMNS
    found = table.set_index("structure").loc["LV endo"]
    # endo has a pixel too many, on its left: 1 of 2, and 3 small columns of 0.25 mm
    assert (found["dice"], found["dice_original"]) == pytest.approx((0.8, 0.8))
    assert (found["area_error_percent"], found["unit"]) == (50, "mm")
    assert found["hd95"] == pytest.approx(0.75)


def test_unknown_spacing_gives_pixels():
    table = measure([TRUTH], [TRUTH], index(), row="real_all")
    assert table["unit"].tolist() == ["px"] * 3
    shifted = np.roll(TRUTH, 1, axis=1)
    table = measure(
        [shifted], [TRUTH], index(), row="real_all", originals=([TRUTH], [(2.0, np.nan)])
    )
    assert table["unit"].tolist() == ["px"] * 3
    assert table["hd95"].max() <= 3


def test_an_absent_structure_has_no_distance():
    without = np.where(TRUTH == 3, 0, TRUTH)
    table = measure([without], [TRUTH], index(), row="real_all").set_index("structure")
    assert np.isnan(table.loc["LA", "hd95"])
    assert np.isnan(table.loc["LA", "mean_distance"])
    assert table.loc["LA", "area_error_percent"] == -100
    both = measure([without], [without], index(), row="real_all").set_index("structure").loc["LA"]
    assert both[["dice_original", "hd95", "mean_distance", "area_error_percent"]].tolist() == [
        1, 0, 0, 0,
    ]  # fmt: skip


def test_a_frame_without_any_structure_is_measured():
    nothing = np.zeros_like(TRUTH)
    assert (measure([nothing], [nothing], index(), row="real_all")["hd95"] == 0).all()


def test_dice_of_the_ventricle_alone():
    found = ventricle_dice([PREDICTED, TRUTH], [TRUTH == 1, TRUTH == 1], index(2))
    assert found["dice"].tolist() == pytest.approx([0.8, 1.0])
    assert found["name"].tolist() == index(2)["name"].tolist()


def test_rows_as_released_score_a_structure_absent_from_both_as_nothing():
    columns = ["name", "patient", "view", "phase"]
    index = pandas.DataFrame([("a", "p", "4CH", "ED")], columns=columns)
    empty = np.zeros((1, 8, 8), dtype=np.uint8)
    scores = {
        variant: measure(empty, empty, index, row="real_all", variant=variant)["dice"].tolist()
        for variant in ("as_written", "as_released")
    }
    assert scores == {"as_written": [1, 1, 1], "as_released": [0, 0, 0]}
