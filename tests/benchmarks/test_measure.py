import re
import socket

import pytest
import torch

from benchmarks import measure

CPU = torch.device("cpu")


def test_operations_are_counted_with_a_multiply_add_as_two():
    a, b = torch.empty(3, 5, device="meta"), torch.empty(5, 7, device="meta")
    assert measure.count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    call, operations = measure.matrix_product(CPU, torch.float32, size=16)
    assert measure.count_flops(call) == operations == 2 * 16**3


@pytest.mark.parametrize(("warm", "order"), [(True, "abab"), (False, "ababab")])
def test_calls_take_turns_and_the_fastest_round_counts(monkeypatch, warm, order):
    seconds, called = iter([9.0, 9.0, 2.0, 3.0, 4.0, 1.0][0 if not warm else 2 :]), []

    def seconds_of(call, *, device):
        call()
        return next(seconds)

    monkeypatch.setattr(measure, "seconds_of", seconds_of)
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    found = measure.fastest(calls, device=CPU, rounds=2, warm=warm)
    assert ("".join(called), found) == (order, {"a": 2.0, "b": 1.0})


def test_peak_memory_sees_what_a_call_held_for_a_moment():
    small = measure.peak_memory_bytes(lambda: None, device=CPU)
    if small is None:
        pytest.skip("this system does not tell")
    large = measure.peak_memory_bytes(lambda: torch.ones(64 * 2**20), device=CPU)
    assert large - small == pytest.approx(256 * 2**20, rel=0.1)


def test_table_shows_rows_in_their_formats():
    record = {
        "columns": {"what": ["what", ""], "seconds": ["seconds", ".2f"]},
        "rows": [{"what": "a", "seconds": 1.234}, {"what": "longer", "seconds": None}],
    }
    assert measure.as_table(record) == (
        "| what   | seconds |\n| ------ | ------- |\n| a      | 1.23    |\n| longer | -       |\n"
    )


def test_machine_is_described_without_its_name():
    facts = measure.machine(CPU)
    assert socket.gethostname() not in map(str, facts.values())
    assert facts["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"[a-z0-9-]+-cores", measure.machine_slug(CPU))
