"""What one training of an SDM hands to another: weights to start from, weights to carry on.

A training that ends leaves ``carry.safetensors``: its weights and averaged weights in half
precision, with the step reached. Another that names it as ``sdm.training.initial_weights`` goes on
from that step, its optimiser anew with a warm-up of its own.
"""

import copy
from typing import NamedTuple

import torch

from echo_lib.checkpoints import load_into, load_weights, save_weights
from echo_lib.provenance import PACKAGE

CARRY = "carry.safetensors"
AVERAGED = "ema"  # before the names of the averaged weights


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        averaged: network whose weights begin the average.
        step: steps done before.
        seconds: spent on them.
    """

    averaged: torch.nn.Module
    step: int = 0
    seconds: float = 0.0


def initial_weights(config, view):
    """The file to start from, or None; relative names lie in the repository."""
    if not config.initial_weights:
        return None
    path = PACKAGE.parent / config.initial_weights.format(view=view)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: initial weights not found; set sdm.training.initial_weights to another file, "
            'or to "" to start from scratch'
        )
    return path


def load_start(model, config, view):
    """Load the initial weights, if there are any, into ``model``.

    Args:
        model: ``SemanticUNet``.
        config: ``SDMConfig``.
        view: "2CH" or "4CH".

    Raises:
        ValueError: the weights are of another network or prediction, or carried from another view
            or from a training's last step.
    """
    path = initial_weights(config.training, view)
    if not path:
        return Start(model)
    names, header = load_weights(path)
    _require_same_prediction(header, config.diffusion, path)
    if not any(name.startswith(f"{AVERAGED}.") for name in names):
        load_into(model, path)
        return Start(model)
    _require_same_training(header, config.training, view, path)
    # For a moment the averaged network is a part of the other: one state dict names both.
    averaged = copy.deepcopy(model)
    model.add_module(AVERAGED, averaged)
    load_into(model, path)
    delattr(model, AVERAGED)
    return Start(averaged, header["step"], header["seconds"])


def write_carry(folder, recipe, *, metadata):
    """Write ``carry.safetensors``, four bytes a parameter.

    Args:
        folder: of the training's stage.
        recipe: ``Recipe``.
        metadata: what the weights say of themselves; view, step and seconds are added.
    """
    averaged = {f"{AVERAGED}.{name}": weight for name, weight in recipe.ema_weights().items()}
    tensors = recipe.model.state_dict() | averaged
    reached = {"view": recipe.view, "step": recipe.step, "seconds": round(recipe.seconds, 1)}
    save_weights(folder / CARRY, tensors, metadata=metadata | reached, dtype=torch.float16)


def _require_same_prediction(header, config, path):
    found = header.get("diffusion", {}).get("prediction", config.prediction)
    if found != config.prediction:
        raise ValueError(
            f"{path}: weights that predict {found!r}, but sdm.diffusion.prediction is "
            f"{config.prediction!r}; set it to {found!r} or start from other weights"
        )


def _require_same_training(header, config, view, path):
    if header["view"] != view:
        raise ValueError(
            f"{path}: carried from a training of view {header['view']}, expected {view}; write "
            "{view} into the name in sdm.training.initial_weights"
        )
    if header["step"] >= config.steps:
        raise ValueError(
            f"{path}: carried from step {header['step']}, and sdm.training.steps is "
            f"{config.steps}; raise it to go on"
        )
