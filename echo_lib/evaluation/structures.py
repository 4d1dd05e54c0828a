"""What became of a map's structures: found or missing, apart or merged, in place or not."""

from typing import NamedTuple

import numpy as np
import scipy.ndimage

from echo_lib.labels import (
    CAMUS_LA,
    CAMUS_LV,
    CAMUS_MYOCARDIUM,
    CAMUS_NAMES,
    STRUCTURES,
    structure_mask,
)

CHAMBERS = (CAMUS_LV, CAMUS_LA)
FOUND_SHARE = 0.05  # of its area in the map; a class with less in the prediction is missing
CHAMBER_SHARE = 0.001  # of the image; smaller specks of a class are no chamber


class Gap(NamedTuple):
    """The place where a prediction leaves its map furthest behind.

    Attributes:
        structure: of Table 1; the one whose contours part.
        row, column: in px, on the map's contour.
        distance_px: to the predicted contour.
    """

    structure: str
    row: int
    column: int
    distance_px: float


def missing_classes(prediction, camus_map):
    """Names of the classes that are in the map but were not found.

    A class is missing where the prediction holds less than FOUND_SHARE of its area in the map,
    wherever that lies; its place is what Dice and the contour distance measure.

    Args:
        prediction, camus_map: (H, W) CAMUS ids.
    """
    return [
        CAMUS_NAMES[label]
        for label in (CAMUS_LV, CAMUS_MYOCARDIUM, CAMUS_LA)
        if (prediction == label).sum() < FOUND_SHARE * (camus_map == label).sum()
    ]


def merged_chambers(prediction, camus_map):
    """Names of the pairs of chambers that the map tells apart and the prediction does not.

    A chamber is a connected component of the LV cavity or of the left atrium in the map. Two of
    them that do not touch are merged where one pool of blood in the prediction, LV cavity and left
    atrium together, holds more than half of each. Two that touch (at the mitral valve) are told
    apart by their labels alone: they are merged where one component of one label holds more than
    half of each. Pixels touch by their sides.

    Args:
        prediction, camus_map: (H, W) CAMUS ids.
    """
    chambers = _chambers(camus_map)
    blood = _components(np.isin(prediction, CHAMBERS))
    by_label = [_components(prediction == label) for label in CHAMBERS]
    pairs = []
    for first in range(len(chambers)):
        for second in range(first + 1, len(chambers)):
            (name, one), (other, two) = chambers[first], chambers[second]
            pools = by_label if (scipy.ndimage.binary_dilation(one) & two).any() else [blood]
            if any(_share_a_component(pool, one, two) for pool in pools):
                pairs.append(f"{name} + {other}")
    return pairs


def _chambers(camus_map):
    """(name, mask) of each chamber of the map."""
    smallest = CHAMBER_SHARE * camus_map.size
    masks = []
    for label in CHAMBERS:
        parts = _components(camus_map == label)
        for part in range(1, parts.max() + 1):
            masks.append((CAMUS_NAMES[label], parts == part))
    return [(name, mask) for name, mask in masks if mask.sum() >= smallest]


def _components(mask):
    return scipy.ndimage.label(mask)[0]


def _share_a_component(parts, one, two):
    counts = [np.bincount(parts[mask], minlength=parts.max() + 1)[1:] for mask in (one, two)]
    return bool(((counts[0] > one.sum() / 2) & (counts[1] > two.sum() / 2)).any())


def contour_gaps(prediction, camus_map):
    """How far the predicted contours lie from the map's, at every pixel of the map's contours.

    The contour of a structure is the pixels of its mask that touch its outside by a side; the
    image's border counts as outside.

    Args:
        prediction, camus_map: (H, W) CAMUS ids.

    Returns:
        (3, H, W) float64 in px, one layer per structure of Table 1: NaN off the map's contour. A
        structure that was not found is as far as the map's contour reaches across: its diagonal.
    """
    gaps = np.full((len(STRUCTURES), *camus_map.shape), np.nan)
    for layer, structure in zip(gaps, STRUCTURES, strict=True):
        edge = _contour(structure_mask(camus_map, structure))
        found = _contour(structure_mask(prediction, structure))
        if found.any():
            layer[edge] = scipy.ndimage.distance_transform_edt(~found)[edge]
        elif edge.any():
            layer[edge] = np.hypot(*np.ptp(np.argwhere(edge), axis=0))
    return gaps


def farthest_gap(*gaps):
    """The place of the largest value in one or more ``contour_gaps`` of one map.

    Returns:
        A ``Gap``; None for a map without structures.
    """
    largest = np.fmax.reduce(gaps)
    if np.isnan(largest).all():
        return None
    layer, row, column = np.unravel_index(np.nanargmax(largest), largest.shape)
    distance_px = float(largest[layer, row, column])
    return Gap(STRUCTURES[layer], int(row), int(column), distance_px)


def compare_gaps(predictions, camus_maps):
    """The gaps of several predictions of the same maps, and where any is widest.

    Args:
        predictions: name to N predictions (H, W).
        camus_maps: the N maps.

    Returns:
        Name to N ``contour_gaps``, and N ``farthest_gap`` over the names.
    """
    gaps = {
        name: [contour_gaps(*pair) for pair in zip(own, camus_maps, strict=True)]
        for name, own in predictions.items()
    }
    return gaps, [farthest_gap(*of_map) for of_map in zip(*gaps.values(), strict=True)]


def usual_gap(predictions, camus_maps, *, share=0.95):
    """The gap in px that this share of the maps' contours stays within.

    Of real frames and a network trained on such, it is what the network itself misses: a wider gap
    in a synthetic image is the image's.

    Args:
        predictions, camus_maps: (N, H, W) CAMUS ids.
        share: 0 to 1.
    """
    gaps = [contour_gaps(*pair) for pair in zip(predictions, camus_maps, strict=True)]
    return float(np.nanquantile(gaps, share))


def _contour(mask):
    return mask & ~scipy.ndimage.binary_erosion(mask)
