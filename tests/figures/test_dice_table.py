import itertools

import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.table import summarise
from echo_lib.figures import dice_table
from echo_lib.labels import PHASES, STRUCTURES, VIEWS
from echo_lib.rows import PAPER_ROWS, find_row


@pytest.fixture
def cases():
    """Two rows; on every frame the row ``sdm_4ch_ed`` scores 0.9 in 4CH ED and 0.5 elsewhere."""
    lines = []
    for row, view, phase, structure in itertools.product(
        ("sdm_4ch_ed", "real_all"), VIEWS, PHASES, STRUCTURES
    ):
        dice = 0.9 if (view, phase) == ("4CH", "ED") or row == "real_all" else 0.5
        name = f"patient0001_{view}_{phase}"
        lines.append((row, 0, name, "patient0001", view, phase, structure, dice))
    columns = ["row", "seed", "name", "patient", "view", "phase", "structure", "dice"]
    return pd.DataFrame(lines, columns=columns)


def test_own_numbers_stand_beside_the_papers(cases, texts):
    shown = texts(dice_table.draw(summarise(cases), stamp_text="profile x"))
    assert shown.count("90.0 ± 0.0") == 8  # two rows, three structures and their mean
    assert "50.0 ± 0.0" not in shown
    for paper in ("91.3 ± 4.4", "85.2 ± 13.2", "79.7 ± 7.1", "87.1 ± 3.4"):
        assert paper in shown


def test_a_row_that_was_not_run_says_so(cases, texts):
    shown = texts(dice_table.draw(summarise(cases), stamp_text=""))
    assert shown.count("not run") == 5 * 4


def test_cases_are_of_the_frames_a_row_was_trained_for(cases):
    figure = dice_table.draw_cases(cases, stamp_text="profile x")
    assert [axes.get_title() for axes in figure.axes] == list(STRUCTURES)
    points = [dots.get_offsets()[:, 0].tolist() for dots in figure.axes[0].collections]
    assert points == [[90.0], [90.0] * 4]


def test_several_seeds_are_one_point_a_case(cases):
    second = cases.assign(seed=1, dice=0.7)
    figure = dice_table.draw_cases(pd.concat([cases, second]), stamp_text="")
    assert figure.axes[0].collections[0].get_offsets()[:, 0].tolist() == pytest.approx([80.0])


def test_a_row_of_ours_has_a_dash_for_the_paper(cases, texts):
    both = pd.concat([cases, cases.assign(row="sdm_and_real", dice=0.95)])
    table = summarise(both, rows=[*PAPER_ROWS, find_row("sdm_and_real")])
    shown = texts(dice_table.draw(table, stamp_text=""))
    assert "SDM + real" in shown
    assert shown.count("–") == 4
    assert shown.count("95.0 ± 0.0") == 4


def test_worst_and_best_frames(texts):
    images = np.zeros((5, 1, 8, 8), np.uint8)
    maps = np.zeros((5, 8, 8), np.uint8)
    names = [f"testing_patient{n:04d}_4CH_ED" for n in range(5)]
    scores = pd.Series([0.9, 0.2, 0.5, 0.7, 0.3], index=names)
    figure = dice_table.draw_extremes(scores, images, maps, maps, stamp_text="s", count=2)
    titles = [text for text in texts(figure) if "%" in text]
    assert [title.splitlines()[2] for title in titles] == ["20.0 %", "30.0 %", "70.0 %", "90.0 %"]
    assert titles[0].splitlines()[:2] == ["testing_patient0001", "4CH ED"]
    every = dice_table.draw_extremes(scores, images, maps, maps, stamp_text="s", count=9)
    assert len([text for text in texts(every) if "%" in text]) == 4
