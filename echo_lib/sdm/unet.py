"""The semantic diffusion network (Wang et al., arXiv 2207.00050, section 3.2).

An encoder sees the noisy image alone; the label map enters through SPADE (Park et al., arXiv
1903.07291) in the middle block and the decoder. Parameter names are those of the released weights.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from echo_lib.config import SemanticUNetConfig
from echo_lib.sdm.blocks import (
    SPADE,
    Attention,
    Block,
    DecoderResidual,
    EncoderResidual,
    zeroed,
)

__all__ = ["Condition", "SemanticUNet", "SemanticUNetConfig"]


class Condition(NamedTuple):
    """What the label maps of a batch do to the network, the same at every step.

    Attributes:
        labels: (B, K p^2, H / p, W / p), the one-hot map after the stem of patch size p.
        modulations: of each SPADE layer (gamma, beta), each (B, C, h, w); None: from ``labels``,
            at every step anew.
    """

    labels: torch.Tensor
    modulations: tuple


class SemanticUNet(nn.Module):
    """Predicts noise (and variance) of a noisy image under a label map.

    The image's sides must be multiples of ``config.patch_size * 2 ** (levels - 1)``.

    Attributes:
        checkpoint_activations: where gradients are wanted, keep each block's input alone and run
            the block again in the backward pass: the same gradients, less memory, more time.
    """

    checkpoint_activations = False

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
            zeroed(nn.Conv2d(width, self.n_outputs * self.patch**2, 3, padding=1)),
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

    def encode_labels(self, onehot, *, budget_bytes=None):
        """The modulations of the SPADE layers; they depend on the label map alone, not on t.

        They are kept in the precision in which they are computed, so no output changes; what does
        not fit into the budget is computed at every step. A modulation's operations and its bytes
        both grow with the layer's pixels; a byte of a layer with few channels saves slightly more
        (its hidden convolution serves fewer of them), so those come first.

        Args:
            onehot: (B, K, H, W) float, 0 or 1.
            budget_bytes: the most that the kept modulations of this batch take; None keeps all.

        Returns:
            ``Condition``, to pass as ``condition`` at every step.
        """
        labels = self._unshuffle(onehot)
        kept, free = set(), math.inf if budget_bytes is None else budget_bytes
        for spade in sorted(self.spades, key=lambda spade: (spade.channels, spade.index)):
            size = spade.modulation_bytes(labels)
            if size <= free:
                kept.add(spade.index)
                free -= size
        modulations = [s.modulation(labels) if s.index in kept else None for s in self.spades]
        return Condition(labels, tuple(modulations))

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
            condition = Condition(self._unshuffle(condition), (None,) * len(self.spades))
        embedding = self.time_embed(timestep_embedding(t, self.config.width))
        h, skips = self._unshuffle(x_t), []
        for block in self.input_blocks:
            h = self._run(block, h, embedding, condition)
            skips.append(h)
        h = self._run(self.middle_block, h, embedding, condition)
        for block in self.output_blocks:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), embedding, condition)
        h = self.out(h).float()
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def _run(self, block, h, embedding, condition):
        if self.checkpoint_activations and torch.is_grad_enabled():
            # No layer draws random numbers, so there is no random state to keep for the second run.
            options = {"use_reentrant": False, "preserve_rng_state": False}
            return checkpoint(block, h, embedding, condition, **options)
        return block(h, embedding, condition)

    def _unshuffle(self, x):
        return F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x

    def _require_size(self, x):
        multiple = self.patch * 2 ** (len(self.config.multipliers) - 1)
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(
                f"image of {tuple(x.shape[-2:])} px: this network takes multiples of {multiple}"
            )


def timestep_embedding(t, width, *, longest_period=10_000):
    """Sinusoidal embedding (B, width) of t (B,), cosines first (improved DDPM)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(longest_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
