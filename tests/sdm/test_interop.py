"""Released weights: what is read, what is refused, and that the converted ones compute the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from echo_lib.checkpoints import load_weights
from echo_lib.config import as_yaml, load_profile
from echo_lib.data.datasets import one_hot
from echo_lib.sdm import interop
from echo_lib.sdm.sampling import load_denoiser

DATA = Path(__file__).parents[1] / "data"
TINY = {
    "sdm.network.width": 32, "sdm.network.multipliers": [1, 2], "sdm.network.residual_blocks": 1,
    "sdm.network.attention_downsampling": [2], "sdm.network.head_width": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "sdm_tiny_reference.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def released(reference):
    """The tiny network's weights under the released names, float16 as released."""
    return {k.removeprefix("weights/"): v for k, v in reference.items() if k.startswith("weights/")}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(as_yaml(load_profile("paper", TINY)), encoding="utf-8")
    return str(path)


def saved(tmp_path, weights, name="ema_0.9999_050000_4ch_ed_32.pt"):
    torch.save(weights, tmp_path / name)
    return tmp_path / name


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


def test_converted_weights_compute_the_reference_numbers(tmp_path, released, reference, tiny):
    target = tmp_path / "released_4CH.safetensors"
    header = interop.convert(saved(tmp_path, released), target, network=tiny)
    assert (header["view"], header["network"]["learned_variance"]) == ("4CH", True)
    denoiser = load_denoiser(target)
    assert denoiser.process.prediction == "epsilon"
    onehot = one_hot(reference["label"], 5)
    found = denoiser.model(reference["q_sample"], reference["t"], onehot)
    torch.testing.assert_close(found, reference["model_output"], atol=1e-4, rtol=0)
    card = target.with_suffix(".md").read_text(encoding="utf-8")
    assert "of the 4CH view" in card
    assert "float16" in card
    assert header["source_sha256"] in card


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", [None, "state_dict", "ema"])
def test_prefixes_nests_and_precisions_are_read(tmp_path, released, tiny, prefix, nest):
    weights = prefixed({name: tensor.float() for name, tensor in released.items()}, prefix)
    source = saved(tmp_path, {nest: weights, "step": 50000} if nest else weights)
    interop.convert(source, tmp_path / "w.safetensors", network=tiny)
    found, _ = load_weights(tmp_path / "w.safetensors")
    assert found.keys() == released.keys()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in released.items())


def test_of_a_file_with_both_the_averaged_weights_are_taken(tmp_path, released):
    other = {name: tensor + 1 for name, tensor in released.items()}
    found = interop.read_released(saved(tmp_path, {"model": other, "ema": released}))
    assert all(torch.equal(found[name], tensor) for name, tensor in released.items())


def paper_weights():
    shapes = json.loads((DATA / "sdm_256_state_dict.json").read_text(encoding="utf-8"))
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_released_names_and_shapes_fit_the_network_of_the_paper():
    weights = paper_weights()
    assert sum(tensor.numel() for tensor in weights.values()) == 652_198_918
    assert interop.misfits(weights, load_profile("paper").sdm.network) == []


def test_misfits_are_counted_and_named():
    weights, network = paper_weights(), load_profile("paper").sdm.network
    del weights["out.2.weight"], weights["out.2.bias"]
    weights["out.9.weight"] = torch.empty(1, device="meta")
    weights["time_embed.0.bias"] = torch.empty(512, device="meta")
    assert interop.misfits(weights, network) == [
        "2 missing (out.2.weight, out.2.bias)",
        "1 unexpected (out.9.weight)",
        "1 of another shape (time_embed.0.bias (512,), expected (1024,))",
    ]


def test_weights_of_another_size_are_refused_and_nothing_is_written(tmp_path, released):
    target = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match=r"profile 'paper': \d+ missing .*of another shape.*--net"):
        interop.convert(saved(tmp_path, released), target)
    assert not target.exists()


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": Harmful()}, "could run code; refused"),
        ([torch.zeros(1)], "holds a list"),
        ({"w": torch.zeros(1), "epoch": 3}, r"1 of 2 entries are not tensors \(epoch\)"),
        ({}, "0 of 0 entries"),
    ],
)
def test_anything_but_tensors_is_refused(tmp_path, capsys, content, message):
    with pytest.raises(ValueError, match=message):
        interop.read_released(saved(tmp_path, content))
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0, 10, 1000, -100])
def test_files_cut_short_are_refused(tmp_path, released, kept):
    source = saved(tmp_path, released)
    source.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"ema_0\.9999.*cut short"):
        interop.read_released(source)


def test_command_line_converts(tmp_path, released, tiny, capsys):
    target = tmp_path / "w.safetensors"
    interop.main(["convert", str(saved(tmp_path, released)), str(target), "--network", tiny])
    assert f"{target}: converted, view 4CH" in capsys.readouterr().out
    assert set(load_weights(target)[0]) == set(released)
    assert target.with_suffix(".md").is_file()


def test_command_line_says_what_is_wrong_without_a_traceback(tmp_path, capsys):
    arguments = ["convert", str(tmp_path / "none.pt"), str(tmp_path / "w.safetensors")]
    with pytest.raises(SystemExit, match="1"):
        interop.main(arguments)
    assert "none.pt: no such file" in capsys.readouterr().err
