"""A heart that can be measured with a ruler, 96 px."""

import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR

SIZE = 96
MITRAL_ROW = 59  # last row of the cavity
APEX_ROW = 21  # first row of the cavity
LENGTH = MITRAL_ROW - APEX_ROW
MIDDLE = 47.5  # column of the long axis


def draw_heart():
    """A square sector, walls of half ellipses, 40 x 10 and 46 x 16 px, an atrium that is a box."""
    rows, columns = np.indices((SIZE, SIZE))
    across, up = columns - MIDDLE, MITRAL_ROW + 1 - rows
    label_map = np.zeros((SIZE, SIZE), dtype=np.uint8)
    label_map[2:94, 2:94] = SDM_SECTOR
    label_map[(up > 0) & ((up / 46) ** 2 + (across / 16) ** 2 < 1)] = SDM_MYOCARDIUM
    label_map[(up > 0) & ((up / 40) ** 2 + (across / 10) ** 2 < 1)] = SDM_LV
    label_map[60:80, 40:56] = SDM_LA
    return label_map


@pytest.fixture
def heart():
    return draw_heart()


@pytest.fixture
def disc():
    """A disc of the cavity of radius 20 px, in a sector of 128 px without an outside."""
    rows, columns = np.indices((128, 128)) - 63.5
    return np.where(np.hypot(rows, columns) < 20, np.uint8(SDM_LV), np.uint8(SDM_SECTOR))


@pytest.fixture
def dice():
    """Dice of one label in two maps."""

    def measure(first, second, label):
        a, b = first == label, second == label
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    return measure
