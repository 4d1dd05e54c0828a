"""The segmentation network: a U-Net with 2**L channels in layer L (paper, section 2.2)."""

import torch
from monai.networks.nets import UNet

CLASSES = 4  # CAMUS ids


def build_unet(config, *, generator=None):
    """The paper's U-Net, from MONAI's building blocks; 664,282 parameters at 8 layers.

    Args:
        config: a ``SegmentationConfig``; ``layers`` is read.
        generator: CPU generator of the initial weights; a fixed one where None.

    Returns:
        A module from (B, 1, H, W) float32, normalised grey values, to (B, 4, H, W) logits of the
        CAMUS ids. H and W must pass ``require_image_size``.
    """
    if config.layers < 2:
        raise ValueError(f"layers {config.layers}, expected 2 or more")
    # On the meta device first: the usual construction would draw from global random state.
    with torch.device("meta"):
        model = UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=CLASSES,
            channels=[2**level for level in range(1, config.layers + 1)],
            strides=[2] * (config.layers - 1),
            num_res_units=0,
            act=("LeakyReLU", {"negative_slope": 0.1}),
            norm="INSTANCE",  # without parameters: with them there would be 665,554
        )
    model = model.to_empty(device="cpu")
    _initialise(model, generator or torch.Generator().manual_seed(0))
    return model


@torch.no_grad()
def _initialise(model, generator):
    """PyTorch's default: uniform in ±1/sqrt(fan-in), weights and biases alike."""
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            bound = module.weight[0].numel() ** -0.5
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)


def require_image_size(config, size):
    """Raise ``ValueError`` unless images of ``size`` pass through the network.

    Every one of the ``layers - 1`` strides halves the image, and instance norm needs more than one
    pixel at the bottom.

    Args:
        config: a ``SegmentationConfig``; ``layers`` is read.
        size: (H, W) in pixels.
    """
    factor = 2 ** (config.layers - 1)
    if all(side % factor == 0 for side in size) and max(size) > factor:
        return
    largest = _largest_layers(size)
    remedy = (
        f"set segmentation.layers to {largest} or less" if largest >= 2 else "choose even sides"
    )
    raise ValueError(
        f"image of {size[0]} x {size[1]} px, {config.layers} layers: expected sides that are "
        f"multiples of {factor}, one of them larger; {remedy}, or change data.image_size_px"
    )


def _largest_layers(size):
    layers = 1
    while all(side % 2**layers == 0 for side in size) and max(size) > 2**layers:
        layers += 1
    return layers
