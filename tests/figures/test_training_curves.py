import numpy as np
import pandas as pd

from echo_lib.figures import training_curves


def test_running_mean_by_hand():
    assert training_curves.smooth([1.0, 3.0, 5.0]).tolist() == [1.0, 2.0, 3.0]
    assert training_curves.smooth(np.arange(30.0))[-1] == np.arange(10, 30).mean()


def test_one_line_a_training_and_one_panel_a_column():
    log = pd.DataFrame(
        {"step": [1, 2, 3], "loss": [1.0, 0.5, 0.25], "learning_rate": [3e-4, 2e-4, 0]}
    )
    panels = {"loss": "training loss", "learning_rate": "learning rate"}
    logs = {"2CH": log, "4CH": log * 2}
    figure = training_curves.draw(logs, panels, step="step", stamp_text="profile x")
    loss, rate = figure.axes
    assert [line.get_label() for line in loss.lines] == ["2CH", "4CH"]
    assert loss.lines[0].get_ydata().tolist() == [1.0, 0.5, 0.25]
    assert (loss.get_yscale(), rate.get_yscale()) == ("log", "linear")
    assert loss.lines[0].get_color() != loss.lines[1].get_color()


def test_epochs_without_validation_are_skipped():
    log = pd.DataFrame({"epoch": [1, 2, 3], "validation_dice": [0.1, np.nan, 0.3]})
    panels = {"validation_dice": "validation Dice"}
    figure = training_curves.draw({"a": log}, panels, step="epoch", stamp_text="")
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1.0, 3.0]


def test_panels_wrap_into_rows_and_spare_places_stay_empty():
    log = pd.DataFrame({"step": [1, 2], "a": [1.0, 2.0], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    panels = {"a": "A", "b": "B", "c": "C"}
    figure = training_curves.draw({"x": log}, panels, step="step", stamp_text="", across=2)
    assert [axes.get_ylabel() for axes in figure.axes] == ["A", "B", "C", ""]
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]
    single = training_curves.draw({"x": log}, panels, step="step", stamp_text="")
    assert figure.get_figheight() == 2 * single.get_figheight()
