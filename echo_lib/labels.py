"""Class ids, names and colours, and the maps between the two label sets.

CAMUS masks have four classes; the SDM sees a fifth, the ultrasound sector (paper, section 2.1).
The two sets number their classes differently, and this module is the only place that knows how.
"""

import numpy as np

VIEWS = ("2CH", "4CH")
PHASES = ("ED", "ES")
SPLITS = ("training", "validation", "test")

# CAMUS ids, as in the ``_gt`` files of the data set.
CAMUS_BACKGROUND, CAMUS_LV, CAMUS_MYOCARDIUM, CAMUS_LA = range(4)
CAMUS_NAMES = ("background", "LV cavity", "myocardium", "left atrium")

# SDM ids, as in the released implementation.
SDM_OUTSIDE, SDM_LV, SDM_SECTOR, SDM_MYOCARDIUM, SDM_LA = range(5)
SDM_NAMES = ("outside", "LV cavity", "sector", "myocardium", "left atrium")
SDM_COLOURS = ("#101418", "#E0524D", "#3B4A5A", "#3FA66B", "#4C86D6")

# The structures of Table 1, in its order; the epicardium is the cavity with its wall.
STRUCTURES = ("LV endo", "LV epi", "LA")
STRUCTURE_CLASSES = {
    "LV endo": (CAMUS_LV,),
    "LV epi": (CAMUS_LV, CAMUS_MYOCARDIUM),
    "LA": (CAMUS_LA,),
}
STRUCTURE_COLOURS = {"LV endo": SDM_COLOURS[1], "LV epi": SDM_COLOURS[3], "LA": SDM_COLOURS[4]}

_CAMUS_TO_SDM = np.array([SDM_SECTOR, SDM_LV, SDM_MYOCARDIUM, SDM_LA], dtype=np.uint8)
_SDM_TO_CAMUS = np.array(
    [CAMUS_BACKGROUND, CAMUS_LV, CAMUS_BACKGROUND, CAMUS_MYOCARDIUM, CAMUS_LA], dtype=np.uint8
)


def require_labels(label_map, n_classes, where):
    """Raise ``ValueError`` unless every value of ``label_map`` is an integer in [0, n_classes).

    Args:
        label_map: integer array of any shape.
        n_classes: 4 for CAMUS ids, 5 for SDM ids.
        where: what to name in the message, a file as a rule.
    """
    if not np.issubdtype(np.asarray(label_map).dtype, np.integer):
        raise ValueError(f"{where}: label map of {label_map.dtype}, expected integers")
    found = np.unique(label_map)
    wrong = found[(found < 0) | (found >= n_classes)]
    if wrong.size:
        raise ValueError(
            f"{where}: label values {wrong.tolist()[:8]} found, expected 0..{n_classes - 1}; "
            "map the values to these ids first (echo_lib.labels lists them)"
        )


def add_sector(camus_map, sector):
    """The SDM's five-class map: CAMUS structures over the sector, and nothing outside it.

    Args:
        camus_map: (..., H, W) CAMUS ids 0..3.
        sector: (..., H, W) bool, True inside the ultrasound sector.

    Returns:
        (..., H, W) uint8 SDM ids 0..4. Structures keep every pixel, also those that an expert drew
        beyond the sector, so that ``remove_sector`` gives ``camus_map`` back exactly.
    """
    require_labels(camus_map, 4, "add_sector")
    outside = (camus_map == CAMUS_BACKGROUND) & ~sector
    return np.where(outside, np.uint8(SDM_OUTSIDE), _CAMUS_TO_SDM[camus_map])


def remove_sector(sdm_map):
    """The CAMUS ids of a five-class SDM map: sector and outside both become background."""
    require_labels(sdm_map, 5, "remove_sector")
    return _SDM_TO_CAMUS[sdm_map]


def clip_to_sector(sdm_map, sector):
    """An SDM map in which everything beyond ``sector`` is outside (paper, section 2.2)."""
    return np.where(sector, sdm_map, np.uint8(SDM_OUTSIDE)).astype(np.uint8)


def structure_mask(camus_map, structure):
    """Bool mask of a structure of Table 1 in a CAMUS map; ``structure`` is one of STRUCTURES."""
    return np.isin(camus_map, STRUCTURE_CLASSES[structure])
