"""The Dice on the pairs held out, which chooses a network's best epoch."""

import torch

from echo_lib.labels import STRUCTURES
from echo_lib.segmentation.augmentation import apply, draw_batch
from echo_lib.segmentation.losses import case_dice
from echo_lib.segmentation.prediction import normalise
from echo_lib.segmentation.variants import variant_of

DICE_COLUMNS = tuple(f"validation_dice_{name.lower().replace(' ', '_')}" for name in STRUCTURES)
BATCH = 16  # at least; no score depends on it


@torch.no_grad()
def validate(model, frames, config, normalisation, *, key):
    """Mean Dice over the frames: ``validation_dice``, and a column for each structure.

    The frames are taken as they are, or through the training's transforms, as the variant says.
    """
    variant, device = variant_of(config), frames.images.device
    model.eval()
    scores = []
    for batch in torch.arange(len(frames.names)).split(max(config.batch_size, BATCH)):
        images, target = frames.images[batch], frames.label_maps[batch]
        if variant.validation_is_transformed:
            drawn = draw_batch(config, [(frames.names[i],) for i in batch], key=key).to(device)
            images, target = apply(images, target, drawn, normalisation=normalisation)
        else:
            images = normalise(images.float() / 255, *normalisation)
        scores.append(case_dice(model(images).argmax(dim=1), target, absent=variant.absent))
    means = torch.cat(scores).mean(dim=0).cpu()
    return {"validation_dice": means.mean().item()} | dict(
        zip(DICE_COLUMNS, means.tolist(), strict=True)
    )
