import numpy as np
import pandas
import pytest

from echo_lib.evaluation import table as tables
from echo_lib.evaluation.table import render_markdown, render_text, summarise
from echo_lib.labels import STRUCTURES
from echo_lib.rows import PAPER_ROWS, find_row

FOUR_FRAMES = (("2CH", "ED"), ("2CH", "ES"), ("4CH", "ED"), ("4CH", "ES"))


def make_cases(row, values, *, seed=0, frames=FOUR_FRAMES):
    """One patient per tuple of ``values`` (endo, epi, LA in %), on each of the frames."""
    lines = []
    for number, scores in enumerate(values):
        for view, phase in frames:
            case = {"row": row, "seed": seed, "name": f"patient{number:04d}_{view}_{phase}"}
            case |= {"patient": f"patient{number:04d}", "view": view, "phase": phase}
            for structure, score in zip(STRUCTURES, scores, strict=True):
                lines.append({**case, "structure": structure, "dice": score / 100})
    return pandas.DataFrame(lines)


def line(table, row, structure, tested_on="own"):
    chosen = table[(table["row"] == row) & (table["structure"] == structure)]
    (found,) = chosen[chosen["tested_on"] == tested_on].to_dict("records")
    return found


def test_mean_and_std_by_hand():
    cases = make_cases("real_all", [(90, 94, 80), (80, 90, 60)])
    table = summarise(cases)
    endo, mean = line(table, "real_all", "LV endo"), line(table, "real_all", "Mean")
    assert (endo["mean"], endo["std"], endo["n_cases"]) == pytest.approx((85, 5, 8))
    assert endo["difference"] == pytest.approx(85 - 87.8)
    # structure means 85, 92, 70: mean 82.333, deviations 2.667, 9.667, -12.333
    assert mean["mean"] == pytest.approx(82.3333, abs=1e-4)
    assert mean["std"] == pytest.approx(np.sqrt((7.1111 + 93.4444 + 152.1111) / 3), abs=1e-4)
    assert (mean["n_seeds"], np.isnan(mean["seed_std"])) == (1, True)


@pytest.mark.parametrize("row", PAPER_ROWS, ids=lambda row: row.slug)
def test_mean_is_the_papers_own_arithmetic(row):
    structures = [row.paper[structure][0] for structure in STRUCTURES]
    computed = summarise(make_cases(row.slug, [structures]))
    mean = line(computed, row.slug, "Mean")
    # the paper rounds twice, so a last digit may differ
    assert mean["mean"] == pytest.approx(row.paper["Mean"][0], abs=0.11)
    assert mean["std"] == pytest.approx(row.paper["Mean"][1], abs=0.11)


def test_row_one_of_the_paper():
    mean = line(summarise(make_cases("sdm_4ch_ed", [(91.3, 94.0, 82.6)])), "sdm_4ch_ed", "Mean")
    assert f"{mean['mean']:.1f} {mean['std']:.1f}" == "89.3 4.9"


def test_a_row_is_tested_on_its_own_frames_and_on_all():
    own = make_cases("sdm_4ch_ed", [(90, 90, 90)], frames=[("4CH", "ED")])
    other = make_cases("sdm_4ch_ed", [(50, 50, 50)], frames=[("2CH", "ES"), ("4CH", "ES")])
    table = summarise(pandas.concat([own, other]))
    on_own, on_all = (line(table, "sdm_4ch_ed", "LA", which) for which in ("own", "all"))
    assert (on_own["mean"], on_own["n_cases"], on_own["paper_mean"]) == pytest.approx((90, 1, 82.6))
    assert (on_all["mean"], on_all["n_cases"]) == pytest.approx((190 / 3, 3))
    assert np.isnan(on_all["paper_mean"])
    assert np.isnan(on_all["difference"])


def test_seeds_are_averaged_per_case_first():
    first = make_cases("real_all", [(90, 90, 90), (70, 70, 70)], seed=0)
    second = make_cases("real_all", [(70, 70, 70), (86, 86, 86)], seed=1)
    la = line(summarise(pandas.concat([first, second])), "real_all", "LA")
    # cases 80 and 78; seeds 80 and 78
    assert (la["mean"], la["std"], la["n_cases"], la["n_seeds"]) == pytest.approx((79, 1, 8, 2))
    assert la["seed_std"] == pytest.approx(np.sqrt(2))


def test_rows_without_cases_say_so():
    table = summarise(make_cases("real_all", [(90, 90, 90)]))
    assert len(table) == len(PAPER_ROWS) * 2 * 4
    assert set(table.loc[table["status"] == "not run", "row"]) == {
        row.slug for row in PAPER_ROWS
    } - {"real_all"}
    assert (
        table.loc[table["status"] == "not run", ["mean", "std", "difference"]].isna().all(axis=None)
    )
    for text in (render_markdown(table, title="T"), render_text(table, title="T")):
        (cyclegan,) = [line for line in text.splitlines() if "CycleGAN" in line]
        assert "not run" in cyclegan
        assert "– (79.4 ± 9.9)" in cyclegan


def test_a_row_without_cases_of_its_own_view_is_not_run_there():
    cases = make_cases("sdm_4ch_ed", [(90, 90, 90)], frames=[("2CH", "ES")])
    table = summarise(cases)
    assert line(table, "sdm_4ch_ed", "LA")["status"] == "not run"
    assert line(table, "sdm_4ch_ed", "LA", "all")["status"] == "run"


def test_rendered_numbers():
    table = summarise(make_cases("real_all", [(90, 94, 80), (80, 90, 60)]))
    text = render_text(table, title="Table 1 · profile smoke")
    assert text.startswith("Table 1 · profile smoke\n")
    (real,) = [line for line in text.splitlines() if line.startswith("All real CAMUS frames")]
    assert "85.0 ± 5.0 (87.8 ± 6.8)" in real
    markdown = render_markdown(table, title="T", tested_on="all")
    assert "| All real CAMUS frames | 8 | 85.0 ± 5.0 (87.8 ± 6.8) |" in markdown
    with pytest.raises(ValueError, match="tested_on 'both'"):
        render_text(table, title="T", tested_on="both")


def test_cases_without_a_column_are_refused():
    with pytest.raises(ValueError, match="cases lack phase"):
        summarise(make_cases("real_all", [(90, 90, 90)]).drop(columns="phase"))


def test_rows_that_the_paper_lacks():
    rows = (*PAPER_ROWS, find_row("sdm_and_real"))
    table = summarise(make_cases("sdm_and_real", [(90, 94, 80)]), rows=rows)
    assert table["row"].nunique() == 8
    assert np.isnan(line(table, "sdm_and_real", "LA")["paper_mean"])
    (shown,) = [x for x in render_text(table, title="T").splitlines() if x.startswith("SDM + real")]
    assert "80.0 ± 0.0" in shown
    assert "(" not in shown


def test_seeds_are_shown_where_there_are_several():
    first = make_cases("real_all", [(90, 90, 90), (70, 70, 70)], seed=0)
    second = make_cases("real_all", [(70, 70, 70), (86, 86, 86)], seed=1)
    text = render_markdown(summarise(pandas.concat([first, second])), title="T")
    assert "| All real CAMUS frames | 8, 2 seeds | 79.0 ± 1.0, 1.4 (87.8 ± 6.8) |" in text
    assert tables.SEEDS_CAPTION in text
    assert tables.SEEDS_CAPTION not in render_markdown(summarise(first), title="T")


def test_command_line_without_results(tmp_path):
    with pytest.raises(SystemExit, match=r"table\.csv is missing"):
        tables.main([str(tmp_path)])
