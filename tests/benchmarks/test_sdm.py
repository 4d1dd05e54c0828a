"""The benchmark runs at toy size; nothing here depends on how fast the machine is."""

import json

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from benchmarks import measure, sdm, sdm_groups
from benchmarks.sdm_bench import GIB, Bench
from echo_lib.config import load_profile
from echo_lib.provenance import PACKAGE

TOY = [
    "--profile", "smoke", "--rounds", "1", "--matmul-size", "64", "--precision", "float32",
    "--most-s", "0", "--batch", "2",
]  # fmt: skip
PLAIN = ["--groups", "steps", "samplers", "training"]
RESULTS = sorted((PACKAGE.parent / "benchmarks" / "results").glob("sdm_*.json"))


def made(path, *options):
    """The record after a command that writes to ``path``."""
    sdm.main([*TOY, "--out", str(path), *options])
    return json.loads(path.read_text(encoding="utf-8"))


def toy():
    return Bench(load_profile("smoke"), torch.device("cpu"), 2, 1, 64)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "toy.json"
    found = made(path, *PLAIN)
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


def test_rows_are_added_to_those_of_an_earlier_command(tmp_path, record):
    path = tmp_path / "toy.json"
    steps = made(path, "--groups", "steps")["rows"]
    assert [row["what"] for row in steps] == [
        "matrix product", "step, uncached", "step, cached", "labels encoded, once a map"
    ]  # fmt: skip
    both = made(path, "--add", *PLAIN)["rows"]
    assert [row["what"] for row in both] == [row["what"] for row in record["rows"]]
    assert both[:4] == steps  # to the digit: they were not run again
    assert made(path, "--add", *PLAIN)["rows"] == both
    with pytest.raises(ValueError, match=r"toy\.json: batch 2, expected 1; .* another --out"):
        made(path, "--add", "--batch", "1")
    assert made(path, "--groups", "steps")["rows"] != steps


def test_what_does_not_fit_is_not_run_and_comes_later(tmp_path):
    path = tmp_path / "toy.json"
    short = ["--groups", "steps", "training", "--memory-gib", "0.5"]
    skipped = made(path, *short)["rows"]
    assert [row["what"] for row in skipped] == ["step, cached", "training step"]
    for row in skipped:
        assert row["seconds"] is None
        assert row["timed"] == "not run: needs 1.0 GiB, 0.5 free"
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    assert table.count("not run: needs 1.0 GiB, 0.5 free") == 2
    later = made(path, "--add", "--groups", "steps", "training")["rows"]
    assert all(row["timed"] == "yes" for row in later)
    assert later[-1]["what"] == "training step"


def test_samplers_without_a_timed_step_say_so(tmp_path):
    (row,) = made(tmp_path / "toy.json", "--groups", "samplers")["rows"]
    assert row["timed"] == "not run: no step was timed"


def test_a_timed_sampler_has_its_peak_memory(monkeypatch):
    bench = toy()
    for what, seconds in (("step, cached", 0.01), ("labels encoded, once a map", 0.02)):
        bench.add(what, "float32", seconds=seconds, flops=1e6, rate=1e9)
    bench.most_s = 3600.0
    monkeypatch.setattr(sdm_groups, "SAMPLERS", (("ddim", 2), ("ddpm", 10**6)))
    sdm_groups.time_samplers(bench, "float32")
    timed, added = bench.rows[2:]
    assert (timed["what"], timed["timed"]) == ("ddim, 2 steps", "yes")
    assert timed["seconds"] != pytest.approx(0.04)
    if measure.peak_memory_bytes(lambda: None, device=bench.device):
        assert timed["peak_gib"] > 0.1  # the process, its libraries included
    assert (added["timed"], added["peak_gib"]) == ("from its steps", None)
    assert added["seconds"] == pytest.approx(0.02 + 10**4)


def test_ratio_to_the_uncached_step_counts_in_matrix_products():
    bench = toy()
    bench.add("step, uncached", "float32", seconds=4.0, flops=8e9, rate=4e9)
    # Half the machine: as many seconds for half the operations are then as fast.
    bench.add("step, cached, compiled", "float32", seconds=4.0, flops=4e9, rate=2e9)
    assert [row["of_matmul"] for row in bench.rows] == [0.5, 0.5]
    assert [row["of_uncached"] for row in bench.rows] == [1.0, 0.5]


@pytest.mark.parametrize("group", ["compiled", "compiled_training"])
def test_compiled_rows_and_what_happens_without_a_compiler(monkeypatch, group):
    _, _, timing = sdm_groups.GROUPS[group]
    monkeypatch.setattr(torch, "compile", lambda model: lambda *inputs: model(*inputs))
    bench = toy()
    timing(bench, "float32")
    monkeypatch.setattr(torch, "compile", broken)
    timing(bench, "float32")
    timed, missing = bench.rows
    assert timed["what"] == missing["what"] == sdm_groups.GROUPS[group][0]
    assert timed["timed"].startswith("yes; the first took")
    assert missing["timed"] == "not run: torch.compile failed"


def broken(model):
    def call(*inputs):
        raise TorchDynamoException("no compiler here")

    return call


def test_memory_is_known_before_a_step_of_the_papers_network():
    paper = [path for path in RESULTS if path.stem.startswith("sdm_paper")]
    record = json.loads(paper[0].read_text(encoding="utf-8"))
    bench = Bench(load_profile("paper"), torch.device("cpu"), 1, 1, 64)
    most = sdm_groups.needed_to_sample(bench, "float32") / GIB
    found = max(row["peak_gib"] or 0 for row in record["rows"] if "compiled" not in row["what"]
                and "training" not in row["what"])  # fmt: skip
    assert most < found < sdm.MARGIN * most + sdm.PROCESS_BYTES / GIB


def test_training_holds_weights_gradients_moments_and_average():
    bench = toy()
    parameters = sum(weight.nbytes for weight in bench.network().parameters())
    needed = sdm_groups.needed_to_train(bench, "float32")
    assert 5 * parameters < needed < 5 * parameters + 30e6
    assert sdm_groups.needed_to_sample(bench, "float32") < needed


def test_targets_are_compared_with_what_was_found(record):
    rows = [{"what": "step, cached", "precision": "x", "of_uncached": 0.65, "of_matmul": 0.7}]
    ratio, rate = sdm.targets(rows, torch.device("cpu"))
    assert (ratio["most"], ratio["found"], ratio["met"]) == (0.66, 0.65, True)
    assert (rate["least"], rate["found"], rate["met"]) == (0.75, 0.7, False)


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_tables_kept_are_those_of_their_records(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == measure.as_table(record)
