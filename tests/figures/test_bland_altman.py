import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.results import summarise_volumes
from echo_lib.figures import bland_altman
from echo_lib.rows import PAPER_ROWS

NAMES = {"sdm_all": "All SDM frames", "real_all": "All real"}


@pytest.fixture
def volumes():
    """Ejection fractions 1, 3 and 5 points above the masks', in the row of real frames as below."""
    masks = np.array([40.0, 50.0, 60.0])
    parts = [
        pd.DataFrame({"row": row, "seed": seed, "patient": ["a", "b", "c"],
                      "ef_percent": masks + sign * np.array([1, 3, 5]),
                      "edv_ml": 100.0, "esv_ml": 50.0, "mask_edv_ml": 100.0, "mask_esv_ml": 50.0,
                      "mask_ef_percent": masks, "info_ef_percent": np.nan})
        for row, seed, sign in (("sdm_all", 0, 1), ("real_all", 0, -1), ("sdm_all", 1, 9))
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def draw(volumes, against="mask_ef_percent", **options):
    found = summarise_volumes(volumes, rows=PAPER_ROWS)
    return bland_altman.draw(volumes, found, NAMES, against=against, stamp_text="s", **options)


def test_points_bias_and_limits(volumes, texts):
    figure = draw(volumes)
    first, second = figure.axes
    # means 40.5, 51.5, 62.5; differences 1, 3, 5; bias 3, limits 3 -+ 1.96 x 2
    assert first.collections[0].get_offsets().tolist() == [[40.5, 1], [51.5, 3], [62.5, 5]]
    heights = sorted(line.get_ydata()[0] for line in first.lines)
    assert heights == pytest.approx([-0.92, 0, 3, 6.92])
    assert second.collections[0].get_offsets()[:, 1].tolist() == [-1, -3, -5]
    shown = texts(figure)
    assert "All SDM frames\n+3.0 (-0.9 to +6.9), n = 3" in shown
    assert "s" in shown


def test_a_reference_that_is_not_there_has_no_lines(volumes, texts):
    figure = draw(volumes, against="info_ef_percent")
    assert [len(panel.lines) for panel in figure.axes] == [1, 1]
    assert "All real\nn = 0" in texts(figure)
