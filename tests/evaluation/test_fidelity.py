import numpy as np
import pandas as pd
import pytest

from echo_lib.config import load_profile
from echo_lib.evaluation import fidelity
from echo_lib.labels import (
    CAMUS_LA,
    CAMUS_LV,
    SDM_LA,
    SDM_LV,
    SDM_MYOCARDIUM,
    SDM_SECTOR,
    remove_sector,
)
from echo_lib.provenance import Run, Stage

SIZE = 32


@pytest.fixture
def label_map():
    """SDM ids: LV 8 x 10 in a wall 12 x 14, an atrium 6 x 10 four rows below, a sector around."""
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    label_map[1:31, 1:31] = SDM_SECTOR
    label_map[3:15, 5:19] = SDM_MYOCARDIUM
    label_map[5:13, 7:17] = SDM_LV
    label_map[19:25, 7:17] = SDM_LA
    return label_map


@pytest.fixture
def make_index():
    def make(patients):
        lines = [(f"{p}_2CH_ED_{n}", p, "2CH", "ED", "validation") for n, p in enumerate(patients)]
        return pd.DataFrame(lines, columns=list(fidelity.INDEX_COLUMNS))

    return make


@pytest.fixture
def score(label_map, make_index):
    def score(prediction, **keywords):
        return fidelity.score_images(
            prediction[None], label_map[None], make_index(["patient1"]), **keywords
        ).iloc[0]

    return score


def test_a_perfect_image(label_map, score):
    line = score(remove_sector(label_map))
    assert tuple(line.index) == fidelity.IMAGE_COLUMNS
    assert line[list(fidelity.DICE_COLUMNS)].tolist() == [1, 1, 1]
    assert line[list(fidelity.DISTANCE_COLUMNS)].tolist() == [0, 0, 0]
    assert (line["mean_dice"], line["mean_distance"], line["distance_unit"]) == (1, 0, "px")
    assert (line["n_missing"], line["missing"], line["n_merged"], line["merged"]) == (0, "", 0, "")
    assert np.isnan(line["energy_outside"])
    assert line["generator"] == "sdm"


def test_an_image_shifted_by_two_columns(label_map, score):
    # A rectangle of w columns, shifted by 2, keeps w - 2 of them: Dice (w - 2) / w.
    line = score(np.roll(remove_sector(label_map), 2, axis=1))
    assert line["dice_lv_endo"] == pytest.approx(8 / 10)
    assert line["dice_lv_epi"] == pytest.approx(12 / 14)
    assert line["dice_la"] == pytest.approx(8 / 10)
    assert line["mean_dice"] == pytest.approx((0.8 + 12 / 14 + 0.8) / 3)
    # The two contours are each other's mirror image, so both ways have one mean.
    assert line["distance_lv_endo"] == pytest.approx(one_way_mean(8, 10, shift=2))
    assert line["distance_la"] == pytest.approx(one_way_mean(6, 10, shift=2))
    assert (line["n_missing"], line["n_merged"]) == (0, 0)


def one_way_mean(rows, columns, *, shift):
    """Mean distance from a rectangle's contour to that of the same one, moved along the columns."""
    # Trailing column: its inner px are ``shift`` from the other's trailing column. In the top and
    # bottom rows the first ``shift`` px lie shift, ..., 2, 1 from the other's corner. The rest of
    # these rows is common to both.
    corners = 2 * sum(range(1, shift + 1))
    trailing = (rows - 2) * shift
    # Leading column: its inner px lie inside the other, whose nearest contour is ``shift`` columns
    # on, or the top or bottom row where that is nearer.
    leading = sum(min(shift, row, rows - 1 - row) for row in range(1, rows - 1))
    return (corners + trailing + leading) / (2 * (rows + columns) - 4)


def test_an_image_without_heart_and_one_with_a_leak(label_map, score):
    line = score(np.zeros((SIZE, SIZE), np.uint8))
    assert (line["n_missing"], line["missing"]) == (3, "LV cavity; myocardium; left atrium")
    assert line["mean_dice"] == 0
    assert np.isnan(line["mean_distance"])
    leaking = remove_sector(label_map)
    leaking[13:19, 10] = CAMUS_LV
    line = score(leaking)
    assert (line["n_merged"], line["merged"]) == (1, "LV cavity + left atrium")


