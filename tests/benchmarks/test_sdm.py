"""The benchmark runs at toy size; nothing here depends on how fast the machine is."""

import json

import pytest
import torch

from benchmarks import measure, sdm
from echo_lib.provenance import PACKAGE

TOY = [
    "--profile", "smoke", "--rounds", "1", "--matmul-size", "64", "--no-compile",
    "--precision", "float32", "--most-s", "0", "--batch", "2",
]  # fmt: skip
RESULTS = sorted((PACKAGE.parent / "benchmarks" / "results").glob("sdm_*.json"))


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "toy.json"
    sdm.main([*TOY, "--out", str(path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == measure.as_table(found)
    return found


def test_rows_are_there_and_add_up(record):
    rows = {row["what"]: row for row in record["rows"]}
    assert {"matrix product", "step, uncached", "step, cached", "training step"} <= set(rows)
    assert {"ddpm, 1000 steps", "dpm_solver_pp, 25 steps"} <= set(rows)
    assert rows["matrix product"]["of_matmul"] == 1
    assert rows["step, uncached"]["of_uncached"] == 1
    for row in rows.values():
        assert row["tflops_per_second"] == pytest.approx(row["tflop"] / row["seconds"])
        if row["what"] != "matrix product":
            assert row["images_per_second"] == pytest.approx(2 / row["seconds"])
    uncached, cached = rows["step, uncached"], rows["step, cached"]
    encoded = rows["labels encoded, once a map"]
    assert uncached["tflop"] == pytest.approx(cached["tflop"] + encoded["tflop"])
    assert 2 * uncached["tflop"] < rows["training step"]["tflop"] < 3 * uncached["tflop"]
    ddim = rows["ddim, 50 steps"]
    assert ddim["timed"] == "from its steps"
    assert ddim["seconds"] == pytest.approx(encoded["seconds"] + 50 * cached["seconds"])


def test_record_says_where_it_comes_from(record):
    assert {"commit", "dirty", "versions", "machine", "finished", "device"} <= set(record)
    assert record["profile"] == "smoke"


def test_targets_are_compared_with_what_was_found(record):
    rows = [{"what": "step, cached", "precision": "x", "of_uncached": 0.65, "of_matmul": 0.7}]
    ratio, rate = sdm.targets(rows, torch.device("cpu"))
    assert (ratio["most"], ratio["found"], ratio["met"]) == (0.66, 0.65, True)
    assert (rate["least"], rate["found"], rate["met"]) == (0.75, 0.7, False)


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_tables_kept_are_those_of_their_records(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == measure.as_table(record)
