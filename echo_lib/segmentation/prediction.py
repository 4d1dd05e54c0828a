"""Label maps from trained segmentation networks."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from echo_lib.checkpoints import load_into, load_weights
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.labels import remove_sector
from echo_lib.provenance import MANIFEST, require
from echo_lib.rows import ROWS, seeds_of, stage_name
from echo_lib.segmentation.unet import build_unet, require_image_size
from echo_lib.segmentation.variants import VARIANTS


@dataclass(frozen=True)
class Network:
    """A trained network with the normalisation that it was trained under.

    Attributes:
        layers: of the U-Net.
        model: the U-Net, in evaluation mode.
        mean, std: of the training images, on the scale 0 to 1.
        variant: of ``segmentation.variants``; it says whether images are normalised at test.
    """

    layers: int
    model: torch.nn.Module
    mean: float
    std: float
    variant: str = "as_written"

    def inputs(self, images):
        """What the model is given of (B, 1, H, W) uint8 images."""
        grey = images.float() / 255
        if not VARIANTS[self.variant].normalises_at_test:
            return grey
        return normalise(grey, self.mean, self.std)


@dataclass(frozen=True)
class RowPredictions:
    """What ``predict_rows`` found on N real frames.

    Attributes:
        index: one line per frame: name, patient, view, phase, ...
        images: (N, 1, H, W) uint8.
        truths: (N, H, W) uint8 CAMUS ids.
        label_maps: (row slug, seed) to (N, H, W) uint8 CAMUS ids, for every row that was trained.
    """

    index: pd.DataFrame
    images: np.ndarray
    truths: np.ndarray
    label_maps: dict


def load_network(path, *, device="cpu"):
    """Read a ``Network`` from the weights of a segmentation stage.

    Raises:
        ValueError: the file is missing, or its header lacks layers, mean, std or variant.
    """
    _, metadata = load_weights(path)
    missing = [key for key in ("layers", "mean", "std", "variant") if key not in metadata]
    if missing:
        raise ValueError(
            f"{path}: header lacks {', '.join(missing)}; expected weights written by "
            "echo_lib.segmentation.training"
        )
    layers = int(metadata["layers"])
    model = build_unet(SimpleNamespace(layers=layers))
    load_into(model, path)
    model = model.to(device).eval()
    mean, std = float(metadata["mean"]), float(metadata["std"])
    return Network(layers, model, mean, std, metadata["variant"])


def normalise(images, mean, std):
    """Grey values on the scale 0 to 1, to zero mean and unit std of the training set."""
    return (images - mean) / std


@torch.no_grad()
def predict(network, images, *, batch_size=16):
    """Label maps of images.

    Args:
        network: a ``Network``, or the path of its weights.
        images: (N, 1, H, W) uint8 tensor or array.
        batch_size: images per forward pass.

    Returns:
        (N, H, W) uint8 array of CAMUS ids.
    """
    network = network if isinstance(network, Network) else load_network(network)
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(
            f"images of shape {tuple(images.shape)} and {images.dtype}, expected (N, 1, H, W) uint8"
        )
    require_image_size(network, images.shape[-2:])
    device = next(network.model.parameters()).device
    parts = [
        network.model(network.inputs(part.to(device))).argmax(1)
        for part in images.split(batch_size)
    ]
    empty = torch.zeros((0, *images.shape[-2:]), dtype=torch.uint8)
    return torch.cat([empty, *(part.to("cpu", torch.uint8) for part in parts)]).numpy()


@torch.no_grad()
def features(network, images, *, batch_size=16):
    """What the network sees in images: the activations at the bottom of the U, mean over pixels.

    They are taken between the deepest convolution and its norm: an instance norm gives every
    channel of every image one mean.

    Args:
        network: a ``Network``, or the path of its weights.
        images: (N, 1, H, W) uint8 tensor or array.
        batch_size: images per forward pass.

    Returns:
        (N, 2**layers) float32 array.
    """
    network = network if isinstance(network, Network) else load_network(network)
    found = [np.zeros((0, 2**network.layers), np.float32)]
    deepest = _deepest_convolution(network.model)
    hook = deepest.register_forward_hook(
        lambda module, inputs, output: found.append(output.float().mean(dim=(2, 3)).cpu().numpy())
    )
    try:
        predict(network, images, batch_size=batch_size)
    finally:
        hook.remove()
    return np.concatenate(found)


def _deepest_convolution(model):
    """The innermost block's: MONAI nests each level in the skip connection of the one above."""
    block = model.model
    while isinstance(block, torch.nn.Sequential) and hasattr(block[1], "submodule"):
        block = block[1].submodule
    return block.conv


def predict_rows(run, *, rows=ROWS, batch_size=16, device="cpu"):
    """Label maps of every trained row on the real frames of the evaluation split.

    Args:
        run: the run; stage ``prepared`` must be finished.
        rows: the rows wanted; one that was not trained is left out.
        batch_size: images per forward pass.
        device: where to compute.
    """
    require(run, "prepared")
    index = read_index(run.folder, "real")
    index = index[index["split"] == run.profile.data.evaluation_split].reset_index(drop=True)
    if index.empty:
        raise ValueError(
            f"no real frames in split {run.profile.data.evaluation_split!r}; prepare them first"
        )
    pairs = load_pairs(run.folder, index)
    label_maps = {}
    for slug, seed, path in _trained(run, rows):
        network = load_network(path, device=device)
        label_maps[slug, seed] = predict(network, pairs.images, batch_size=batch_size)
    return RowPredictions(
        index, pairs.images.numpy(), remove_sector(pairs.label_maps.numpy()), label_maps
    )


def _trained(run, rows):
    """Slug, seed and weights of every finished segmentation stage, in the order of the table."""
    for row in rows:
        for seed in seeds_of(row, run.profile.segmentation):
            name = stage_name(row.slug, seed)
            if (run.folder / name / MANIFEST).is_file():
                require(run, name)
                yield row.slug, seed, run.folder / name / "weights.safetensors"
