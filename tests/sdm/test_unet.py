"""Behaviour of the network that no reference number shows."""

import dataclasses

import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.data.datasets import one_hot
from echo_lib.sdm.recipe import build_network


def network(**changes):
    config = load_profile("smoke").sdm.network
    model = build_network(dataclasses.replace(config, **changes), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # wake the zero-initialised layers
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def inputs(batch=2, size=32, channels=1):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, channels, size, size, generator=generator)
    labels = torch.randint(0, 5, (batch, size, size), generator=generator)
    return x, torch.tensor([5, 900])[:batch], one_hot(labels, 5)


@pytest.mark.parametrize(
    ("changes", "channels_out"),
    [({}, 1), ({"learned_variance": True}, 2), ({"image_channels": 3, "patch_size": 1}, 3)],
)
def test_output_shape(changes, channels_out):
    x, t, onehot = inputs(channels=changes.get("image_channels", 1))
    assert network(**changes)(x, t, onehot).shape == (2, channels_out, 32, 32)


def test_same_input_same_output_and_the_label_map_decides():
    model = network()
    x, t, onehot = inputs()
    assert torch.equal(model(x, t, onehot), model(x, t, onehot))
    assert (model(x, t, onehot) - model(x, t, onehot.flip(-1))).abs().max() > 1e-3


def test_image_size_must_fit():
    x, t, onehot = inputs(size=36)
    with pytest.raises(ValueError, match=r"36.*multiples of 8"):
        network()(x, t, onehot)


def test_initial_weights_follow_from_the_seed_and_leave_global_state_alone():
    config = load_profile("smoke").sdm.network
    before = torch.random.get_rng_state()
    first, second, other = (build_network(config, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_dropout_is_refused():
    config = dataclasses.replace(load_profile("smoke").sdm.network, dropout=0.1)
    with pytest.raises(ValueError, match=r"dropout 0\.1"):
        build_network(config, seed=0)


def test_a_budget_decides_how_many_modulations_are_kept_and_no_output_changes():
    model = network()
    x, t, onehot = inputs()
    sizes = [2 * 4 * s.channels * (8 // s.factor) ** 2 * len(x) for s in model.spades]
    expected, kept_before = model(x, t, onehot), set()
    for budget in (0, min(sizes), sum(sizes) // 2, sum(sizes) - 1, sum(sizes), None):
        condition = model.encode_labels(onehot, budget_bytes=budget)
        kept = {i for i, pair in enumerate(condition.modulations) if pair is not None}
        held = [x for pair in condition.modulations if pair is not None for x in pair]
        held_bytes = sum(x.numel() * x.element_size() for x in held)
        assert (
            held_bytes == sum(sizes[i] for i in kept) <= (sum(sizes) if budget is None else budget)
        )
        assert len(kept) >= len(kept_before)
        torch.testing.assert_close(model(x, t, condition), expected, atol=1e-5, rtol=0)
        kept_before = kept
    assert kept == set(range(len(sizes)))


def test_modulations_are_kept_in_the_precision_they_are_computed_in():
    model = network()
    x, t, onehot = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        condition = model.encode_labels(onehot)
        sizes = [spade.modulation_bytes(condition.labels) for spade in model.spades]
        direct = model(x, t, onehot)
        torch.testing.assert_close(model(x, t, condition), direct, atol=1e-5, rtol=0)
    for size, pair in zip(sizes, condition.modulations, strict=True):
        assert [half.dtype for half in pair] == [torch.bfloat16] * 2
        assert sum(half.numel() * 2 for half in pair) == size


def saved_bytes_and_gradients(model, arguments):
    held = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: held.append(x.nbytes) or x, lambda x: x
    ):
        loss = model(*arguments).square().mean()
    loss.backward()
    return sum(held), [parameter.grad.clone() for parameter in model.parameters()]


def test_recomputed_activations_give_the_same_gradients_from_less_memory():
    plain, recomputing = (network().requires_grad_(True).train() for _ in range(2))
    recomputing.checkpoint_activations = True
    held, gradients = saved_bytes_and_gradients(plain, inputs())
    less, same = saved_bytes_and_gradients(recomputing, inputs())
    assert less < held / 2
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))


def test_channels_last_reaches_every_convolution_behind_the_stem():
    model, copied = network().to(memory_format=torch.channels_last), []
    x, t, onehot = inputs()
    condition = model.encode_labels(onehot)

    def note(module, arguments, output):
        if not arguments[0].is_contiguous(memory_format=torch.channels_last):
            copied.append(module)

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    model(x, t, condition)
    assert copied in ([], [model.input_blocks[0][0]])
