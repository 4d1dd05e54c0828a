import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.ledger import ledger
from echo_lib.figures import fractions, ledger_table
from echo_lib.labels import PHASES, STRUCTURES, VIEWS
from echo_lib.rows import PAPER_ROWS, find_row


def make_cases(row, values):
    return pd.DataFrame(
        {"row": row, "seed": 0, "name": f"p{n}_{view}_{phase}", "patient": f"p{n}", "view": view,
         "phase": phase, "structure": structure, "dice": value / 100}
        for n, value in enumerate(values)
        for view in VIEWS
        for phase in PHASES
        for structure in STRUCTURES
    )  # fmt: skip


@pytest.fixture
def table():
    return ledger(make_cases("real_all", [86, 88, 90]), rows=PAPER_ROWS)


def points(panel, marker):
    return [line.get_xydata()[0].tolist() for line in panel.lines if line.get_marker() == marker]


def test_our_mean_stands_beside_the_papers(table, texts):
    figure = ledger_table.draw(table, stamp_text="profile x")
    assert [panel.get_title() for panel in figure.axes] == [*STRUCTURES, "Mean"]
    endo = figure.axes[0]
    assert points(endo, "o") == [[pytest.approx(88), 6]]
    papers = [row.paper["LV endo"][0] for row in PAPER_ROWS]
    assert points(endo, "D") == [[paper, place] for place, paper in enumerate(papers)]
    shown = texts(figure)
    assert shown.count("not run") == 6 * 4
    assert "profile x" in shown
    assert "CycleGAN [6] all frames" in shown


def test_the_interval_has_the_verdicts_colour(table):
    panel = ledger_table.draw(table, stamp_text="").axes[1]
    (interval,) = [line for line in panel.lines if len(line.get_xdata()) == 2]
    cell = table[(table["row"] == "real_all") & (table["structure"] == "LV epi")].iloc[0]
    assert cell["verdict"] == "below"
    assert interval.get_color() == ledger_table.COLOURS["below"]
    assert interval.get_xdata().tolist() == [cell["low"], cell["high"]]


def test_one_patient_has_a_mean_without_interval():
    single = ledger(make_cases("real_all", [88]), rows=PAPER_ROWS)
    panel = ledger_table.draw(single, stamp_text="", tested_on="all").axes[0]
    assert points(panel, "o") == [[pytest.approx(88), 6]]


def shares():
    slugs = ("sdm_all", "real_05", "real_25", "real_all", "sdm_and_real_05", "sdm_and_real")
    values = dict(zip(slugs, (85, 70, 80, 90, 82, 92), strict=True))
    cases = pd.concat([make_cases(slug, [x - 1, x + 1]) for slug, x in values.items()])
    others = make_cases("real_all_longer", [50, 60])  # all patients, but no point of the curve
    more = (*slugs[1:3], *slugs[4:], "sdm_then_real", "real_all_longer")
    rows = [*PAPER_ROWS, *map(find_row, more)]
    return ledger(pd.concat([cases, others]), rows=rows)


def test_series_of_the_fractions():
    real = fractions.series(shares(), ("real",), "LA")
    assert real["percent"].tolist() == pytest.approx([5, 25, 100])
    assert real["ours"].tolist() == pytest.approx([70, 80, 90])
    assert real["low"].tolist() == pytest.approx([69, 79, 89])
    both = fractions.series(shares(), ("synthetic", "real"), "Mean")
    assert both[["percent", "ours"]].to_numpy().tolist() == [
        [pytest.approx(5), pytest.approx(82)],
        [pytest.approx(100), pytest.approx(92)],
    ]


def test_curve_of_the_fractions(texts):
    figure = fractions.draw(shares(), stamp_text="profile x")
    panel = figure.axes[-1]
    curves = {line.get_label(): line.get_ydata() for line in panel.lines}
    assert curves["real alone"].tolist() == pytest.approx([70, 80, 90])
    assert curves["SDM + real"].tolist() == pytest.approx([82, 92])
    assert np.allclose(curves["SDM alone"], 85)
    assert "profile x" in texts(figure)


def test_no_curve_without_fractions(table):
    assert fractions.has_points(shares())
    assert not fractions.has_points(table)
    with pytest.raises(ValueError, match="extra_rows"):
        fractions.draw(table, stamp_text="")
