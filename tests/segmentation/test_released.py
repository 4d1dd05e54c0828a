from types import SimpleNamespace

import numpy as np
import pytest
import torch

from echo_lib.checkpoints import load_weights
from echo_lib.segmentation import released
from echo_lib.segmentation.prediction import load_network, predict
from echo_lib.segmentation.unet import build_unet


@pytest.fixture
def model():
    return build_unet(SimpleNamespace(layers=8), generator=torch.Generator().manual_seed(3)).eval()


def saved(tmp_path, state, prefix="_orig_mod."):
    path = tmp_path / "model.pth"
    torch.save({prefix + name: tensor for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["_orig_mod.", ""])
def test_released_weights_load_and_are_tested_without_normalisation(model, tmp_path, prefix):
    source, target = saved(tmp_path, model.state_dict(), prefix), tmp_path / "w.safetensors"
    report = released.convert(source, target)
    assert report == {
        "layers": 8,
        "tensors": 30,
        "parameters": 664_282,
        "names_of_a_compiled_model": 30 if prefix else 0,
    }
    images = torch.randint(0, 256, (2, 1, 256, 256), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    with torch.no_grad():
        expected = model(images.float() / 255).argmax(1).numpy()
    np.testing.assert_array_equal(predict(load_network(target), images), expected)
    assert load_weights(target)[1]["origin"] == "released model.pth"


def test_a_really_compiled_model_has_that_prefix(model):
    assert set(torch.compile(model).state_dict()) == {
        released.COMPILED + name for name in model.state_dict()
    }


def test_every_name_that_does_not_fit_is_reported_and_nothing_written(model, tmp_path):
    state = model.state_dict()
    state["model.3.conv.bias"] = state.pop("model.2.conv.bias")
    state["model.0.conv.weight"] = state["model.0.conv.weight"][:1]
    with pytest.raises(ValueError, match=r"3 weights do not fit .* 8 layers") as raised:
        released.convert(saved(tmp_path, state), tmp_path / "w.safetensors")
    for part in (
        "missing model.2.conv.bias",
        "unexpected model.3.conv.bias",
        "model.0.conv.weight: (1, 1, 3, 3), expected (2, 1, 3, 3)",
    ):
        assert part in str(raised.value)
    assert not (tmp_path / "w.safetensors").exists()


class Harmful:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "model": {}}, "2 entries are no tensors"),
        ([1, 2], "list, expected a state dict"),
        (Harmful(), "not a file of tensors alone"),
    ],
)
def test_other_files_are_refused_and_never_unpickled(content, message, tmp_path, capsys):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        released.convert(path, tmp_path / "w.safetensors")
    assert "unpickled" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="no such file"):
        released.convert(tmp_path / "none.pth", tmp_path / "w.safetensors")


def test_command_line(model, tmp_path, capsys):
    target = tmp_path / "w.safetensors"
    released.main(["convert", str(saved(tmp_path, model.state_dict())), str(target)])
    assert "parameters: 664282" in capsys.readouterr().out
    assert target.is_file()
