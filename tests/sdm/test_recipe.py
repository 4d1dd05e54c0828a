"""One step of training: micro-batches, compilation."""

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from echo_lib.sdm.denoiser import CompiledStep
from echo_lib.sdm.recipe import Recipe, micro_batches

# As few layers as there can be: each has to be compiled.
SMALL = {"sdm__network__multipliers": [1], "sdm__network__attention_downsampling": []}


@pytest.fixture(scope="module")
def compiler():
    """Skips where torch.compile does not work, for want of a C++ compiler most often."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(3))
    except TorchDynamoException as error:
        pytest.skip(f"torch.compile does not work here: {str(error).strip().splitlines()[0]}")


@pytest.mark.parametrize(
    ("share", "most", "sizes"),
    [
        (range(32), 32, [32]),
        (range(11, 21), 12, [10]),
        (range(13), 12, [6, 7]),
        (range(10), 4, [3, 3, 4]),
        (range(4), 2, [2, 2]),
        (range(5, 5), 4, []),
    ],
)
def test_micro_batches_are_few_and_even(share, most, sizes):
    parts = micro_batches(share, most)
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == list(share)


def steps(new_run, root, count=2, **changes):
    """Losses (count, 3) of the first steps, and the recipe after them."""
    recipe = Recipe.begin(new_run(root, **changes), "4CH", root)
    return torch.stack([recipe.update()[:3] for _ in range(count)]), recipe


def test_no_result_depends_on_the_micro_batches(new_run, tmp_path):
    sizes = (1, 3, 4)
    found = [
        steps(new_run, tmp_path / str(size), 5, sdm__training__micro_batch_size=size)
        for size in sizes
    ]
    for losses, recipe in found[1:]:
        torch.testing.assert_close(losses, found[0][0], atol=1e-5, rtol=0)
        for weight, expected in zip(recipe.ema, found[0][1].ema, strict=True):
            torch.testing.assert_close(weight, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recomputed", [False, True])
def test_compiled_training_equals_plain(compiler, new_run, tmp_path, capsys, recomputed):
    options = SMALL | {"sdm__training__checkpoint_activations": recomputed}
    plain, _ = steps(new_run, tmp_path / "a", **options)
    compiled, recipe = steps(new_run, tmp_path / "b", **options, sdm__training__compile=True)
    torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=0)
    assert recipe.compiled.call is not recipe.model
    assert "torch.compile failed" not in capsys.readouterr().out
    assert not [name for name in recipe.state()["model"] if "_orig_mod" in name]
    assert not [name for name in recipe.ema_weights() if "_orig_mod" in name]


def test_a_compiled_sampling_step_equals_the_plain_one(compiler, new_run, tmp_path):
    model = Recipe.begin(new_run(tmp_path, **SMALL), "4CH", tmp_path).model
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 1, 16, 16, generator=generator), torch.tensor([10, 900])
    onehot = torch.nn.functional.one_hot(torch.arange(256).view(16, 16) % 5, 5).float()
    onehot = onehot.permute(2, 0, 1).expand(2, -1, -1, -1)
    step = CompiledStep(model)
    with torch.inference_mode():
        condition = model.encode_labels(onehot)
        expected = model(x, t, condition)
        found = step(x, t, condition)
    assert step.call is not model
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


class FailsBackward(torch.autograd.Function):
    """Stands for a backward pass that does not compile."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise TorchDynamoException("no compiler here\nmore")


def fails_backward(model):
    return lambda *inputs: FailsBackward.apply(model(*inputs))


def fails_forward(model):
    def call(*inputs):
        raise TorchDynamoException("no compiler here\nmore")

    return call


@pytest.mark.parametrize("broken", [fails_forward, fails_backward])
def test_training_goes_on_where_compilation_fails(new_run, tmp_path, monkeypatch, capsys, broken):
    plain, expected = steps(new_run, tmp_path / "a")
    monkeypatch.setattr(torch, "compile", broken)
    found, recipe = steps(new_run, tmp_path / "b", sdm__training__compile=True)
    assert torch.equal(found, plain)
    assert all(torch.equal(*pair) for pair in zip(recipe.ema, expected.ema, strict=True))
    told = "torch.compile failed (no compiler here); going on uncompiled"
    assert capsys.readouterr().out.count(told) == 1
