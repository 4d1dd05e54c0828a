"""Released weights (.pt of the semantic diffusion model's own code) as weights of this library.

    python -m echo_lib.sdm.interop convert ema_0.9999_050000_4ch_ed_256.pt released_4CH.safetensors

Parameter names and shapes are those of the release, so nothing is renamed but for the prefixes that
wrappers leave. What does not fit is said in full and nothing is written.
"""

import argparse
import pickle
import zipfile
from pathlib import Path

import torch

from echo_lib.checkpoints import save_weights
from echo_lib.config import as_dict, load_profile
from echo_lib.labels import VIEWS
from echo_lib.provenance import sha256_file, write_text
from echo_lib.sdm.unet import SemanticUNet

_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
_NESTS = ("ema", "ema_state_dict", "state_dict", "model_state_dict", "model")  # averaged ones first
_SHOWN = 5  # names of a kind in a message
CARD = """# {file}

Semantic diffusion model{view}, {parameters:.1f} M parameters, {precision}, converted from
`{source}` without changing a number.

* **Made by** whoever trained the file above, with the released implementation or one like it;
  what it was trained on and its licence are theirs to say and are not in the file.
* **Network.** That of the profile `{profile}`, {channels} image channels, predicting {prediction}
  over {timesteps} {schedule} steps. The whole config is in the file's header.
* **SHA-256 of the source.** `{source_sha}`
* **SHA-256.** `{sha}`
* **Use.** `echo_lib.sdm.sampling.load_denoiser` reads it; label maps are SDM ids 0 to 4.
* **Not for** diagnosis, measurement in patients, or passing off images as real.
"""


def convert(source, target, *, network="paper"):
    """Write released weights as safetensors with a model card beside them.

    Args:
        source: the ``.pt`` file, fp16 or fp32; the precision stays.
        target: ends in ``.safetensors``.
        network: profile (name or ``.yaml``) whose ``sdm.network`` and ``sdm.diffusion`` they have.

    Returns:
        The header of the file written.

    Raises:
        ValueError: not a file of tensors alone, or names and shapes of another network.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: expected a name that ends in .safetensors")
    profile = load_profile(network)
    weights = read_released(source)
    wrong = misfits(weights, profile.sdm.network)
    if wrong:
        raise ValueError(
            f"{source}: not weights of the network in profile {profile.name!r}: "
            f"{'; '.join(wrong)}. Name the profile whose sdm.network they belong to (--network)"
        )
    header = {
        "view": _view(source),
        "profile": profile.name,
        "source": source.name,
        "source_sha256": sha256_file(source),
        "network": as_dict(profile.sdm.network),
        "diffusion": as_dict(profile.sdm.diffusion),
    }
    save_weights(target, weights, metadata=header)
    write_text(target.with_suffix(".md"), _card(target, weights, header))
    return header


def read_released(path):
    """Names to tensors of a released ``.pt``, without the prefixes of wrappers.

    Raises:
        ValueError: the file is missing, cut short, holds anything but tensors, or none.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        what = "not a readable .pt file, perhaps cut short; download it again"
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            what = "holds more than tensors, and opening it could run code; refused"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: {what} ({reason})") from error
    return _tensors(found, path)


def misfits(weights, network):
    """What does not fit the network, a line for each kind; empty where all does.

    Args:
        weights: names to tensors, on any device.
        network: ``SemanticUNetConfig``; the network is built without memory.
    """
    with torch.device("meta"):
        own = SemanticUNet(network).state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [
        f"{len(found)} {kind} ({', '.join(found[:_SHOWN])}{', ...' if found[_SHOWN:] else ''})"
        for kind, found in kinds
        if found
    ]


def _tensors(found, path):
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}, expected names of weights")
    nest = next((name for name in _NESTS if isinstance(found.get(name), dict)), None)
    found = found[nest] if nest else found
    others = [name for name, value in found.items() if not torch.is_tensor(value)]
    if others or not found:
        raise ValueError(
            f"{path}: {len(others)} of {len(found)} entries are not tensors "
            f"({', '.join(map(str, others[:_SHOWN]))}); expected the weights alone"
        )
    return {_bare(name): tensor for name, tensor in found.items()}


def _bare(name):
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _view(source):
    """The view in a released file's name (``..._4ch_ed_256.pt``), or "" where it names none."""
    found = [view for view in VIEWS if view.lower() in source.name.lower()]
    return found[0] if len(found) == 1 else ""


def _card(target, weights, header):
    diffusion = header["diffusion"]
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    return CARD.format(
        file=target.name,
        view=f" of the {header['view']} view" if header["view"] else "",
        parameters=sum(tensor.numel() for tensor in weights.values()) / 1e6,
        precision=" and ".join(kinds),
        source=header["source"],
        profile=header["profile"],
        channels=header["network"]["image_channels"],
        prediction=diffusion["prediction"],
        timesteps=diffusion["timesteps"],
        schedule=diffusion["schedule"],
        source_sha=header["source_sha256"],
        sha=sha256_file(target),
    )


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert", help="write a .pt as safetensors and a card")
    converting.add_argument("source", type=Path, help="released .pt file")
    converting.add_argument("target", type=Path, help="file to write, ends in .safetensors")
    converting.add_argument("--network", default="paper", help="profile that describes the network")
    chosen = parser.parse_args(arguments)
    try:
        header = convert(chosen.source, chosen.target, network=chosen.network)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(f"{chosen.target}: converted, view {header['view'] or 'not named'}; card beside it")


if __name__ == "__main__":
    main()
