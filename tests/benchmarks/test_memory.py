"""Memory counted on tensors without data."""

import torch

from benchmarks import memory
from echo_lib.precision import autocast

CPU, MIB = torch.device("cpu"), 2**20


def test_the_most_alive_at_once_is_counted_by_hand():
    def work():
        a = torch.zeros(MIB)  # 4 MiB
        b = a + 1  # 8
        view = b.view(2, -1)
        del a, b  # 4, by the view
        c = torch.zeros(3 * MIB, dtype=torch.uint8)  # 7
        del view  # 3
        return c + 1  # 6

    assert memory.needed_bytes(work) == 8 * MIB


def test_gradients_count():
    def work():
        torch.zeros(MIB, requires_grad=True).sum().backward()

    # 4 MiB and a gradient of 4, beside a few single numbers.
    assert 8 * MIB <= memory.needed_bytes(work) < 8 * MIB + 64


def test_nothing_is_computed():
    assert memory.needed_bytes(lambda: torch.zeros(2**40) + 1) == 2 * 2**42  # 8 TiB


def test_half_precision_is_seen():
    def work():
        with torch.no_grad(), autocast(CPU, "bfloat16"):
            return torch.zeros(MIB, 1) @ torch.zeros(1, 1)

    # 4 MiB in float32, cast to 2, and a product of 2, beside a few single numbers.
    assert 8 * MIB <= memory.needed_bytes(work) < 8 * MIB + 64


def test_free_memory_is_a_part_of_what_there_is(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "_INFORMATION", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.free_bytes(CPU) == 5000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.free_bytes(CPU) == 5000 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    assert memory.free_bytes(CPU) == 2000
    monkeypatch.setattr(memory, "_INFORMATION", tmp_path / "missing")
    assert memory.free_bytes(CPU) is None
