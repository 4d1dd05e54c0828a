"""Images, label maps, and the two together.

Images are (H, W) uint8 in 0..255 or float in [-1, 1]; label maps are (H, W) SDM ids 0..4. Arrays
and CPU tensors are both taken.
"""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from echo_lib.labels import (
    SDM_COLOURS,
    SDM_LA,
    SDM_LV,
    SDM_MYOCARDIUM,
    SDM_NAMES,
    STRUCTURE_COLOURS,
    STRUCTURES,
    remove_sector,
    require_labels,
    structure_mask,
)

HEART = (SDM_LV, SDM_MYOCARDIUM, SDM_LA)
_PALETTE = np.array([to_rgb(colour) for colour in SDM_COLOURS], dtype=np.float32)


def grey(image):
    """An image as float32 (H, W) in [0, 1]: 8-bit values over 255, floats from [-1, 1], clipped."""
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"image of shape {image.shape}, expected (rows, columns); index it first")
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image of {image.dtype}, expected uint8 in 0..255 or float in [-1, 1]")
    return np.clip((image.astype(np.float32) + 1) / 2, 0, 1)


def colours(label_map):
    """A label map in its classes' colours, float32 (H, W, 3) in [0, 1]."""
    label_map = np.asarray(label_map)
    require_labels(label_map, len(SDM_COLOURS), "overlay")
    return _PALETTE[label_map]


def blend(image, label_map, alpha=0.45):
    """An image tinted with the colours of the heart's labels, float32 (H, W, 3) in [0, 1].

    Args:
        image: (H, W).
        label_map: (H, W) SDM ids; outside and sector stay grey.
        alpha: weight of the colour.
    """
    label_map = np.asarray(label_map)
    base = np.repeat(grey(image)[..., None], 3, axis=-1)
    if base.shape[:2] != label_map.shape:
        raise ValueError(f"image of {base.shape[:2]} with a label map of {label_map.shape}")
    weight = alpha * np.isin(label_map, HEART)[..., None]
    return ((1 - weight) * base + weight * colours(label_map)).astype(np.float32)


def show_image(axes, image):
    """An image in grey, without ticks."""
    return _show(axes, grey(image), cmap="gray", vmin=0, vmax=1)


def show_label_map(axes, label_map):
    """A label map in colour."""
    return _show(axes, colours(label_map))


def show_overlay(axes, image, label_map, alpha=0.45):
    """An image under the translucent colours of its label map."""
    return _show(axes, blend(image, label_map, alpha))


def show_contours(axes, image, label_map, *, linewidth=0.9, linestyle="solid"):
    """An image with the outlines of the structures of Table 1 in a label map."""
    show_image(axes, image)
    return draw_contours(axes, label_map, linewidth=linewidth, linestyle=linestyle)


def draw_contours(axes, label_map, *, linewidth=0.9, linestyle="solid"):
    """Outlines of LV endocardium, LV epicardium and LA, each where it is present.

    Args:
        axes: holds an image of the label map's size.
        label_map: (H, W) SDM ids.
        linewidth: in points.
        linestyle: matplotlib's; dashes tell a prediction from its reference.
    """
    camus_map = remove_sector(np.asarray(label_map))
    # The epicardium first: where the two walls meet at the base, the cavity's line stays visible.
    for structure in sorted(STRUCTURES, key=("LV epi", "LA", "LV endo").index):
        mask = structure_mask(camus_map, structure)
        if mask.any() and not mask.all():
            axes.contour(
                mask.astype(np.float32), levels=[0.5], colors=[STRUCTURE_COLOURS[structure]],
                linewidths=linewidth, linestyles=linestyle,
            )  # fmt: skip
    return axes


def class_legend(figure, *, labels=HEART, **keywords):
    """A legend of label colours in one line at the figure's foot, left of the stamp.

    Args:
        figure: the figure.
        labels: SDM ids to name.
        keywords: passed to ``Figure.legend``.
    """
    handles = [Patch(facecolor=SDM_COLOURS[label], label=SDM_NAMES[label]) for label in labels]
    place = {"loc": "lower left", "borderpad": 0.1, "borderaxespad": 0.1, "handlelength": 1.0}
    return figure.legend(handles=handles, ncols=len(handles), **{**place, **keywords})


def _show(axes, array, **keywords):
    axes.imshow(array, interpolation="antialiased", **keywords)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes
