"""Frames of two CAMUS folders that show the same picture, whatever their number and their size.

The two releases number their patients apart, and the current one has half the first one's rows.
"""

import numpy as np
from PIL import Image

from echo_lib.data import camus

_SIZE_PX = 32
# Of 1,800 frames of CAMUS at this size, those of two patients correlate by 0.982 at most, and a
# frame with itself at half its rows by 0.9998 at least.
_SAME = 0.995


def compare(found, other):
    """Report the images of another CAMUS folder that are images of this one.

    Args:
        found: ``doctor.Diagnosis``, to write to.
        other: the other folder.
    """
    try:
        mine, here = _read(found.path)
        theirs, there = _read(other)
    except camus.CamusError as error:
        found.problems.append(f"not compared with {other}: {error}")
        return
    same = np.argwhere(mine @ theirs.T >= _SAME)
    pairs = [(*here[i], *there[j]) for i, j in same]
    found.remarks.append(
        f"{len(here)} images compared with {len(there)} of {other}: {len(set(same[:, 0]))} of them "
        "are there"
    )
    found.remarks += [f"{a} here is {b} there" for a, _, b, _ in pairs if a != b]
    found.problems += [
        f"{a} ({s}) here is {b} ({t}) there: never train on one and test on the other"
        for a, s, b, t in pairs
        if s != t
    ]


def _read(path):
    """A line of 32 x 32 px per frame of a release, and each frame's name and split."""
    release = camus.open_release(path)
    frames = [(f, split) for split in release.splits for f in camus.frames(release, split)]
    small = [_small(camus.read_image(frame.image_path)[0]) for frame, _ in frames]
    return np.array(small).reshape(-1, _SIZE_PX**2), [(f.name, split) for f, split in frames]


def _small(image):
    """A frame at 32 x 32 px with mean 0 and length 1, so that products are correlations."""
    size = (_SIZE_PX, _SIZE_PX)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), np.float32)
    small = small.ravel() - small.mean()
    return small / max(np.linalg.norm(small), 1e-6)  # a black frame is like no other
