import json

import pytest

from benchmarks import cost
from benchmarks.measure import RESULTS
from echo_lib.config import load_profile


@pytest.fixture(scope="module")
def record():
    return cost.cost(load_profile("paper"))


def test_the_papers_network_costs_what_was_counted_elsewhere(record):
    flops = record["flops_per_image"]
    assert flops["uncached"] / 1e12 == pytest.approx(3.42, abs=0.005)
    assert flops["encode"] / flops["uncached"] == pytest.approx(0.345, abs=0.0005)
    assert flops["cached"] + flops["encode"] == flops["uncached"]


def test_hours_by_hand(record):
    rows = {row["what"]: row for row in record["rows"]}
    # 450 frames, 2 phases, 2 views, 5 maps each; 3.421 TFLOP x 1000 steps x 9000 at 395.6 TFLOP/s.
    ancestral = rows["ddpm, 1000 steps, uncached"]
    assert ancestral["images"] == 9000
    assert ancestral["hours_1"] == pytest.approx(3.4211 * 1000 * 9000 / 395.6 / 3600, rel=1e-3)
    assert ancestral["hours_64"] == pytest.approx(ancestral["hours_1"] / 64)
    training = record["rows"][0]
    assert training["images"] == 2 * 50_000 * 96
    # Of 96 images each of 8 GPUs takes 12; of 64, some take 1 and some 2.
    assert training["hours_8"] == pytest.approx(training["hours_1"] / 8)
    assert training["hours_64"] == pytest.approx(training["hours_1"] / 48)


def test_the_page_and_its_record_are_what_the_command_writes(record):
    assert json.loads((RESULTS / "cost.json").read_text(encoding="utf-8")) == record
    assert cost.PAGE.read_text(encoding="utf-8") == cost.page(record)
