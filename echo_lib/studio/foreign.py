"""A user's own label map: read from PNG or NIfTI, its values mapped to the SDM's ids."""

import gzip
import io
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
from PIL import Image

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_NAMES, SDM_OUTSIDE, SDM_SECTOR

# What a value may mean: the SDM's classes, or background that the present sector divides.
BACKGROUND = "background"
MEANINGS = (BACKGROUND, *SDM_NAMES)
_CAMUS = (BACKGROUND, SDM_NAMES[SDM_LV], SDM_NAMES[SDM_MYOCARDIUM], SDM_NAMES[SDM_LA])
_LARGEST = 64  # different values; more are an image, not a label map


class ForeignMapError(ValueError):
    """A file that is no label map; the message says what was found and expected."""


def read(content, name):
    """The label map in a file's bytes.

    Args:
        content: the bytes.
        name: of the file; its ending says the format: .png, .nii or .nii.gz.

    Returns:
        (H, W) int64.

    Raises:
        ForeignMapError: another format, unreadable, not one 2D map, not whole numbers, too many
            values for a label map.
    """
    lower = name.lower()
    try:
        if lower.endswith(".png"):
            array = _png(content)
        elif lower.endswith((".nii", ".nii.gz")):
            array = _nifti(content, lower)
        else:
            raise ForeignMapError(f"{name}: expected a .png, .nii or .nii.gz file")
    except (OSError, RuntimeError, EOFError) as error:
        raise ForeignMapError(f"{name}: unreadable ({error}); save it again") from error
    array = array.squeeze()
    if array.ndim != 2:
        raise ForeignMapError(f"{name}: array of shape {array.shape}, expected one 2D label map")
    if not np.array_equal(array, np.round(array)):
        raise ForeignMapError(f"{name}: values with fractions, expected whole label numbers")
    found = np.unique(array)
    if len(found) > _LARGEST:
        raise ForeignMapError(
            f"{name}: {len(found)} different values, expected a label map of at most {_LARGEST}"
        )
    return array.astype(np.int64)


def _png(content):
    with Image.open(io.BytesIO(content)) as file:
        if file.format != "PNG" or file.mode not in ("L", "P", "1", "I", "I;16"):
            raise ForeignMapError(
                f"PNG of mode {file.mode!r}, expected one channel of label numbers; colours say "
                "nothing here"
            )
        return np.array(file)


def _nifti(content, name):
    suffix = ".nii.gz" if content[:2] == gzip.compress(b"")[:2] else ".nii"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"map{suffix}"
        path.write_bytes(content)
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def suggest(values):
    """A first guess of what each value means: CAMUS's or the SDM's own numbering, where it fits.

    Args:
        values: the different values of a map.

    Returns:
        Value to one of MEANINGS.
    """
    values = sorted(int(value) for value in values)
    numbering = SDM_NAMES if 4 in values else _CAMUS
    return {v: numbering[v] if 0 <= v < len(numbering) else BACKGROUND for v in values}


def convert(array, meanings, *, like):
    """The map in the SDM's ids, at the size of another map.

    Args:
        array: (H, W) integers, from ``read``.
        meanings: value to one of MEANINGS, for every value in ``array``.
        like: (h, w) SDM ids; the result has its size, and its sector divides "background".

    Returns:
        (h, w) uint8.

    Raises:
        ForeignMapError: a value without a meaning, or an unknown meaning.
    """
    meanings = {int(value): meaning for value, meaning in meanings.items()}
    missing = sorted(set(np.unique(array).tolist()) - set(meanings))
    wrong = sorted({m for m in meanings.values() if m not in MEANINGS})
    if missing or wrong:
        raise ForeignMapError(
            f"values {missing} have no meaning and {wrong} are none; expected for each value one "
            f"of {', '.join(MEANINGS)}"
        )
    rows, columns = (
        (np.arange(new) + 0.5) * old // new
        for old, new in zip(array.shape, like.shape, strict=True)
    )
    array = array[np.ix_(rows.astype(int), columns.astype(int))]
    sector = np.where(like != SDM_OUTSIDE, SDM_SECTOR, SDM_OUTSIDE).astype(np.uint8)
    result = np.empty(like.shape, dtype=np.uint8)
    for value, meaning in meanings.items():
        at = array == value
        result[at] = sector[at] if meaning == BACKGROUND else SDM_NAMES.index(meaning)
    return result
