import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.ledger import (
    LEDGER_COLUMNS,
    ledger,
    render_markdown,
    verdict,
    verdict_counts,
)
from echo_lib.labels import STRUCTURES
from echo_lib.rows import PAPER_ROWS, find_row

FRAMES = (("2CH", "ED"), ("2CH", "ES"), ("4CH", "ED"), ("4CH", "ES"))


def make_cases(row, values, *, seed=0, frames=FRAMES):
    """A patient per number of ``values`` (% of every structure), on each of the frames."""
    return pd.DataFrame(
        {"row": row, "seed": seed, "name": f"p{i}_{view}_{phase}", "patient": f"p{i}",
         "view": view, "phase": phase, "structure": structure, "dice": value / 100}
        for i, value in enumerate(values)
        for view, phase in frames
        for structure in STRUCTURES
    )  # fmt: skip


def cell(table, row, structure, tested_on="own"):
    chosen = table[(table["row"] == row) & (table["structure"] == structure)]
    (found,) = chosen[chosen["tested_on"] == tested_on].to_dict("records")
    return found


def test_verdicts():
    assert verdict(87.8, 87.0, 89.0) == "inside the interval"
    assert verdict(87.8, 87.8, 89.0) == "inside the interval"
    assert verdict(87.8, 87.9, 89.0) == "above"
    assert verdict(87.8, 85.0, 87.7) == "below"
    assert verdict(np.nan, 85.0, 87.7) == "no number in the paper"
    assert verdict(87.8, np.nan, np.nan) == "no interval of one patient"


def test_a_cell_by_hand():
    table = ledger(make_cases("real_all", [80, 90, 100]), rows=PAPER_ROWS)
    assert tuple(table.columns) == LEDGER_COLUMNS
    found = cell(table, "real_all", "LV endo")
    assert (found["paper"], found["paper_std"]) == (87.8, 6.8)
    assert (found["ours"], found["difference"]) == pytest.approx((90, 2.2))
    assert (found["n_patients"], found["n_cases"], found["n_seeds"]) == (3, 12, 1)
    # population std over cases: sqrt(200 / 3); sample std over patients: sqrt(200 / 2)
    assert found["std_as_paper"] == pytest.approx(np.sqrt(200 / 3))
    assert found["std_patients"] == pytest.approx(10)
    assert 80 <= found["low"] < 87.8 < found["high"] <= 100
    assert found["verdict"] == "inside the interval"
    mean = cell(table, "real_all", "Mean")
    # the three structures are equal: no spread between them, but one between patients
    assert (mean["std_as_paper"], mean["std_patients"]) == pytest.approx((0, 10))


def test_equal_patients_have_an_interval_of_no_width():
    table = ledger(make_cases("real_all", [90, 90, 90]), rows=PAPER_ROWS)
    found = cell(table, "real_all", "LV epi")
    assert (found["low"], found["high"]) == pytest.approx((90, 90))
    assert found["verdict"] == "below"
    assert cell(table, "real_all", "LA")["verdict"] == "above"


def test_rows_of_one_view_are_tested_both_ways():
    own = make_cases("sdm_4ch_ed", [90, 92], frames=[("4CH", "ED")])
    other = make_cases("sdm_4ch_ed", [50, 52], frames=[("2CH", "ES")])
    table = ledger(pd.concat([own, other]), rows=PAPER_ROWS)
    first, second = (cell(table, "sdm_4ch_ed", "LA", which) for which in ("own", "all"))
    assert (first["ours"], first["n_cases"], first["paper"]) == pytest.approx((91, 2, 82.6))
    assert (second["ours"], second["n_cases"]) == pytest.approx((71, 4))
    assert np.isnan(second["paper"])
    assert second["verdict"] == "no number in the paper"


def test_the_interval_weighs_cases_as_the_mean_does():
    # p0: one frame of 100, p1: three of 0. The mean over cases is 25; resampled 0, 25 or 100.
    one = make_cases("real_all", [100], frames=FRAMES[:1])
    three = make_cases("real_all", [0], frames=FRAMES[1:]).assign(
        patient="p1", name=lambda x: x["name"].str.replace("p0", "p1")
    )
    found = cell(ledger(pd.concat([one, three]), rows=PAPER_ROWS), "real_all", "LA")
    assert found["ours"] == pytest.approx(25)
    assert (found["low"], found["high"]) == pytest.approx((0, 100))


