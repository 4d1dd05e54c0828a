"""The layers of the semantic diffusion network: residual blocks, SPADE and attention.

Parameter names are those of the released weights.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Attention", "Block", "DecoderResidual", "EncoderResidual", "SPADE", "zeroed"]


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
            zeroed(nn.Conv2d(out, out, 3, padding=1)),
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
            zeroed(nn.Conv2d(out, out, 3, padding=1)),
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
        self.channels = channels
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def modulation(self, labels):
        """(gamma, beta), each (B, C, H / factor, W / factor), of one-hot labels (B, K, H, W)."""
        # Nearest resizing by a whole factor takes the first pixel of each cell.
        hidden = self.mlp_shared(labels[..., :: self.factor, :: self.factor])
        return self.mlp_gamma(hidden), self.mlp_beta(hidden)

    def modulation_bytes(self, labels):
        """Memory of ``modulation(labels)`` in the precision that the layer computes in."""
        kind, fast = labels.device.type, None
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            fast = torch.get_autocast_dtype(kind)
        pixels = len(labels) * labels[0, 0, :: self.factor, :: self.factor].numel()
        return 2 * self.channels * pixels * (fast or self.mlp_gamma.weight.dtype).itemsize

    def forward(self, x, condition):
        gamma, beta = condition.modulations[self.index] or self.modulation(condition.labels)
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
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x):
        b, c, height, width = x.shape
        rows = self.norm(x).flatten(2).mT  # (B, L, C): channels_last needs no copy
        qkv = _pointwise(self.qkv, rows).view(b, -1, 3, c // self.head_width, self.head_width)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, head_width)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return x + _pointwise(self.proj_out, h).mT.view(b, c, height, width)


def _pointwise(convolution, rows):
    """A Conv1d of kernel 1, as the released weights name it, on (B, L, C)."""
    return F.linear(rows, convolution.weight[..., 0], convolution.bias)


def _skip(channels, out):
    return nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)


def zeroed(layer):
    """Zero weights: a block begins as the identity (improved DDPM)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
