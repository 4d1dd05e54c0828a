"""Generators as the widely used PyTorch implementation saves them."""

import pytest
import torch

from echo_lib.cyclegan.interop import load_released_generator
from echo_lib.cyclegan.networks import Generator
from echo_lib.cyclegan.translation import load_generator
from echo_lib.seeding import torch_generator

WIDTH, BLOCKS = 4, 3


def released(*, channels=3, second="5"):
    """A state dict written by hand from the layer list: numbers, names, shapes."""
    w, draws = WIDTH, torch_generator("released")
    shapes = {"1": (w, channels, 7), "4": (2 * w, w, 3), "7": (4 * w, 2 * w, 3)}
    for block in range(10, 10 + BLOCKS):
        shapes |= {f"{block}.conv_block.{k}": (4 * w, 4 * w, 3) for k in ("1", second)}
    after = 10 + BLOCKS
    shapes |= {f"{after}": (4 * w, 2 * w, 3), f"{after + 3}": (2 * w, w, 3)}
    shapes |= {f"{after + 7}": (channels, w, 7)}
    weights = {}
    for name, (out, into, kernel) in shapes.items():
        shape = (out, into, kernel, kernel)
        weights[f"model.{name}.weight"] = 0.1 * torch.randn(shape, generator=draws)
        transposed = name in (str(after), str(after + 3))
        weights[f"model.{name}.bias"] = torch.randn(into if transposed else out, generator=draws)
    return weights


def save(tmp_path, weights):
    path = tmp_path / "latest_net_G_A.pth"
    torch.save(weights, path)
    return path


def test_weights_arrive_under_their_names(tmp_path):
    weights = released()
    generator = load_released_generator(save(tmp_path, weights))
    assert (generator.width, generator.residual_blocks, generator.channels) == (WIDTH, BLOCKS, 3)
    state = generator.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def test_statistics_prefix_and_dropout_are_undone(tmp_path):
    plain = load_released_generator(save(tmp_path, released(channels=1)))
    old = {f"module.{name}": w for name, w in released(channels=1, second="6").items()}
    for norm in ("2", "5", "10.conv_block.2", "10.conv_block.7"):
        old[f"module.model.{norm}.running_mean"] = torch.zeros(WIDTH)
        old[f"module.model.{norm}.running_var"] = torch.ones(WIDTH)
        old[f"module.model.{norm}.num_batches_tracked"] = torch.tensor(7)
    again = load_released_generator(save(tmp_path, old)).state_dict()
    assert all(torch.equal(again[name], w) for name, w in plain.state_dict().items())


def test_half_precision_is_read_in_full(tmp_path):
    weights = {name: tensor.half() for name, tensor in released().items()}
    generator = load_generator(save(tmp_path, weights))
    assert {p.dtype for p in generator.parameters()} == {torch.float32}


def test_what_does_not_fit_is_named(tmp_path):
    weights = released()
    del weights["model.4.bias"]
    weights["model.7.weight"] = torch.zeros(4 * WIDTH, WIDTH, 3, 3)
    weights["model.99.weight"] = torch.zeros(1)
    message = (
        r"latest_net_G_A.pth: 3 weights do not fit.*missing model.4.bias; unexpected "
        r"model.99.weight; model.7.weight: \(16, 4, 3, 3\), expected \(16, 8, 3, 3\)"
    )
    with pytest.raises(ValueError, match=message):
        load_released_generator(save(tmp_path, weights))


def test_batch_norm_is_named(tmp_path):
    weights = released() | {"model.2.weight": torch.ones(WIDTH), "model.2.bias": torch.ones(WIDTH)}
    with pytest.raises(ValueError, match="normalised over the batch"):
        load_released_generator(save(tmp_path, weights))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"model.model.0.weight": torch.zeros(4, 3, 4, 4)}, "no convolution 'model.1.weight'"),
        ({"model": {"a": torch.zeros(1)}}, "more than tensors"),
        (Generator(2, 1), "no file of bare tensors"),
    ],
)
def test_other_files_are_refused(tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        load_released_generator(save(tmp_path, weights))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "page.pth"
    path.write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="no file of bare tensors"):
        load_released_generator(path)
