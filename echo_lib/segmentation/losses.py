"""What a segmentation network is trained on, and the Dice that chooses its best epoch."""

import torch
import torch.nn.functional as F

from echo_lib.labels import STRUCTURE_CLASSES, STRUCTURES
from echo_lib.segmentation.unet import CLASSES


def cross_entropy(logits, target):
    """Mean cross-entropy of (B, 4, H, W) logits and (B, H, W) int64 CAMUS ids."""
    return _cross_entropy(F.log_softmax(logits, dim=1), target)


def _cross_entropy(log_p, target):
    # Not F.cross_entropy: on a GPU its sum over the image depends on the order of atomic additions.
    return -log_p.gather(1, target[:, None]).mean()


def dice_cross_entropy(logits, target):
    """Cross-entropy plus one minus the soft Dice of the classes 1 to 3, each over the batch."""
    log_p = F.log_softmax(logits, dim=1)
    structures = torch.arange(1, CLASSES, device=target.device).reshape(1, -1, 1, 1)
    onehot, soft = (target[:, None] == structures).to(log_p.dtype), log_p[:, 1:].exp()
    overlap = (soft * onehot).sum(dim=(0, 2, 3))
    extent = soft.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    return _cross_entropy(log_p, target) + 1 - ((2 * overlap + 1) / (extent + 1)).mean()


LOSSES = {"cross_entropy": cross_entropy, "dice_cross_entropy": dice_cross_entropy}


def case_dice(predicted, target, *, absent="one"):
    """Dice per case and structure, (B, 3) float64.

    Args:
        predicted, target: (B, H, W) integer CAMUS ids.
        absent: the score of a structure that is absent from both: "one" (they agree), or "zero".
    """
    agreed = {"one": 1.0, "zero": 0.0}[absent]
    cells = CLASSES * predicted.long() + target.long() + CLASSES**2 * _cases(predicted)
    counts = torch.bincount(cells.flatten(), minlength=CLASSES**2 * len(predicted))
    counts = counts.reshape(-1, CLASSES, CLASSES).double()  # case, predicted, true
    columns = []
    for classes in (list(STRUCTURE_CLASSES[structure]) for structure in STRUCTURES):
        extent = counts[:, classes].sum((1, 2)) + counts[:, :, classes].sum((1, 2))
        overlap = counts[:, classes][:, :, classes].sum((1, 2))
        columns.append(torch.where(extent > 0, 2 * overlap / extent.clamp(min=1), agreed))
    return torch.stack(columns, dim=1)


def _cases(like):
    return torch.arange(len(like), device=like.device).reshape(-1, 1, 1)
