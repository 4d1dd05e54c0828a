"""EchoNet-Dynamic (D. Ouyang et al., Nature 580, 2020): the paper's external test of the LV.

Read as released: ``FileList.csv`` (a line per video), ``VolumeTracings.csv`` (X1 Y1 X2 Y2 Frame:
of each traced frame the first line is the long axis, the rest are short-axis chords) and
``Videos/*.avi``, apical four-chamber views of 112 x 112 pixels.
"""

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pandas as pd
from PIL import Image

FILE_LIST = (
    "FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split",
)  # fmt: skip
TRACINGS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
SPLITS = ("TRAIN", "VAL", "TEST")
_SHOWN = 8  # problems named in one message


class EchoNetError(ValueError):
    """EchoNet-Dynamic data that cannot be used; the message names file, finding and remedy."""


@dataclass(frozen=True)
class EchoNet:
    """End-diastolic frames with the experts' left ventricle.

    Attributes:
        index: data frame of N lines: name, patient, view ("4CH"), phase ("ED"), frame, split.
        images: (N, 1, S, S) uint8 grey.
        masks: (N, S, S) bool, True inside the left ventricle.
        untraced: names of the split's videos without two traced frames; they are left out.
    """

    index: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray
    untraced: tuple


def load(folder, *, size_px, split="TEST", limit=0):
    """The end-diastolic frame of every traced video of a split.

    Args:
        folder: holds FileList.csv, VolumeTracings.csv and Videos/.
        size_px: frames are resized to this many rows and columns, from 112.
        split: of SPLITS.
        limit: at most so many videos, the first by name; 0 takes all.

    Raises:
        EchoNetError: a file, column, video or value that does not fit; all that were found.
    """
    folder = Path(folder)
    videos = read_file_list(folder, split)
    traces = read_tracings(folder, set(videos))
    untraced = tuple(name for name in sorted(videos) if len(traces.get(name, {})) < 2)
    names = [name for name in sorted(videos) if name not in untraced]
    names = names[:limit] if limit else names
    if not names:
        raise EchoNetError(
            f"{folder}: no traced video of split {split!r}; expected some in VolumeTracings.csv"
        )
    _require_videos(folder, names)
    lines, images, masks = [], [], []
    for name in names:
        frame, polygon = end_diastole(traces[name])
        grey = read_frame(folder / "Videos" / f"{name}.avi", frame)
        images.append(_resized(grey, size_px))
        masks.append(fill_polygon(_scaled(polygon, grey.shape, size_px), (size_px, size_px)))
        lines.append((name, name, "4CH", "ED", frame, split))
    index = pd.DataFrame(lines, columns=["name", "patient", "view", "phase", "frame", "split"])
    return EchoNet(index, np.stack(images)[:, None], np.stack(masks), untraced)


def read_file_list(folder, split):
    """Names of a split's videos, without suffix, to their lines of FileList.csv.

    Raises:
        EchoNetError: another header, an unknown split, a name listed twice.
    """
    if split not in SPLITS:
        raise EchoNetError(f"split {split!r}, expected one of {SPLITS}")
    path = Path(folder) / "FileList.csv"
    videos, problems = {}, []
    for number, line in _lines(path, FILE_LIST):
        name = line["FileName"].removesuffix(".avi")
        if name in videos:
            problems.append(f"line {number}: {name} is listed twice")
        if line["Split"] not in SPLITS:
            problems.append(f"line {number}: Split {line['Split']!r}, expected one of {SPLITS}")
        videos[name] = line
    _raise(path, problems)
    return {name: line for name, line in videos.items() if line["Split"] == split}


def read_tracings(folder, names):
    """Traced frames of the videos in ``names``: name to frame number to lines (n, 4) float.

    A line is X1, Y1, X2, Y2 in pixels, columns before rows; the order of the file is kept.

    Raises:
        EchoNetError: another header, or lines that are not numbers; each is named.
    """
    path = Path(folder) / "VolumeTracings.csv"
    traces, problems = defaultdict(lambda: defaultdict(list)), []
    for number, line in _lines(path, TRACINGS):
        name = line["FileName"].removesuffix(".avi")
        if name not in names:
            continue
        try:
            values = [float(line[key]) for key in TRACINGS[1:5]]
            frame = int(line["Frame"])
        except (TypeError, ValueError):
            values, frame = [math.nan], -1
        if not all(map(math.isfinite, values)) or frame < 0:
            problems.append(f"line {number} ({name}): {list(line.values())}, expected five numbers")
            continue
        traces[name][frame].append(values)
    for name, frames in traces.items():
        problems += [
            f"{name}, frame {frame}: {len(lines)} lines, expected a long axis and 2 or more chords"
            for frame, lines in frames.items()
            if len(lines) < 3
        ]
    _raise(path, problems)
    return {n: {f: np.array(x) for f, x in frames.items()} for n, frames in traces.items()}


def end_diastole(traced):
    """(frame number, polygon) of the traced frame with the larger ventricle.

    Args:
        traced: frame number to lines (n, 4), of one video.
    """
    polygons = {frame: polygon_of(lines) for frame, lines in traced.items()}
    frame = max(sorted(polygons), key=lambda number: polygon_area(polygons[number]))
    return frame, polygons[frame]


def polygon_of(lines):
    """The outline (2 n - 2, 2), x then y: down one end of the chords and up the other."""
    chords = lines[1:]
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def polygon_area(polygon):
    """Area in square pixels, by the shoelace formula."""
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def fill_polygon(polygon, shape):
    """Bool mask (rows, columns) of the pixels whose centre lies inside, by the even-odd rule.

    Args:
        polygon: (n, 2) x, y in pixels; the centre of pixel (row, column) is at x = column, y = row.
        shape: (rows, columns).
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    inside = np.zeros(shape, dtype=bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def read_frame(path, number):
    """Frame ``number``, counted from 0, of a video as (H, W) uint8 grey.

    Raises:
        EchoNetError: the file cannot be decoded or is shorter.
    """
    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if count == number:
                    return frame.to_ndarray(format="gray")
                count += 1
    except av.FFmpegError as error:
        raise EchoNetError(f"{path}: not a readable video ({error}); download it again") from error
    raise EchoNetError(
        f"{path}: {count} frames, but frame {number} is traced; download the video again"
    )


def _lines(path, header):
    """(line number, record) of a CSV file whose header is ``header``, exactly."""
    if not path.is_file():
        raise EchoNetError(
            f"{path}: no such file; expected the folder of EchoNet-Dynamic with FileList.csv, "
            "VolumeTracings.csv and Videos/"
        )
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        found = tuple(reader.fieldnames or ())
        if found != header:
            raise EchoNetError(f"{path}: columns {found}, expected {header}")
        yield from enumerate(reader, start=2)


def _require_videos(folder, names):
    missing = [name for name in names if not (folder / "Videos" / f"{name}.avi").is_file()]
    _raise(folder / "Videos", [f"{name}.avi is missing" for name in missing])


def _raise(path, problems):
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise EchoNetError(
            f"{path}: {'; '.join(problems[:_SHOWN])}{more}; restore the file from the release"
        )


def _resized(grey, size_px):
    resized = Image.fromarray(grey).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _scaled(polygon, shape, size_px):
    """The polygon in a frame of ``size_px``; pixel centres lie at whole numbers in both."""
    scale = size_px / np.array([shape[1], shape[0]])
    return (polygon + 0.5) * scale - 0.5