def test_distances_are_in_mm_where_the_spacing_is_known(label_map, make_index):
    shifted = np.stack([np.roll(remove_sector(label_map), 2, axis=1)] * 2)
    spacing_mm = [[0.5, 0.5], [np.nan, np.nan]]
    known, unknown = fidelity.score_images(
        shifted, np.stack([label_map] * 2), make_index(["p", "q"]), spacing_mm=spacing_mm
    ).itertuples()
    assert (known.distance_unit, unknown.distance_unit) == ("mm", "px")
    assert known.mean_distance == pytest.approx(unknown.mean_distance / 2)
    both = fidelity.score_images(
        shifted, np.stack([label_map] * 2), make_index(["p", "q"]), spacing_mm=(0.5, 0.5)
    )
    assert both["mean_distance"].tolist() == pytest.approx([known.mean_distance] * 2)


def test_spacing_of_a_map_is_that_of_its_frame_in_the_prepared_size():
    frames = pd.DataFrame(
        {"split": ["training", "test"], "name": ["p_2CH_ED", "p_2CH_ED"], "rows_px": [640, 320]}
    ).assign(columns_px=256)
    index = pd.DataFrame({"split": ["test", "training"], "name": ["p_2CH_ED", "p_2CH_ED_1"]})
    known = np.array([[0.2, 0.5], [0.3, np.nan]])
    found = fidelity.map_spacing(index, frames, known_mm=known, size_px=128)
    np.testing.assert_allclose(found, [[0.75, np.nan], [1.0, 1.0]])


def test_intensities_and_energy_beyond_the_sector_by_hand(label_map, score):
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[label_map == SDM_LA] = 40
    image[19:22][label_map[19:22] == SDM_LA] = 60
    image[0, :4] = 100
    line = score(remove_sector(label_map), images=image[None, None])
    assert (line["grey_mean_left_atrium"], line["grey_std_left_atrium"]) == (50, 10)
    assert line["grey_mean_lv_cavity"] == 0
    outside = SIZE**2 - 30**2
    assert line["grey_mean_outside"] == pytest.approx(400 / outside)
    # Energy: 4 px of 100^2 outside; inside 30 px of 40^2 and 30 px of 60^2.
    assert line["energy_outside"] == pytest.approx(40000 / (40000 + 30 * 1600 + 30 * 3600))


def test_arrays_that_do_not_fit_are_refused(label_map, make_index):
    truth, index = remove_sector(label_map)[None], make_index(["p"])
    with pytest.raises(ValueError, match="expected one shape"):
        fidelity.score_images(truth, label_map[None, :30], index)
    with pytest.raises(ValueError, match="an index of 2 lines"):
        fidelity.score_images(truth, label_map[None], make_index(["p", "q"]))
    with pytest.raises(ValueError, match="prediction of p_2CH_ED_0"):
        fidelity.score_images(label_map[None], label_map[None], index)
    with pytest.raises(ValueError, match="uint8"):
        fidelity.score_images(truth, label_map[None], index, images=truth.astype(float))
    with pytest.raises(ValueError, match="expected positive"):
        fidelity.score_images(truth, label_map[None], index, spacing_mm=(0, 1))


@pytest.fixture
def frame(label_map, make_index):
    """Two patients: the first's two images perfect and shifted, the second's one without atrium."""
    truth = remove_sector(label_map)
    lost = np.where(truth == CAMUS_LA, 0, truth)
    predictions = np.stack([truth, np.roll(truth, 2, axis=1), lost])
    maps, index = np.stack([label_map] * 3), make_index(["p", "p", "q"])
    return pd.concat(
        [
            fidelity.score_images(predictions, maps, index),
            fidelity.score_images(np.stack([lost] * 3), maps, index, generator="cyclegan"),
        ],
        ignore_index=True,
    )


