import dataclasses

import pandas
import pytest

from echo_lib.config import load_profile
from echo_lib.rows import (
    EXTRA_ROWS,
    INPUT_STAGES,
    PAPER_ROWS,
    ROWS,
    SOURCES,
    config_of,
    find_row,
    is_filtered,
    networks_of,
    rows_of,
    stage_name,
)


def test_seven_rows_of_the_paper_and_ours_with_slugs_of_their_own():
    assert len(PAPER_ROWS) == 7
    assert len({row.slug for row in ROWS}) == len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.in_paper for row in PAPER_ROWS)
    assert not any(row.in_paper for row in EXTRA_ROWS)
    assert {source for row in ROWS for source in row.sources} == set(SOURCES) == set(INPUT_STAGES)


def test_every_fraction_stands_with_and_without_synthetic_pairs():
    swept = {row.slug: (row.real_fraction, row.sources) for row in ROWS if row.real_fraction < 1}
    for percent in (5, 10, 25, 50):
        assert swept.pop(f"real_{percent:02d}") == (percent / 100, ("real",))
        both = swept.pop(f"sdm_and_real_{percent:02d}")
        assert both == (percent / 100, ("synthetic", "real"))
    assert not swept


def test_a_row_starts_from_one_that_comes_before_it():
    places = {row.slug: place for place, row in enumerate(ROWS)}
    later = [row for row in ROWS if row.starts_from]
    assert [row.slug for row in later] == ["sdm_then_real"]
    assert all(places[row.starts_from] < places[row.slug] for row in later)


def test_a_row_selects_its_frames():
    frames = pandas.DataFrame({"view": ["2CH", "2CH", "4CH"], "phase": ["ED", "ES", "ED"]})
    assert find_row("sdm_2ch_es").select(frames).index.tolist() == [1]
    assert find_row("real_all").select(frames).index.tolist() == [0, 1, 2]


def test_a_profile_runs_the_paper_s_rows_and_its_own():
    config = load_profile("paper").segmentation
    some = dataclasses.replace(config, extra_rows=("real_10", "sdm_then_real"))
    assert [row.slug for row in rows_of(some)[7:]] == ["real_10", "sdm_then_real"]
    assert rows_of(dataclasses.replace(config, extra_rows=())) == PAPER_ROWS
    with pytest.raises(ValueError, match="row 'real_1' not found"):
        rows_of(dataclasses.replace(config, extra_rows=("real_1",)))


def test_a_row_has_the_profile_s_config_with_its_own_changes():
    config = load_profile("paper").segmentation
    assert config_of(find_row("sdm_all"), config) == config
    longer = config_of(find_row("sdm_all_longer"), config)
    assert longer == dataclasses.replace(config, epochs=2 * config.epochs)
    shorter = config_of(find_row("sdm_all_shorter"), config)
    assert shorter == dataclasses.replace(config, epochs=config.epochs // 5)
    assert config_of(find_row("sdm_all_shorter"), dataclasses.replace(config, epochs=2)).epochs == 1
    released = config_of(find_row("real_all_as_released"), config)
    assert (released.variant, released.loss) == ("as_released", "cross_entropy")
    filtered = find_row("sdm_all_faithful")
    assert config_of(filtered, config).fidelity_threshold == filtered.fidelity_threshold == 0.8
    assert is_filtered(filtered, config)
    assert not is_filtered(find_row("sdm_all"), config)


def test_the_paper_s_rows_and_the_others_have_seeds_of_their_own():
    config = load_profile("paper").segmentation
    config = dataclasses.replace(
        config, table_seeds=(0, 1), extra_seeds=(2,), extra_rows=("sdm_and_real",)
    )
    networks = networks_of(config)
    assert len(networks) == 2 * len(PAPER_ROWS) + 1
    assert networks[:2] == [("sdm_4ch_ed", 0), ("sdm_4ch_ed", 1)]
    assert networks[-1] == ("sdm_and_real", 2)


def test_unknown_row_names_the_known():
    with pytest.raises(ValueError, match=r"row 'sdm' not found; expected one of .*'sdm_4ch_ed'"):
        find_row("sdm")
    assert stage_name("sdm_all", 2) == "segmentation/sdm_all-2"
