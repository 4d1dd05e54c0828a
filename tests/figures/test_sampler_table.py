import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.fidelity import IMAGE_COLUMNS
from echo_lib.figures import sampler_table


def scores(dice):
    """Scores of images, all measures the same."""
    return pd.DataFrame({column: dice for column in sampler_table.MEASURES})


@pytest.fixture
def table():
    some = {
        (sampler, steps): scores([0.5, 0.5 + steps / 100])
        for steps in (5, 25)
        for sampler in ("ddpm", "ddim", "dpm_solver_pp")
    }
    some |= {("ddpm", 1000): scores([0.8, 0.9]), ("real", 0): scores([0.9, 1.0])}
    distances = pd.DataFrame({"frechet": range(8), "kernel": 0.0})
    return sampler_table.tabulate(some, distances)


def test_measures_are_those_of_the_fidelity_scores():
    assert set(sampler_table.MEASURES) <= set(IMAGE_COLUMNS)
    assert set(sampler_table.PANELS) <= {*sampler_table.MEASURES, "frechet"}


def test_a_line_by_hand():
    distances = pd.DataFrame({"frechet": [3.0], "kernel": [0.1]}, index=[7])
    table = sampler_table.tabulate({("ddim", 10): scores([0.2, 0.4, 0.6])}, distances)
    line = table.loc[0]
    assert (line["sampler"], line["steps"], line["images"]) == ("ddim", 10, 3)
    assert line["mean_dice"] == pytest.approx(0.4)
    assert line["mean_dice_se"] == pytest.approx(0.2 / 3**0.5)  # std of 0.2, 0.4, 0.6 is 0.2
    assert (line["frechet"], line["kernel"]) == (3.0, 0.1)


def test_one_line_a_sampler_and_the_reference_beside_them(table, texts):
    figure = sampler_table.draw(table, stamp_text="profile x")
    assert len(figure.axes) == len(sampler_table.PANELS)
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert drawn["DDIM"].get_xdata().tolist() == [5, 25]
    assert drawn["DDIM"].get_ydata().tolist() == pytest.approx([0.525, 0.625])
    assert drawn["ancestral"].get_xdata().tolist() == [5, 25]  # not the reference itself
    assert drawn["ancestral, 1000 steps"].get_ydata() == pytest.approx([0.85, 0.85])
    assert drawn["real frames"].get_ydata() == pytest.approx([0.95, 0.95])
    band = figure.axes[0].patches[0]
    assert (band.get_y(), band.get_height()) == pytest.approx((0.75, 0.2))  # +- 2 x 0.05
    assert not figure.axes[1].patches  # a distance of sets has no standard error
    assert "profile x" in texts(figure)


def test_without_an_ancestral_line_there_is_no_reference(table):
    with pytest.raises(ValueError, match="no line of ddpm"):
        sampler_table.draw(table[table["sampler"] != "ddpm"], stamp_text="")


def test_a_single_image_has_no_standard_error():
    distances = pd.DataFrame({"frechet": [1.0], "kernel": [0.0]})
    table = sampler_table.tabulate({("ddpm", 20): scores([0.5])}, distances)
    assert np.isnan(table["mean_dice_se"][0])
    assert not sampler_table.draw(table, stamp_text="").axes[0].patches
