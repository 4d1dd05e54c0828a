import pandas
import pytest

from echo_lib.rows import ROWS, SOURCES, find_row, stage_name


def test_seven_rows_with_slugs_of_their_own():
    assert len({row.slug for row in ROWS}) == len(ROWS) == 7
    assert {row.source for row in ROWS} == set(SOURCES)


def test_a_row_selects_its_frames():
    frames = pandas.DataFrame({"view": ["2CH", "2CH", "4CH"], "phase": ["ED", "ES", "ED"]})
    assert find_row("sdm_2ch_es").select(frames).index.tolist() == [1]
    assert find_row("real_all").select(frames).index.tolist() == [0, 1, 2]


def test_unknown_row_names_the_known():
    with pytest.raises(ValueError, match=r"row 'sdm' not found; expected one of .*'sdm_4ch_ed'"):
        find_row("sdm")
    assert stage_name("sdm_all", 2) == "segmentation/sdm_all-2"
