"""Volumes and ejection fraction of the left ventricle by Simpson's biplane rule.

R. M. Lang et al., JASE 28(1), 2015, section 1: the cavity is cut into 20 disks across its long
axis, whose two diameters come from the two views, and the longer of the two long axes counts.

The long axis is found in the mask. The cavity is bounded by myocardium but for the mitral plane:
the pixels of the cavity beside atrium or background, their largest connected stretch. Its two most
distant pixels are the hinges of the valve, their midpoint is the axis' foot, and the apex is the
pixel of the cavity that is farthest from it.
"""

import numpy as np
import pandas as pd
import scipy.ndimage
from scipy.spatial.distance import pdist, squareform

from echo_lib.evaluation.metrics import enlarge
from echo_lib.labels import CAMUS_LV, CAMUS_MYOCARDIUM, PHASES, VIEWS

N_DISKS = 20
VOLUME_COLUMNS = ("patient", "edv_ml", "esv_ml", "ef_percent", "unit")
_ML_PER_MM3 = 1e-3
_EIGHT = np.ones((3, 3), dtype=bool)


def mitral_plane(label_map):
    """The pixels of the LV cavity along the mitral plane.

    Args:
        label_map: (H, W) CAMUS ids.

    Returns:
        (n, 2) rows and columns; none where there is no cavity, or none of it is open. What lies
        beyond the array's border counts as closed.
    """
    cavity = _cavity(label_map)
    outside = ~cavity & (label_map != CAMUS_MYOCARDIUM) & (label_map != CAMUS_LV)
    opening = cavity & scipy.ndimage.binary_dilation(outside)
    return np.argwhere(_largest(opening, _EIGHT))


def disks(label_map, spacing_mm):
    """Diameters of the cavity's disks across its long axis, from the mitral plane to the apex.

    A disk's diameter is its area in the mask over its height, so the disks hold the whole cavity.

    Args:
        label_map: (H, W) CAMUS ids.
        spacing_mm: (2,) rows, columns.

    Returns:
        (N_DISKS,) diameters and the long axis' length, in mm; NaN where the map has no cavity, no
        mitral plane, or no apex apart from it.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    label_map = _around_cavity(label_map)
    plane, points = mitral_plane(label_map) * spacing, np.argwhere(_cavity(label_map)) * spacing
    if not len(plane):
        return np.full(N_DISKS, np.nan), np.nan
    apart = squareform(pdist(plane)) if len(plane) > 1 else np.zeros((1, 1))
    foot = plane[list(np.unravel_index(apart.argmax(), apart.shape))].mean(axis=0)
    reach = np.hypot(*(points - foot).T)
    apex = points[reach.argmax()]
    if reach.max() == 0:
        return np.full(N_DISKS, np.nan), np.nan
    axis = (apex - foot) / reach.max()
    # Foot and apex are centres of pixels: the cavity ends half a pixel beyond either.
    half_pixel = np.abs(axis * spacing).max() / 2
    length = reach.max() + 2 * half_pixel
    place = ((points - foot) @ axis + half_pixel) / length
    disk = np.clip((place * N_DISKS).astype(int), 0, N_DISKS - 1)
    areas = np.bincount(disk, minlength=N_DISKS) * spacing.prod()
    return areas / (length / N_DISKS), length


def biplane_volume(two, four):
    """Volume of a cavity in ml: pi / 4 times the sum over the disks of a_i b_i L / 20.

    Args:
        two, four: from ``disks``, of the two views.
    """
    (a, length_a), (b, length_b) = two, four
    height = np.maximum(length_a, length_b) / N_DISKS
    return float(np.pi / 4 * (a * b).sum() * height * _ML_PER_MM3)


def ejection_fraction(edv, esv):
    """(EDV - ESV) / EDV in %."""
    return 100 * (edv - esv) / edv if edv > 0 else float("nan")


def patient_volumes(label_maps, spacing_mm, index):
    """Volumes and ejection fraction of every patient of whom both views and phases are there.

    Args:
        label_maps: N maps (rows, columns), CAMUS ids.
        spacing_mm: (N, 2) of rows and columns; where a patient's is NaN, the fraction is computed
            in pixels, and the volumes are NaN.
        index: data frame of N lines with columns patient, view, phase.

    Returns:
        A data frame with VOLUME_COLUMNS, patients in their order; NaN where a map has no cavity or
        no mitral plane.
    """
    spacings = np.asarray(spacing_mm, dtype=np.float64).reshape(len(index), 2)
    lines, patients = [], index["patient"].to_numpy()
    frames = list(zip(index["view"], index["phase"], strict=True))
    for patient in dict.fromkeys(patients):
        places = np.flatnonzero(patients == patient)
        known = bool(np.isfinite(spacings[places]).all())
        cut = {
            frames[place]: disks(label_maps[place], spacings[place] if known else (1, 1))
            for place in places
        }
        if all((view, phase) in cut for view in VIEWS for phase in PHASES):
            edv, esv = (biplane_volume(*(cut[view, phase] for view in VIEWS)) for phase in PHASES)
            volumes = (edv, esv) if known else (np.nan, np.nan)
            lines.append((patient, *volumes, ejection_fraction(edv, esv), "mm" if known else "px"))
    return pd.DataFrame(lines, columns=list(VOLUME_COLUMNS))


def network_volumes(label_maps, index, *, originals, info):
    """Every network's volumes beside those of the experts' masks and the Info files' fraction.

    Args:
        label_maps: (row slug, seed) to (N, H, W) CAMUS ids, in the size that the networks see; they
            are measured in the size of the originals.
        index: data frame of N lines with columns patient, view, phase.
        originals: (N reference maps, (N, 2) spacing in mm), see ``metrics.measure``.
        info: patient to the ejection fraction that the Info files name, in %; may lack patients.

    Returns:
        A data frame with row, seed, VOLUME_COLUMNS, then mask_edv_ml, mask_esv_ml and
        mask_ef_percent of the reference maps, and info_ef_percent; a line per network and patient.
    """
    maps, spacing_mm = originals
    parts = []
    for (row, seed), predicted in label_maps.items():
        enlarged = [enlarge(x, y.shape) for x, y in zip(predicted, maps, strict=True)]
        found = patient_volumes(enlarged, spacing_mm, index)
        found.insert(0, "seed", seed)
        found.insert(0, "row", row)
        parts.append(found)
    masks = patient_volumes(maps, spacing_mm, index).drop(columns="unit").set_index("patient")
    joined = pd.concat(parts, ignore_index=True).join(masks.add_prefix("mask_"), on="patient")
    return joined.assign(info_ef_percent=joined["patient"].map(info).astype(float))


def _around_cavity(label_map):
    """The part of a map that holds the cavity and its neighbours: all that counts here."""
    cavity = label_map == CAMUS_LV
    ranges = (np.flatnonzero(cavity.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(r[0] - 1, 0), r[-1] + 2) if len(r) else slice(0) for r in ranges)
    return label_map[box]


def _cavity(label_map):
    return _largest(label_map == CAMUS_LV, None)


def _largest(mask, structure):
    """The largest connected region of a mask; all of it where there is none."""
    regions, count = scipy.ndimage.label(mask, structure)
    if count < 2:
        return mask
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return regions == sizes.argmax()
