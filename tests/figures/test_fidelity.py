import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from echo_lib.figures import fidelity

COLUMNS = ("generator", "measure", "unit", "mean", "low", "high")
DICE = ("dice_lv_endo", "dice_lv_epi", "dice_la", "mean_dice")
DISTANCES = ("distance_lv_endo", "distance_lv_epi", "distance_la", "mean_distance")


@pytest.fixture
def summary():
    """Real frames, SDM and CycleGAN at a Dice of 0.9, 0.8 and 0.6, their distances 1, 2, 4 mm."""
    lines = []
    for generator, dice, distance in (("real", 0.9, 1), ("sdm", 0.8, 2), ("cyclegan", 0.6, 4)):
        lines += [(generator, m, "share", dice, dice - 0.1, dice + 0.05) for m in DICE]
        lines += [(generator, m, "mm", distance, distance, distance) for m in DISTANCES]
    return pd.DataFrame(lines, columns=list(COLUMNS))


@pytest.fixture
def against_strength():
    lines = [
        (generator, measure, "share", mean - strength / 2, 0.1, 0.9, strength)
        for strength in (1.0, 0.0)
        for generator, mean in (("sdm", 0.8), ("cyclegan", 0.7))
        for measure in ("mean_dice", "with_missing", "with_merged")
    ]
    return pd.DataFrame(lines, columns=[*COLUMNS, "strength"])


@pytest.fixture
def panels(summary, against_strength):
    figure = fidelity.draw(summary, against_strength, stamp_text="profile x")
    return [axes for axes in figure.axes if axes.get_ylabel()]


def points(axes, colour):
    return [
        line.get_xydata()[0].tolist()
        for line in axes.lines
        if line.get_marker() == "o" and same_color(line.get_color(), colour)
    ]


def test_points_are_means_in_percent_side_by_side(panels):
    dice = panels[0]
    for generator, mean, offset in (("real", 90, -0.2), ("sdm", 80, 0), ("cyclegan", 60, 0.2)):
        found = points(dice, fidelity.COLOURS[generator])
        expected = [[place + offset, mean] for place in range(4)]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    names = [label.get_text() for label in dice.get_xticklabels()]
    assert names == ["LV endo", "LV epi", "LA", "Mean"]
    assert [t.get_text() for t in dice.get_legend().get_texts()] == list(fidelity.NAMES.values())


def test_intervals_are_drawn(panels):
    bars = [line for line in panels[0].lines if line.get_marker() == "None"]
    np.testing.assert_allclose(bars[0].get_ydata(), [80, 95])


def test_distances_are_in_their_own_unit(panels, summary, against_strength):
    assert "(mm)" in panels[1].get_ylabel()
    assert points(panels[1], fidelity.COLOURS["cyclegan"])[3][1] == 4
    summary.loc[summary["measure"] == "distance_la", "unit"] = "px"
    with pytest.raises(ValueError, match="mm and px"):
        fidelity.draw(summary, against_strength, stamp_text="")


def test_curves_run_from_mild_to_strong(panels):
    curves = {line.get_color(): line for line in panels[2].lines if len(line.get_xdata()) == 2}
    sdm = curves[fidelity.COLOURS["sdm"]]
    np.testing.assert_allclose(sdm.get_xydata(), [[0, 80], [1, 30]])
    assert len(panels[2].collections) == 2  # a band for each generator


def test_a_measure_without_values_is_left_out(summary, against_strength):
    some = summary[~summary["measure"].isin(DISTANCES)]
    figure = fidelity.draw(some, against_strength, stamp_text="")
    distance = [axes for axes in figure.axes if "distance" in axes.get_ylabel()]
    assert distance[0].lines[:] == []
