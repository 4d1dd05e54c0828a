"""Small arrays in the shape of a prepared run."""

import itertools

import numpy as np
import pandas as pd
import pytest

from echo_lib.labels import PHASES, SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR, VIEWS


@pytest.fixture
def label_map():
    """(32, 32) SDM ids: a square heart of every class, in a sector, with some outside."""
    label_map = np.zeros((32, 32), dtype=np.uint8)
    label_map[2:30, 2:30] = SDM_SECTOR
    label_map[6:18, 8:24] = SDM_MYOCARDIUM
    label_map[8:18, 10:22] = SDM_LV
    label_map[18:26, 10:22] = SDM_LA
    return label_map


@pytest.fixture
def index():
    """One line per view and phase, as of one patient."""
    return pd.DataFrame(list(itertools.product(VIEWS, PHASES)), columns=["view", "phase"])


@pytest.fixture
def images():
    """(4, 32, 32) uint8, one grey value each."""
    return np.stack([np.full((32, 32), value, np.uint8) for value in (10, 20, 30, 40)])


@pytest.fixture
def label_maps(label_map):
    """(4, 32, 32) SDM ids."""
    return np.stack([label_map] * 4)


def frames_of(training, validation, test=0):
    """An index of frames with so many patients in each split."""
    sizes = {"training": training, "validation": validation, "test": test}
    lines = [
        (f"{split}{n}", view, phase, split)
        for split, size in sizes.items()
        for n, view, phase in itertools.product(range(size), VIEWS, PHASES)
    ]
    return pd.DataFrame(lines, columns=["patient", "view", "phase", "split"])


@pytest.fixture
def make_frames():
    return frames_of


@pytest.fixture
def texts():
    """All texts of a figure, those of its axes among them."""
    return lambda figure: [text.get_text() for text in figure.findobj(match=_is_text)]


def _is_text(artist):
    return hasattr(artist, "get_text") and hasattr(artist, "get_fontsize")
