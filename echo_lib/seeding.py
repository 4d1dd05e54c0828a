"""Randomness belongs to the item: its seed is a hash of what the item is.

No global random state is read or set anywhere in the library. An item (one patient's phantom, one
augmented map, one synthetic image, one training step) draws from its own generator, so results do
not depend on batch size, order, number of workers or number of GPUs.
"""

import hashlib

import numpy as np


def seed_for(*parts):
    """A seed in [0, 2**63) from what the item is, by SHA-256.

    Args:
        parts: strings and integers that name the item, e.g. ``("sample", 0, "patient0001_4CH")``.
    """
    for part in parts:
        if not isinstance(part, (str, int)) or isinstance(part, bool):
            raise TypeError(f"seed_for takes strings and integers, not {part!r}")
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts):
    """The NumPy generator of the item named by ``parts``."""
    return np.random.default_rng(seed_for(*parts))


def torch_generator(*parts, device="cpu"):
    """The torch generator of the item named by ``parts``."""
    import torch  # imported here so that the leaves load without torch

    return torch.Generator(device=device).manual_seed(seed_for(*parts))