def test_what_was_not_run_says_so():
    table = ledger(make_cases("real_all", [90, 80]), rows=PAPER_ROWS)
    missing = table[table["row"] != "real_all"]
    assert (missing["verdict"] == "not run").all()
    numbers = ["ours", "difference", "low", "high", "std_as_paper", "std_patients"]
    assert missing[numbers].isna().all(axis=None)
    assert (missing["n_cases"] == 0).all()
    assert cell(table, "cyclegan_all", "LA")["paper"] == 71.3


def test_rows_of_ours_have_no_number_of_the_paper():
    rows = (*PAPER_ROWS, find_row("sdm_and_real"), find_row("real_05"))
    table = ledger(make_cases("sdm_and_real", [90, 80]), rows=rows)
    assert cell(table, "sdm_and_real", "LA")["verdict"] == "no number in the paper"
    assert cell(table, "sdm_and_real", "LA")["ours"] == pytest.approx(85)
    assert cell(table, "real_05", "LA")["verdict"] == "not run"


def test_seeds_spread():
    both = [make_cases("real_all", [80, 90], seed=0), make_cases("real_all", [84, 94], seed=1)]
    found = cell(ledger(pd.concat(both), rows=PAPER_ROWS), "real_all", "Mean")
    assert (found["ours"], found["n_seeds"]) == pytest.approx((87, 2))
    assert found["seed_std"] == pytest.approx(np.sqrt(8))  # of the seeds' means 85, 89


def test_one_patient_has_no_interval():
    found = cell(ledger(make_cases("real_all", [90]), rows=PAPER_ROWS), "real_all", "LA")
    assert found["verdict"] == "no interval of one patient"
    assert np.isnan(found["low"])


def test_echonet():
    cases = make_cases("real_all", [90, 80])
    without = ledger(cases, rows=PAPER_ROWS)
    line = cell(without, "echonet", "LV endo", "echonet")
    assert (line["paper"], line["paper_std"], line["verdict"]) == (87.83, 7.21, "not run")
    videos = pd.DataFrame({"name": ["a", "b", "c"], "dice": [0.9, 0.88, 0.92]})
    table = ledger(cases, rows=PAPER_ROWS, echonet=videos)
    line = cell(table, "echonet", "LV endo", "echonet")
    assert (line["ours"], line["n_patients"]) == pytest.approx((90, 3))
    assert line["std_as_paper"] == pytest.approx(np.sqrt(8 / 3))
    assert line["verdict"] == "above"
    other = cell(table, "echonet_gilbert", "LV endo", "echonet")
    assert (other["paper"], other["difference"]) == pytest.approx((85.6, 4.4))


def test_rendered():
    text = render_markdown(
        ledger(make_cases("real_all", [80, 90, 100]), rows=PAPER_ROWS), title="L · profile smoke"
    )
    assert text.startswith("**L · profile smoke**\n")
    (line,) = [x for x in text.splitlines() if x.startswith("| All real CAMUS frames | LV endo")][
        :1
    ]
    cells = [x.strip() for x in line.strip("|").split("|")]
    assert cells[2:5] == ["87.8 ± 6.8", "90.0", "+2.2"]
    assert cells[6:10] == ["3 (12)", "8.2", "10.0", "–"]
    assert cells[10] == "inside the interval"
    assert (
        "| SDM 4 Chamber ED | LV epi | 94.0 ± 3.2 | not run | – | – | – | – | – | – | not run |"
        in text
    )
    assert (
        "| All SDM frames, on EchoNet-Dynamic A4C ED | LV endo | 87.83 ± 7.21 | not run |" in text
    )
    assert "85.6 ± 7.0" in text


def test_counts():
    counts = verdict_counts(ledger(make_cases("real_all", [90, 90]), rows=PAPER_ROWS))
    assert counts.loc["own"].to_dict() == {"above": 3, "below": 1, "not run": 24}
    assert counts.loc["echonet", "not run"] == 2
