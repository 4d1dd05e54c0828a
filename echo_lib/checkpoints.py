"""Atomic files of weights and of training state.

Weights that leave a run are safetensors. A training state (weights, EMA, optimiser, step) is a
``torch.save`` of plain tensors and numbers, read back with ``weights_only=True``. Random state is
not stored: every step draws from a generator named by its number (``echo_lib.seeding``).
"""

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from echo_lib.provenance import atomic_path


def save_weights(path, state_dict, *, metadata=None, dtype=None):
    """Write a state dict as safetensors.

    Args:
        path: ends in ``.safetensors``.
        state_dict: names to tensors.
        metadata: JSON-able facts, kept in the file's header.
        dtype: cast floating-point tensors to this type.
    """
    tensors = {}
    for name, tensor in state_dict.items():
        cast = tensor.is_floating_point() and dtype is not None
        tensors[name] = (
            tensor.detach().to("cpu", dtype if cast else tensor.dtype).contiguous().clone()
        )
    # One key: safetensors writes several in an order of its own, and equal files must be equal.
    header = json.dumps(metadata or {}, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"echo_lib": header})


def load_weights(path, *, device="cpu"):
    """Names to tensors, and the header's metadata.

    Raises:
        ValueError: the file is missing or not safetensors.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("echo_lib", "{}"))
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path}: no readable safetensors file ({error})") from error


def load_into(model, path):
    """Load weights into ``model``; every name and shape must fit.

    Raises:
        ValueError: names what is missing, left over or of another shape.
    """
    weights, metadata = load_weights(path)
    own = model.state_dict()
    wrong = [f"missing {name}" for name in own if name not in weights]
    wrong += [f"unexpected {name}" for name in weights if name not in own]
    wrong += [
        f"{name}: {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if wrong:
        raise ValueError(
            f"{path}: {len(wrong)} weights do not fit this network ({'; '.join(wrong[:5])}); "
            "was it saved with another network config?"
        )
    model.load_state_dict(weights)
    return metadata


def save_state(path, state):
    """Write a training state (nested dicts of tensors and numbers) atomically."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path, *, device="cpu"):
    """Read a training state without unpickling objects."""
    return torch.load(path, map_location=device, weights_only=True)