def test_summary_is_the_mean_over_patients(frame):
    table = fidelity.summarise(frame).set_index(["generator", "measure"])
    # Atrium: p has 1 and 0.8, q has 0.
    line = table.loc["sdm", "dice_la"]
    assert line["mean"] == pytest.approx((0.9 + 0) / 2)
    assert (line["n_images"], line["n_patients"], line["unit"]) == (3, 2, "share")
    assert line["low"] == pytest.approx(0)
    assert line["high"] == pytest.approx(0.9)
    assert table.loc["sdm", "with_missing"]["mean"] == pytest.approx(1 / 2)
    assert table.loc["cyclegan", "with_missing"]["mean"] == 1
    # Distances have their own unit, and no line where nothing was found to measure.
    assert table.loc["sdm", "distance_la"]["unit"] == "px"
    assert table.loc["sdm", "distance_la"]["n_patients"] == 1
    assert np.isnan(table.loc["sdm", "distance_la"]["low"])
    assert ("cyclegan", "distance_la") not in table.index
    assert ("sdm", "energy_outside") not in table.index


def test_summary_by_a_column_takes_its_values_apart(frame):
    apart = fidelity.summarise(frame.assign(strength=[0, 1, 1] * 2), by="strength")
    table = apart.set_index(["strength", "generator", "measure"])["mean"]
    assert table[0, "sdm", "dice_la"] == 1
    assert table[1, "sdm", "dice_la"] == pytest.approx((0.8 + 0) / 2)


def test_table_reads_measures_down_and_generators_across(frame):
    table = fidelity.as_table(fidelity.summarise(frame))
    assert table.columns.tolist() == ["sdm", "cyclegan"]
    assert table.loc[("dice_la", "share"), "sdm"] == "0.450 (0.000 to 0.900)"
    assert table.loc[("distance_la", "px"), "cyclegan"] == ""
    assert table.index[0] == ("dice_lv_endo", "share")


def test_paired_difference_is_over_the_maps_in_common(frame):
    some = frame.drop(index=frame.index[[3]])  # the CycleGAN's first image is gone
    found = fidelity.paired_difference(some, measure="dice_la")
    assert found[:2] == (2, 2)
    assert found[2] == pytest.approx((0.8 + 0) / 2)


def test_worst_are_those_of_each_generator(frame):
    found = fidelity.worst(frame, count=1)
    assert found["generator"].tolist() == ["sdm", "cyclegan"]
    assert found["name"].tolist() == ["q_2CH_ED_2", "p_2CH_ED_0"]


def test_stage_holds_a_line_per_image_and_the_summary(frame, tmp_path):
    run = Run(load_profile("smoke"), 0, None, tmp_path)
    for name in ("synthetic", "segmentation/real_all-0"):
        Stage.open(run, name, config={}).finish([])
    inputs = ["synthetic", "segmentation/real_all-0"]
    manifest = fidelity.write_fidelity(run, frame, inputs=inputs)
    written = pd.read_csv(run.folder / "fidelity" / "images.csv", keep_default_na=False)
    assert tuple(written.columns) == fidelity.IMAGE_COLUMNS
    assert len(written) == 6
    summary = pd.read_csv(run.folder / "fidelity" / "summary.csv")
    assert tuple(summary.columns) == fidelity.SUMMARY_COLUMNS
    assert manifest["facts"]["images"] == {"sdm": 3, "cyclegan": 3}
    assert manifest["facts"]["mean_dice"]["cyclegan"] == pytest.approx(2 / 3)
    assert set(manifest["inputs"]) == set(inputs)
    assert fidelity.write_fidelity(run, frame, inputs=inputs) == manifest
    further = {"strength": pd.DataFrame({"strength": [0.5], "mean": [0.25]})}
    more = fidelity.write_fidelity(run, frame, inputs=inputs, tables=further)
    assert more["outputs_digest"] != manifest["outputs_digest"]
    assert (run.folder / "fidelity" / "strength.csv").read_text() == "strength,mean\n0.5,0.25\n"
    with pytest.raises(ValueError, match="twice"):
        fidelity.write_fidelity(run, pd.concat([frame, frame]), inputs=inputs)
