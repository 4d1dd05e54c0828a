"""The semantic diffusion network (Wang et al., arXiv 2207.00050, section 3.2).

An encoder sees the noisy image alone; the label map enters through SPADE (Park et al., arXiv
1903.07291) in the middle block and the decoder. Parameter names are those of the released weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from echo_lib.config import SemanticUNetConfig

__all__ = ["SemanticUNet", "SemanticUNetConfig"]


class SemanticUNet(nn.Module):
    """Predicts noise (and variance) of a noisy image under a label map.

    The image's sides must be multiples of ``config.patch_size * 2 ** (levels - 1)``.
    """

    def __init__(self, config):
        super().__init__()
        if config.dropout:
            raise ValueError(
                f"dropout {config.dropout}: its draws would belong to no item, so a resumed run "
                "would differ; set it to 0, as the paper does"
            )
        self.config = config
        self.patch = config.patch_size
        channels_in = config.image_channels * self.patch**2
        self.n_outputs = config.image_channels * (2 if config.learned_variance else 1)
        self.time_embed = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.SiLU(),
            nn.Linear(4 * config.width, 4 * config.width),
        )
        skips = self._build_encoder(channels_in)
        width, factor = skips[-1], 2 ** (len(config.multipliers) - 1)
        self.middle_block = Block(
            DecoderResidual(width, width, config, factor),
            Attention(width, config),
            DecoderResidual(width, width, config, factor),
        )
        width = self._build_decoder(width, skips)
        self.out = nn.Sequential(
            nn.GroupNorm(config.norm_groups, width),
            nn.SiLU(),
            _zeroed(nn.Conv2d(width, self.n_outputs * self.patch**2, 3, padding=1)),
        )
        self.spades = [module for module in self.modules() if isinstance(module, SPADE)]
        for index, spade in enumerate(self.spades):
            spade.index = index

    def _build_encoder(self, channels_in):
        config, width = self.config, self.config.width * self.config.multipliers[0]
        self.input_blocks = nn.ModuleList([Block(nn.Conv2d(channels_in, width, 3, padding=1))])
        skips, factor = [width], 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.residual_blocks):
                out = config.width * multiplier
                layers = [EncoderResidual(width, out, config)]
                if factor in config.attention_downsampling:
                    layers.append(Attention(out, config))
                self.input_blocks.append(Block(*layers))
                width = out
                skips.append(width)
            if level < len(config.multipliers) - 1:
                self.input_blocks.append(Block(EncoderResidual(width, width, config, down=True)))
                skips.append(width)
                factor *= 2
        return skips

    def _build_decoder(self, width, skips):
        config, skips = self.config, list(skips)
        factor = 2 ** (len(config.multipliers) - 1)
        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for block in range(config.residual_blocks + 1):
                out = config.width * multiplier
                layers = [DecoderResidual(width + skips.pop(), out, config, factor)]
                if factor in config.attention_downsampling:
                    layers.append(Attention(out, config))
                if level > 0 and block == config.residual_blocks:
                    layers.append(DecoderResidual(out, out, config, factor, up=True))
                    factor //= 2
                self.output_blocks.append(Block(*layers))
                width = out
        return width

    def encode_labels(self, onehot):
        """The modulations of every SPADE layer; they depend on the label map alone, not on t.

        Args:
            onehot: (B, K, H, W) float, 0 or 1.

        Returns:
            A list of (gamma, beta), each (B, C, h, w), to pass as ``condition`` at every step.
        """
        labels = self._unshuffle(onehot)
        return [spade.modulation(labels) for spade in self.spades]

    def forward(self, x_t, t, condition):
        """The network's raw output.

        Args:
            x_t: (B, C, H, W) float32, the noisy image.
            t: (B,) int64 in [0, T).
            condition: (B, K, H, W) one-hot label map, or what ``encode_labels`` made of it.

        Returns:
            (B, C or 2C, H, W): the prediction and, with learned variance, its interpolation.
        """
        self._require_size(x_t)
        if torch.is_tensor(condition):
            condition = self._unshuffle(condition)
        embedding = self.time_embed(timestep_embedding(t, self.config.width))
        h, skips = self._unshuffle(x_t), []
        for block in self.input_blocks:
            h = block(h, embedding, condition)
            skips.append(h)
        h = self.middle_block(h, embedding, condition)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding, condition)
        h = self.out(h).float()
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def _unshuffle(self, x):
        return F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x

    def _require_size(self, x):
        multiple = self.patch * 2 ** (len(self.config.multipliers) - 1)
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(
                f"image of {tuple(x.shape[-2:])} px: this network takes multiples of {multiple}"
            )


class Block(nn.ModuleList):
    """Layers in a row; each takes of (h, embedding, condition) what it needs."""

    def __init__(self, *layers):
        super().__init__(layers)

    def forward(self, h, embedding, condition):
        for layer in self:
            if isinstance(layer, EncoderResidual):
                h = layer(h, embedding)
            elif isinstance(layer, DecoderResidual):
                h = layer(h, embedding, condition)
            else:
                h = layer(h)
        return h


class EncoderResidual(nn.Module):
    """Residual block with scale-shift time conditioning (improved DDPM); blind to the label map."""

    def __init__(self, channels, out, config, *, down=False):
        super().__init__()
        self.down = down
        groups = config.norm_groups
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.width, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out),
            nn.SiLU(),
            nn.Identity(),  # dropout in the released network; keeps the convolution's index
            _zeroed(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = _skip(channels, out)

    def forward(self, x, embedding):
        norm, activation, convolution = self.in_layers
        h = activation(norm(x))
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = convolution(h)
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class DecoderResidual(nn.Module):
    """Residual block whose norms are SPADE: the label map's way into the image."""

    def __init__(self, channels, out, config, factor, *, up=False):
        super().__init__()
        self.up = up
        self.in_norm = SPADE(channels, config, factor)
        self.in_layers = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.width, 2 * out))
        self.out_norm = SPADE(out, config, factor // 2 if up else factor)
        self.out_layers = nn.Sequential(
            nn.SiLU(),
            nn.Identity(),
            _zeroed(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = _skip(channels, out)

    def forward(self, x, embedding, condition):
        activation, convolution = self.in_layers
        h = activation(self.in_norm(x, condition))
        if self.up:
            h, x = (F.interpolate(z, scale_factor=2, mode="nearest") for z in (h, x))
        h = convolution(h)
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        h = self.out_norm(h, condition) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers(h)


class SPADE(nn.Module):
    """Affine-free group norm, modulated pixel by pixel from the label map (SPADE, Eq. 1).

    ``factor`` is how many times smaller than the stem's grid the layer's feature map is.
    """

    def __init__(self, channels, config, factor):
        super().__init__()
        labels = config.classes * config.patch_size**2
        hidden = config.spade_hidden_width
        self.groups, self.factor, self.index = config.norm_groups, factor, None
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def modulation(self, labels):
        """(gamma, beta), each (B, C, H / factor, W / factor), of one-hot labels (B, K, H, W)."""
        # Nearest resizing by a whole factor takes the first pixel of each cell.
        hidden = self.mlp_shared(labels[..., :: self.factor, :: self.factor])
        return self.mlp_gamma(hidden), self.mlp_beta(hidden)

    def forward(self, x, condition):
        if torch.is_tensor(condition):
            gamma, beta = self.modulation(condition)
        else:
            gamma, beta = condition[self.index]
        return F.group_norm(x, self.groups) * (1 + gamma) + beta


class Attention(nn.Module):
    """Self-attention over all positions, heads of ``head_width`` channels."""

    def __init__(self, channels, config):
        super().__init__()
        if channels % config.head_width:
            raise ValueError(f"{channels} channels do not split into heads of {config.head_width}")
        self.head_width = config.head_width
        self.norm = nn.GroupNorm(config.norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x):
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))  # (B, 3C, L): all q, all k, all v
        q, k, v = qkv.view(b, 3, c // self.head_width, self.head_width, -1).mT.unbind(1)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, L, head_width)
        return x + self.proj_out(h.mT.reshape(b, c, -1)).view(b, c, height, width)


def timestep_embedding(t, width, *, longest_period=10_000):
    """Sinusoidal embedding (B, width) of t (B,), cosines first (improved DDPM)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(longest_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _skip(channels, out):
    return nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)


def _zeroed(layer):
    """Zero weights: a block begins as the identity (improved DDPM)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
