"""Generators saved by the widely used PyTorch implementation of the CycleGAN.

Its files (``latest_net_G_A.pth``) hold the bare state dict of a ResNet generator with instance
norm, whose layer numbers are those of ``cyclegan.networks.Generator``. What differs between its
versions is undone here: running statistics that old files hold and nothing reads, a prefix of
several GPUs, and the dropout layer that moves a block's second convolution from number 5 to 6.
"""

import pickle
import re

import torch

from echo_lib.cyclegan.networks import Generator

_PREFIXES = ("module.", "_orig_mod.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.")
_AFTER_DROPOUT = re.compile(r"(model\.\d+\.conv_block\.)6(\.weight|\.bias)")
_REMEDY = (
    "expected the state dict of a ResNet generator with instance norm, as "
    "pytorch-CycleGAN-and-pix2pix saves it with --netG resnet_9blocks --norm instance"
)


def load_released_generator(path):
    """The generator in a ``.pth`` file, its width, blocks and channels read from the shapes.

    Returns:
        ``Generator`` in float32 on the CPU.

    Raises:
        ValueError: not a file of tensors, or names and shapes that do not fit; names them.
    """
    weights = _clean(_read(path))
    first = weights.get("model.1.weight")
    if first is None or first.ndim != 4:
        raise ValueError(f"{path}: no convolution 'model.1.weight' in it; {_REMEDY}")
    blocks = len({match[1] for match in map(_BLOCK.match, weights) if match})
    with torch.device("meta"):
        network = Generator(first.shape[0], blocks, channels=first.shape[1])
    _require_fit(weights, network.state_dict(), path)
    network.load_state_dict(weights, assign=True)
    return network.float()


def _read(path):
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: no file of bare tensors ({reason}); {_REMEDY}") from error
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise ValueError(f"{path}: holds more than tensors by name; {_REMEDY}")
    return weights


def _clean(weights):
    """Names without prefixes, statistics and the dropout layer's number."""
    cleaned = {}
    for name, tensor in weights.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if not name.endswith(_STATISTICS):
            cleaned[_AFTER_DROPOUT.sub(r"\g<1>5\2", name)] = tensor
    return cleaned


def _require_fit(weights, own, path):
    wrong = [f"missing {name}" for name in own if name not in weights]
    wrong += [f"unexpected {name}" for name in weights if name not in own]
    wrong += [
        f"{name}: {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if not wrong:
        return
    batch_norm = "model.2.weight" in weights
    hint = "it is normalised over the batch, not by instance; " if batch_norm else ""
    raise ValueError(
        f"{path}: {len(wrong)} weights do not fit a ResNet generator ({'; '.join(wrong[:5])}); "
        f"{hint}{_REMEDY}"
    )
