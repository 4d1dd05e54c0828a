import pandas as pd

from echo_lib.evaluation.strata import KINDS
from echo_lib.figures import shortfall


def line(row, by, stratum, structure, mean):
    numbers = {"mean": mean, "low": mean - 2, "high": mean + 1}
    name = {"real_all": "All real", "sdm_all": "All SDM"}[row]
    return {
        "row": row,
        "name": name,
        "by": by,
        "stratum": stratum,
        "structure": structure,
    } | numbers


def test_a_point_with_its_interval_per_row_and_stratum(texts):
    strata = pd.DataFrame(
        line(row, by, stratum, structure, 80 + number)
        for number, row in enumerate(("real_all", "sdm_all"))
        for by, stratum in (("view", "2CH"), ("view", "4CH"), ("phase", "ED"))
        for structure in shortfall.COLUMNS
    )
    rows = ["real_all", "sdm_all", "cyclegan_all"]
    figure = shortfall.draw(strata, rows, stamp_text="profile x")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [panel.get_title() for panel in panels] == list(shortfall.COLUMNS)
    points = [container[0] for container in panels[0].containers]
    assert [points_of.get_xdata().tolist() for points_of in points] == [[80] * 3, [81] * 3]
    bars = panels[0].containers[0][2][0].get_segments()
    assert [bar[:, 0].tolist() for bar in bars] == [[78, 81]] * 3
    assert {"view: 2CH", "phase: ED", "All SDM", "profile x"} <= set(texts(figure))


def test_every_stratum_has_a_title():
    assert tuple(shortfall.TITLES) == KINDS
