"""A trained SDM, and images drawn with it.

An image's noise comes from a generator of its own. Another batch size changes rounding alone: by
one grey level in float32, a few in bfloat16.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch._dynamo.exc import TorchDynamoException

from echo_lib.checkpoints import load_into, load_weights
from echo_lib.config import DiffusionConfig, SemanticUNetConfig
from echo_lib.data.datasets import one_hot
from echo_lib.precision import autocast
from echo_lib.provenance import PACKAGE, atomic_path
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.samplers import SAMPLERS, guided
from echo_lib.sdm.unet import SemanticUNet

GIB = 2**30
# Where a network has learned no variance, ancestral steps draw between the two that are known.
FRACTION = 0.5


class CompiledStep:
    """A network's forward pass by ``torch.compile``; where that fails it says so and goes on.

    The network itself stays as it is, the names of its weights included.
    """

    def __init__(self, model):
        self.model, self.call = model, torch.compile(model)

    def __call__(self, x_t, t, condition):
        return self.attempt(lambda: self.call(x_t, t, condition))

    def attempt(self, work):
        """The result of ``work``, which may run the network; done again if compilation fails.

        A backward pass is compiled when it first runs, so whoever needs one puts it into ``work``.
        """
        try:
            return work()
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            print(f"torch.compile failed ({reason}); going on uncompiled", flush=True)
            self.call = self.model
            return work()


class Denoiser(NamedTuple):
    """A trained network and the process it was trained for.

    Attributes:
        metadata: the header of the weights file.
        compiled: the network's forward pass, compiled; None runs it as it is.
    """

    model: SemanticUNet
    process: GaussianDiffusion
    metadata: dict
    compiled: CompiledStep | None = None

    @property
    def device(self):
        return next(self.model.parameters()).device


def load_denoiser(path, *, device="cpu", compiled=False):
    """The SDM in a weights file; the file's own header says which network it is.

    Args:
        path: safetensors.
        device: where it will run.
        compiled: compile the forward pass on first use; worth its start where images are many.

    Raises:
        ValueError: not safetensors, or a header without the network's config.
    """
    _, metadata = load_weights(path)
    if "network" not in metadata or "diffusion" not in metadata:
        raise ValueError(f"{path}: no network config in the header; expected weights of an SDM")
    network = {k: tuple(v) if isinstance(v, list) else v for k, v in metadata["network"].items()}
    model = SemanticUNet(SemanticUNetConfig(**network))
    load_into(model, path)
    process = GaussianDiffusion.from_config(DiffusionConfig(**metadata["diffusion"]))
    model = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return Denoiser(model, process, metadata, CompiledStep(model) if compiled else None)


def shipped_weights(view):
    """The shipped SDM of a view: trained on CAMUS where that is there, else on phantoms."""
    folder = PACKAGE.parent / "weights"
    camus = folder / f"camus_{view}.safetensors"
    return camus if camus.is_file() else folder / f"phantom_{view}.safetensors"


@torch.inference_mode()
def sample(denoiser, label_maps, config, *, generators):
    """Images of label maps.

    Args:
        denoiser: ``Denoiser``.
        label_maps: (B, H, W) integer SDM ids.
        config: ``SamplingConfig``.
        generators: B torch generators on the CPU, one an image.

    Returns:
        (B, H, W) uint8.
    """
    if len(generators) != len(label_maps):
        raise ValueError(f"{len(generators)} generators for {len(label_maps)} label maps")
    model, device = denoiser.model, denoiser.device
    onehot = one_hot(label_maps.long().to(device), model.config.classes)
    shape = (model.config.image_channels, *label_maps.shape[-2:])

    def noise():
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

    with autocast(device, config.precision):
        condition, null = _conditions(model, onehot, config)
        network = denoiser.compiled or model
        call = guided(network, condition, null, scale=config.guidance)
        x_0 = _solve(call, noise, denoiser.process, config)
    grey = x_0.float().mean(dim=1).clamp(-1, 1)
    return ((grey + 1) * 127.5).round().to(torch.uint8).cpu()


def _conditions(model, onehot, config):
    """The label maps' modulations and, for guidance, the null map's, within one memory budget."""
    maps = [onehot, torch.zeros_like(onehot)] if config.guidance else [onehot]
    budget = int(config.cache_gib * GIB) // len(maps)
    return (*(model.encode_labels(each, budget_bytes=budget) for each in maps), None)[:2]


def _solve(call, noise, process, config):
    """x_0 by the sampler of the config, its steps even in the log-SNR."""
    respaced = process.respaced(config.steps, spacing="log_snr")
    own = {"ddpm": {"fraction": FRACTION}, "ddim": {"eta": config.eta}}
    options = own.get(config.sampler, {})
    return SAMPLERS[config.sampler](call, noise(), process=respaced, noise=noise, **options)


def write_png(path, image):
    """Write (H, W) uint8 as a grey PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)
