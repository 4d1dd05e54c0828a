"""Seeds are pinned: a change of any of them would change every result of the project."""

import numpy as np
import pytest

from echo_lib.seeding import numpy_generator, seed_for, torch_generator


@pytest.mark.parametrize(
    ("parts", "seed"),
    [
        (("phantom", 0, "patient0001"), 8326706984992219959),
        (("sample", 0, "patient0001_4CH_ED_2"), 2498756825810087951),
        (("a", 1), 2125957440892058690),
        (("a", "1"), 4568109177221406456),
    ],
)
def test_seed_is_pinned(parts, seed):
    assert seed_for(*parts) == seed


def test_draws_are_pinned():
    draws = numpy_generator("phantom", 0, "patient0001").integers(0, 1000, 4)
    assert draws.tolist() == [978, 835, 815, 702]


def test_distinct_parts_have_distinct_seeds():
    parts = [(s, i) for s in ("a", "b", "ab") for i in range(1000)]
    parts += [("a", "b"), ("ab",), ("a", "b", ""), ("", "a", "b"), ("a", "1"), (1, "a"), ()]
    seeds = [seed_for(*part) for part in parts]
    assert len(set(seeds)) == len(seeds) == 3007
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("part", [1.0, None, True, b"a", ("a",)])
def test_other_types_are_refused(part):
    with pytest.raises(TypeError, match="seed_for takes strings and integers"):
        seed_for("a", part)


def test_generators_are_the_item_s_own_and_leave_global_state_alone():
    import torch

    before, torch_before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    first = torch.randn(5, generator=torch_generator("x", 0))
    torch.randn(7, generator=torch_generator("y", 0))
    assert torch.equal(first, torch.randn(5, generator=torch_generator("x", 0)))
    assert not torch.equal(first, torch.randn(5, generator=torch_generator("x", 1)))
    numpy_generator("x").normal()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_before, torch.random.get_rng_state())
