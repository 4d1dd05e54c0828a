"""Fig. 1: the pipeline, drawn from the images of one run.

x is the semantic label map, y_t the noisy image at step t, as in the paper.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from echo_lib.figures import overlay
from echo_lib.figures.diagram import (
    Place,
    arrow,
    caption,
    elbow,
    label,
    panel,
    stack,
    thumbnail,
    unet_glyph,
)
from echo_lib.figures.style import (
    ACCENT,
    MUTED,
    WIDTH_MM,
    canvas_mm,
    new_figure,
    paper_style,
    stamp,
)

HEIGHT_MM = 124.0
SDM_COLOUR, UNET_COLOUR = "#7A4FA3", "#1B7F8C"
_PICTURE_MM = 21.0
_PANELS_MM = ((84.0, 38.0), (45.0, 36.0), (6.0, 36.0))  # lower edge and height of each row


@dataclass(frozen=True)
class Pipeline:
    """The pictures of Fig. 1; images (H, W) uint8 or float in [-1, 1], label maps (H, W) SDM ids.

    Attributes:
        label_map: x, of the frame that the SDM is trained on.
        noisy: that frame as y_0, ..., y_T: steps ascending, the first without noise.
        steps: t of each of ``noisy``.
        augmented_maps: label maps for inference, one or more.
        synthetic: the images that the SDM made of them.
        real_image: a frame, not synthetic, that the segmentation network is tried on.
        real_labels: its reference labels.
        prediction: the network's labels of it; None shows the reference alone.
    """

    label_map: np.ndarray
    noisy: tuple
    steps: tuple[int, ...]
    augmented_maps: tuple
    synthetic: tuple
    real_image: np.ndarray
    real_labels: np.ndarray
    prediction: np.ndarray | None = None


@paper_style()
def draw(pictures, *, stamp_text):
    """SDM training, SDM inference and segmentation, one row each.

    Args:
        pictures: a ``Pipeline``.
        stamp_text: ``profile.stamp``.
    """
    if len(pictures.noisy) != len(pictures.steps) or len(pictures.noisy) < 3:
        raise ValueError(
            f"{len(pictures.noisy)} noisy frames for {len(pictures.steps)} steps; "
            "expected as many frames as steps, 3 or more"
        )
    figure = new_figure(WIDTH_MM, HEIGHT_MM)
    canvas = canvas_mm(figure)
    titles = ("SDM training", "SDM inference", "Segmentation")
    for (bottom, height), title in zip(_PANELS_MM, titles, strict=True):
        panel(canvas, Place(1, bottom, WIDTH_MM - 2, height), title)
    _training(figure, canvas, pictures)
    _inference(figure, canvas, pictures)
    _segmentation(figure, canvas, pictures)
    return stamp(figure, stamp_text)


def _training(figure, canvas, pictures):
    """Row one: the label map beside the chain from y_T down to y_0."""
    y = _PANELS_MM[0][0] + 7
    condition = thumbnail(figure, Place(9, y, 21, 21), overlay.show_label_map, pictures.label_map)
    caption(canvas, condition, "$x$  label map")
    chain = list(zip(pictures.steps, pictures.noisy, strict=True))[::-1]
    first, last = 46.0, WIDTH_MM - 5 - _PICTURE_MM
    gap = (last - first) / (len(chain) - 1)
    places = [Place(first + gap * k, y, _PICTURE_MM, _PICTURE_MM) for k in range(len(chain))]
    rail = y + _PICTURE_MM + 5.5
    for k, (place, (step, image)) in enumerate(zip(places, chain, strict=True)):
        thumbnail(figure, place, overlay.show_image, image)
        caption(canvas, place, _step_name(k, step, len(chain)))
    for before, after in itertools.pairwise(places):
        arrow(canvas, before.right, after.left, colour=SDM_COLOUR, linewidth=1.3)
        between = (before.right[0] + after.left[0]) / 2
        elbow(canvas, [(between, rail), (between, y + _PICTURE_MM / 2 + 1)], colour=MUTED)
    end = (places[-2].right[0] + places[-1].left[0]) / 2
    canvas.plot(
        [condition.top[0], condition.top[0], end],
        [condition.top[1], rail, rail],
        color=MUTED,
        lw=0.9,
    )
    text = r"denoise: $p_\theta(y_{t-1}\,|\,y_t, x)$"
    label(canvas, (first + last + _PICTURE_MM) / 2, rail + 2.2, text, colour=SDM_COLOUR, fontsize=7)


def _step_name(position, step, n_steps):
    if position == 0:
        return f"$y_T$  noise, $t={step}$"
    if position == n_steps - 1:
        return "$y_0$  image"
    return f"$y_t$,  $t={step}$"


def _inference(figure, canvas, pictures):
    """Row two: augmented label maps through the trained SDM."""
    y = _PANELS_MM[1][0] + 7
    origin = thumbnail(figure, Place(9, y, 21, 21), overlay.show_label_map, pictures.label_map)
    caption(canvas, origin, "label map")
    cards = [(overlay.show_label_map, each) for each in pictures.augmented_maps]
    augmented = stack(figure, Place(57, y, 24.2, 24.2), cards)
    caption(canvas, augmented, "augmented label maps")
    middle = y + 10.5
    arrow(canvas, origin.right, (57, middle))
    label(canvas, 43.5, middle + 3.4, "random affine\nand elastic", fontsize=5.8)
    network = unet_glyph(canvas, Place(104, y + 1.5, 20, 18), "trained SDM", colour=SDM_COLOUR)
    arrow(canvas, (augmented.x + 24.2, middle), network.left)
    label(canvas, 114, y + 24.2, "$y_T$ noise", fontsize=6.5)
    arrow(canvas, (114, y + 23.2), (114, y + 14), colour=MUTED)
    cards = [(overlay.show_image, each) for each in pictures.synthetic]
    synthetic = stack(figure, Place(150.8, y, 24.2, 24.2), cards)
    arrow(canvas, network.right, (synthetic.x, middle), colour=SDM_COLOUR, linewidth=1.3)
    caption(canvas, synthetic, "synthetic images")


def _segmentation(figure, canvas, pictures):
    """Row three: a U-Net trained on synthetic pairs alone, then tried on an unseen frame."""
    y = _PANELS_MM[2][0] + 7
    middle = y + 10.5
    pairs = list(zip(pictures.synthetic, pictures.augmented_maps, strict=True))
    pairs_place = stack(
        figure, Place(9, y, 24.2, 24.2), [(overlay.show_overlay, *pair) for pair in pairs]
    )
    caption(canvas, pairs_place, "synthetic pairs")
    student = unet_glyph(canvas, Place(47, y + 1.5, 18, 18), "U-Net, training", colour=UNET_COLOUR)
    arrow(canvas, (33.2, middle), student.left)
    real = thumbnail(figure, Place(84, y, 21, 21), overlay.show_image, pictures.real_image)
    caption(canvas, real, "unseen frame")
    network = unet_glyph(canvas, Place(120, y + 1.5, 18, 18), "trained U-Net", colour=UNET_COLOUR)
    over = y + 24.2
    way = [(56, y + 18.5), (56, over), (129, over), (129, y + 18.5)]
    elbow(canvas, way, colour=UNET_COLOUR, dashed=True)
    label(canvas, 92.5, over + 1.9, "weights", colour=UNET_COLOUR)
    arrow(canvas, real.right, network.left)
    _outcome(figure, canvas, pictures, Place(154, y, 21, 21), network)


def _outcome(figure, canvas, pictures, place, network):
    """What the network says of the frame, or, before there is one, what it will be held to."""
    if pictures.prediction is None:
        shown, text, colour = pictures.real_labels, "reference, for Dice", ACCENT
    else:
        shown, text, colour = pictures.prediction, "predicted labels", UNET_COLOUR
    thumbnail(figure, place, overlay.show_contours, pictures.real_image, shown)
    arrow(canvas, network.right, place.left, colour=colour)
    caption(canvas, place, text)
