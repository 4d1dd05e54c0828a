import pytest
import torch

from echo_lib import precision

CPU = torch.device("cpu")


def product():
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("name", "native", "expected"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_precision_decides_what_a_product_is_computed_in(monkeypatch, name, native, expected):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: native)
    with precision.autocast(CPU, name):
        assert product() == expected


def test_a_cpu_without_the_instructions_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert not precision.has_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert precision.has_bfloat16(CPU)
