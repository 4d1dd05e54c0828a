import subprocess
import sys

import matplotlib
import pytest

from echo_lib.figures import style


def test_axes_stand_where_the_millimetres_say():
    figure = style.new_figure(100, 50)
    axes = style.axes_mm(figure, 10, 5, 20, 10)
    assert axes.get_position().bounds == pytest.approx((0.1, 0.1, 0.2, 0.2))


def test_canvas_counts_in_millimetres():
    canvas = style.canvas_mm(style.new_figure(180, 90))
    assert canvas.get_xlim() == pytest.approx((0, 180))
    assert canvas.get_ylim() == pytest.approx((0, 90))


def test_stamp_is_written_at_the_foot_and_an_empty_one_is_not():
    stamped = style.stamp(style.new_figure(100, 50), "profile demo · phantom data")
    assert [text.get_text() for text in stamped.texts] == ["profile demo · phantom data"]
    assert stamped.texts[0].get_position()[1] < 0.05
    assert style.stamp(style.new_figure(100, 50), "").texts == []


def test_the_style_leaves_the_users_settings_alone():
    before = matplotlib.rcParams["font.size"]
    with style.paper_style():
        assert matplotlib.rcParams["font.size"] == style.RC["font.size"]
    assert matplotlib.rcParams["font.size"] == before


def test_figures_load_without_torch():
    code = (
        "import sys; from echo_lib.figures import dice_table, fig1_pipeline, fig2_datasets, "
        "fig3_samples, sheet, training_curves; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
