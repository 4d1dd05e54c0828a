"""The segmentation networks that the paper's authors released, in this library's format.

    python -m echo_lib.segmentation.released convert output_all_views/model.pth all.safetensors

``model.pth`` is a PyTorch state dict, saved from a compiled model. It is read without unpickling
objects; what is written can be given to ``echo_lib.segmentation.prediction``.
"""

import argparse
import pickle
from pathlib import Path
from types import SimpleNamespace

import torch

from echo_lib.checkpoints import load_state, save_weights
from echo_lib.segmentation.unet import build_unet

COMPILED = "_orig_mod."  # torch.compile puts it before every name


def convert(source, target):
    """Write the weights of a released ``model.pth`` as safetensors.

    Args:
        source: the ``.pth`` file.
        target: the ``.safetensors`` file.

    Returns:
        What the file held: layers, tensors, parameters, and how many names were from a compiled
        model.

    Raises:
        ValueError: not a state dict, or one that does not fit the paper's U-Net, name by name and
            shape by shape.
    """
    saved = _state_dict(source)
    compiled = sum(name.startswith(COMPILED) for name in saved)
    weights = {name.removeprefix(COMPILED): tensor.float() for name, tensor in saved.items()}
    # MONAI nests every level but the first in the one above.
    layers = 1 + max(name.split(".").count("submodule") for name in weights)
    _require_fit(weights, layers, source)
    metadata = {
        "origin": f"released {Path(source).name}",
        # FIDELITY: tested without normalisation, as the released test script does.
        "variant": "as_released",
        "layers": layers,
        "mean": 0.0,
        "std": 1.0,
    }
    save_weights(target, weights, metadata=metadata)
    return {
        "layers": layers,
        "tensors": len(weights),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "names_of_a_compiled_model": compiled,
    }


def _state_dict(path):
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; expected a released model.pth")
    try:
        saved = load_state(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a file of tensors alone ({error})") from error
    if not isinstance(saved, dict) or not saved:
        raise ValueError(f"{path}: {type(saved).__name__}, expected a state dict")
    other = [name for name, value in saved.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ValueError(
            f"{path}: {len(other)} entries are no tensors ({', '.join(map(str, other[:5]))}); "
            "expected the state dict of a U-Net alone"
        )
    return saved


def _require_fit(weights, layers, path):
    own = build_unet(SimpleNamespace(layers=max(layers, 2))).state_dict()
    wrong = [f"missing {name}" for name in own if name not in weights]
    wrong += [f"unexpected {name}" for name in weights if name not in own]
    wrong += [
        f"{name}: {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(
            f"{path}: {len(wrong)} weights do not fit the paper's U-Net of {layers} layers: "
            f"{'; '.join(wrong)}"
        )


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert", help="a released model.pth to safetensors")
    converting.add_argument("source", type=Path)
    converting.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    for name, value in convert(options.source, options.target).items():
        print(f"{name}: {value}")
    print(f"written: {options.target}")


if __name__ == "__main__":
    main()
