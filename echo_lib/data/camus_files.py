"""The files of CAMUS: one frame or mask, as MetaImage (.mhd with .raw) or NIfTI (.nii.gz).

Arrays are rows = depth (probe at the top) x columns = lateral in both formats.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK

from echo_lib.provenance import atomic_path

RESTORE = "restore it from the release"
_MET_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


class CamusError(ValueError):
    """CAMUS data that cannot be used; the message names the file, the finding and the remedy."""


class CamusFileMissing(CamusError, FileNotFoundError):
    """A file, patient, split or release that is not there."""


def read_image(path):
    """Read one MetaImage or NIfTI file.

    Returns:
        uint8 (H, W), rows = depth; and float64 (2,) spacing in mm, rows then columns.
    """
    path = Path(path)
    if path.suffix == ".mhd":
        _require_complete_raw(path)
    if path.suffix == ".gz":
        _require_complete_gzip(path)
    image = _read(path)
    array = SimpleITK.GetArrayFromImage(image)
    # NumPy's axes are ITK's in reverse, so the spacing is reversed to match.
    spacing = np.array(image.GetSpacing()[::-1], dtype=np.float64)
    kept = [axis for axis, size in enumerate(array.shape) if size > 1]
    if len(kept) != 2:
        raise CamusError(
            f"{path}: array of shape {array.shape}, expected one frame: 2 axes, or 3 of which one "
            "has size 1; sequences are not frames"
        )
    return _as_uint8(array.squeeze(), path), spacing[kept]


def write_image(path, array, spacing_mm):
    """Write one image or mask as the current release stores it, atomically.

    Equal input gives equal bytes.

    Args:
        path: ``*.nii.gz``; its folder is made.
        array: uint8 (H, W), rows = depth, columns = lateral; the file's axis 0 is lateral.
        spacing_mm: (2,) rows, columns.
    """
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(f"{path}: {array.dtype} of shape {array.shape}, expected uint8 (H, W)")
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    rows_mm, columns_mm = (float(value) for value in spacing_mm)
    image.SetSpacing((columns_mm, rows_mm))
    with atomic_path(path) as temporary:
        SimpleITK.WriteImage(image, str(temporary), useCompression=True)


def read_info(path):
    """Parse an ``Info_*.cfg`` file of ``key: value`` lines, of either release.

    Returns:
        Keys to values, numbers as int or float, all else as text; empty where there is no file.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    info = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        key, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise CamusError(f"{path}: line {number} is {line!r}, expected 'key: value'; mend it")
        info[key.strip()] = _typed(value.strip())
    return info


def content_digest(array):
    """Hex SHA-256 of an array's shape and values."""
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def _read(path):
    try:
        return SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CamusError(
            f"{path}: cannot be read ({reason}); the file is damaged or incomplete: {RESTORE}"
        ) from error


def _require_complete_gzip(path):
    # SimpleITK fills what is missing from a truncated .nii.gz with zeros, and says nothing.
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise CamusError(
            f"{path}: cannot be read ({error}); the file is truncated or damaged: {RESTORE}"
        ) from error


def files_of(path):
    """The files that hold an image: ``path``, and for a MetaImage header its pixels too."""
    if path.suffix != ".mhd":
        return (path,)
    return path, path.with_name(_metaimage_header(path)["ElementDataFile"])


def _require_complete_raw(path):
    header = _metaimage_header(path)
    raw = path.with_name(header["ElementDataFile"])
    if not raw.is_file():
        raise CamusFileMissing(f"{raw}: no such file, but {path.name} names it; {RESTORE}")
    if header.get("CompressedData", "False") == "True":
        return
    channels = int(header.get("ElementNumberOfChannels", "1"))
    pixels = math.prod(int(size) for size in header["DimSize"].split())
    expected = pixels * channels * _MET_BYTES.get(header["ElementType"], 1)
    if raw.stat().st_size < expected:
        raise CamusError(
            f"{raw}: {raw.stat().st_size} bytes, but {path.name} announces {expected} "
            f"(DimSize {header['DimSize']}); the file is truncated: {RESTORE}"
        )


def _metaimage_header(path):
    pairs = (line.partition("=") for line in path.read_text(encoding="latin-1").splitlines())
    header = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    missing = [key for key in ("DimSize", "ElementType", "ElementDataFile") if not header.get(key)]
    if missing:
        raise CamusError(f"{path}: not a MetaImage header, {', '.join(missing)} missing; {RESTORE}")
    return header


def _as_uint8(array, path):
    if array.dtype == np.uint8:
        return array
    if not np.array_equal(array, np.clip(np.rint(array), 0, 255)):
        raise CamusError(
            f"{path}: {array.dtype} values from {array.min()} to {array.max()}, expected whole "
            "numbers in 0..255 (uint8) as in the release; convert the file first"
        )
    return array.astype(np.uint8)


def _typed(value):
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
