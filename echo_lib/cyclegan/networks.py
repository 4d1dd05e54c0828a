"""The CycleGAN's networks (arXiv 1703.10593, section 4 and appendix 7.2).

Both keep the layer numbers of the widely used PyTorch implementation, so that the state dicts of
its ResNet generators fit these modules name by name (``cyclegan.interop`` reads them).
"""

import torch
from torch import nn

INITIAL_STD = 0.02  # of all weights


class Generator(nn.Module):
    """c7s1-w, d2w, d4w, R4w x n, u2w, uw, c7s1-channels: an image to an image of the other kind.

    Reflection padding, instance norm without parameters, ReLU, tanh at the end.

    Args:
        width: channels w of the first level.
        residual_blocks: n.
        channels: of the image; 1 is grey.

    Shape:
        (B, channels, H, W) float32 in [-1, 1] to the same; H and W multiples of 4.
    """

    def __init__(self, width, residual_blocks, *, channels=1):
        super().__init__()
        self.width, self.residual_blocks, self.channels = width, residual_blocks, channels
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), *_norm_relu(width)]
        for c in (width, 2 * width):
            layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), *_norm_relu(2 * c)]
        layers += [ResidualBlock(4 * width) for _ in range(residual_blocks)]
        for c in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(c, c // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [up, *_norm_relu(c // 2)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, image):
        assert not any(size % 4 for size in image.shape[-2:]), tuple(image.shape)
        return self.model(image)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions of equal width, added to what came in."""

    def __init__(self, channels):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), *_norm_relu(channels),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, features):
        return features + self.conv_block(features)


class Discriminator(nn.Module):
    """PatchGAN, Cw-C2w-C4w-C8w: one score for each of the overlapping 70 x 70 patches.

    4 x 4 convolutions, leaky ReLU 0.2, instance norm in all layers but the first and the last.

    Args:
        width: channels w of the first level.
        channels: of the image; 1 is grey.

    Shape:
        (B, channels, H, W) float32 in [-1, 1] to (B, 1, H/8 - 2, W/8 - 2); H and W at least 32.
    """

    def __init__(self, width, *, channels=1):
        super().__init__()
        layers = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        for c, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
            layers += [nn.Conv2d(c, 2 * c, 4, stride=stride, padding=1), nn.InstanceNorm2d(2 * c)]
            layers += [nn.LeakyReLU(0.2, True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))

    def forward(self, image):
        return self.model(image)


def build_generator(config, *, generator, channels=1):
    """A ``Generator`` of ``CycleGANConfig`` whose initial weights follow from ``generator`` alone.

    Args:
        config: ``CycleGANConfig``.
        generator: ``torch.Generator`` on the CPU.
        channels: of the image.
    """
    with torch.device("meta"):  # no draw from the global generator
        network = Generator(config.width, config.residual_blocks, channels=channels)
    return _initialise(network, generator)


def build_discriminator(config, *, generator, channels=1):
    """A ``Discriminator`` of ``CycleGANConfig``; arguments as in ``build_generator``."""
    with torch.device("meta"):
        network = Discriminator(config.discriminator_width, channels=channels)
    return _initialise(network, generator)


@torch.no_grad()
def _initialise(network, generator):
    """Weights from N(0, 0.02), biases 0."""
    network = network.to_empty(device="cpu")
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, INITIAL_STD, generator=generator)
        else:
            parameter.zero_()
    return network


def _norm_relu(channels):
    return nn.InstanceNorm2d(channels), nn.ReLU(True)
