"""Evaluate finished segmentation networks on a CAMUS folder: no training, no run, one command.

    python workflow/evaluate.py --data-root /path/to/CAMUS --split test
    python workflow/evaluate.py --data-root /path/to/CAMUS --split validation \\
        --weights weights/segmentation_real_all.safetensors --output runs/mine

Either release will do, also a folder that holds the split's patients alone. Frames are resized as
stage "prepared" does it, and measured as notebook 06 does it; the tables are those of stage
"evaluation", and ``evaluation.json`` says what they were made from. A file is called
``segmentation_<row>.safetensors`` after the row of the table that it stands in.
"""

import argparse
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from echo_lib import provenance
from echo_lib.checkpoints import load_weights
from echo_lib.config import ConfigError, load_profile
from echo_lib.data import camus, originals
from echo_lib.data.phantom import COHORT_FILE
from echo_lib.data.prepare import FRAME_COLUMNS, resize_image, resize_label_map
from echo_lib.distributed import device
from echo_lib.evaluation import metrics, results, table, volumes
from echo_lib.labels import SPLITS
from echo_lib.progress import Progress
from echo_lib.rows import PAPER_ROWS, Row, find_row
from echo_lib.segmentation.prediction import Network, load_network, predict
from echo_lib.segmentation.unet import require_image_size

REPOSITORY = Path(__file__).resolve().parent.parent
PREFIX = "segmentation_"
INDEX_COLUMNS = [name for name in FRAME_COLUMNS if name not in ("image", "label_map")]
RECORD = "evaluation.json"


@dataclass(frozen=True)
class Weights:
    """A network to evaluate, with what its file says of it.

    Attributes:
        path: the file.
        network: as ``prediction.predict`` takes it.
        row: of the table.
        seed: the table's, which the network was trained with.
        size_px: rows and columns of the images that it takes.
        profile: name of the profile that it was trained under; "" where the file names none.
    """

    path: Path
    network: Network
    row: Row
    seed: int
    size_px: int
    profile: str


@dataclass(frozen=True)
class Frames:
    """The N frames of a split.

    Attributes:
        index: INDEX_COLUMNS, one line per frame.
        images: size in px to (N, 1, size, size) uint8.
        truths: size in px to (N, size, size) uint8 CAMUS ids.
        digests: name to the SHA-256 of the image as it was read.
    """

    index: pd.DataFrame
    images: dict
    truths: dict
    digests: dict


def read_weights(path, *, size_px=0):
    """One file of weights as ``Weights``.

    Args:
        path: ``segmentation_<row>.safetensors``.
        size_px: of the images, whatever the file says; 0 takes what it says.

    Raises:
        ValueError: no such file or row, a size that is not known or that the layers do not fit.
    """
    path = Path(path)
    if not path.name.startswith(PREFIX):
        raise ValueError(f"{path}: expected a file called {PREFIX}<row>.safetensors")
    network, header = load_network(path, device=device()), load_weights(path)[1]
    size_px = size_px or _size_of(path, header)
    try:
        row = find_row(path.stem.removeprefix(PREFIX))
        require_image_size(network, (size_px, size_px))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # A stage is called segmentation/<row>-<seed>.
    seed = int(header["stage"].rpartition("-")[2]) if "stage" in header else 0
    return Weights(path, network, row, seed, size_px, header.get("profile", ""))


def _size_of(path, header):
    """Files shipped before the header named the size name their profile, which knows it."""
    if "image_size_px" in header:
        return header["image_size_px"]
    try:
        return load_profile(header.get("profile", "")).data.image_size_px
    except ConfigError as error:
        raise ValueError(
            f"{path}: the size of the images is not known: its header has no image_size_px, and "
            f"{error}; give --image-size"
        ) from error


def read_frames(release, split, sizes):
    """The frames of a split, resized as stage "prepared" resizes them.

    Args:
        release: from ``camus.open_release``.
        split: one of ``labels.SPLITS``.
        sizes: in px, those that the networks take.

    Raises:
        CamusError: the split is not there, empty, or holds a frame that cannot be used.
    """
    frames = camus.frames(release, split)
    if not frames:
        raise camus.CamusError(
            f"{release.root}: split {split!r} has no patients; expected one or more: fill its "
            "list, or name another split"
        )
    lines, digests = [], {}
    images, truths = {size: [] for size in sizes}, {size: [] for size in sizes}
    progress = Progress(f"{split} split", len(frames), unit="frame")
    for number, frame in enumerate(frames, start=1):
        image, label_map, spacing_mm = camus.read_frame(frame)
        for size in sizes:
            images[size].append(resize_image(image, size)[None])
            truths[size].append(resize_label_map(label_map, size))
        own = (frame.name, frame.patient, frame.view, frame.phase, split)
        lines.append((*own, *image.shape, *spacing_mm))
        digests[frame.name] = camus.content_digest(image)
        progress.show(number)
    index = pd.DataFrame(lines, columns=INDEX_COLUMNS)
    stacked = ({size: np.stack(found[size]) for size in sizes} for found in (images, truths))
    return Frames(index, *stacked, digests)


def measure(release, frames, networks):
    """Every measure of every network: per case, and per patient, as notebook 06 takes them.

    Args:
        release: that the frames come from.
        frames: ``Frames``.
        networks: ``Weights``, of a row and seed each.

    Returns:
        The data frames of ``metrics.measure`` and of ``volumes.network_volumes``.
    """
    # The paper's profile takes every patient of CAMUS; nothing else of it is read.
    run = provenance.Run(load_profile("paper"), 0, release.root, Path())
    masks = originals.load(run, frames.index)
    references = (masks.label_maps, masks.spacing_mm)
    label_maps, parts = {}, []
    for weights in networks:
        row, seed, size = weights.row.slug, weights.seed, weights.size_px
        found = predict(weights.network, frames.images[size])
        label_maps[row, seed] = found
        parts.append(
            metrics.measure(
                found,
                frames.truths[size],
                frames.index,
                row=row,
                seed=seed,
                originals=references,
                variant=weights.network.variant,
            )
        )
    ejection = volumes.network_volumes(
        label_maps, frames.index, originals=references, info=masks.ejection_fraction
    )
    return pd.concat(parts, ignore_index=True), ejection


def evaluate(data_root, split, networks, output, *, command):
    """Evaluate networks on a split, write tables and ``evaluation.json`` to ``output``.

    Args:
        data_root: the folder of CAMUS.
        split: one of ``labels.SPLITS``.
        networks: ``Weights``, of a row and seed each.
        output: the folder written to.
        command: as it was typed.

    Returns:
        The tables by name, see ``results.summaries``; and the title of Table 1.
    """
    started = time.monotonic()
    release = camus.open_release(data_root)
    frames = read_frames(release, split, sorted({weights.size_px for weights in networks}))
    cases, ejection = measure(release, frames, networks)
    own = {weights.row.slug: weights.row for weights in networks}
    rows = [*PAPER_ROWS, *(row for row in own.values() if not row.in_paper)]
    measured = results.measured_texts(cases, volumes=ejection)
    tables = results.summaries(**results.read_back(measured), rows=rows)
    face = SimpleNamespace(stamp=_stamp(release, split, networks))
    files = measured | results.table_texts(tables, face)
    (output / RECORD).unlink(missing_ok=True)  # it vouches for the files, so it is written last
    for name, text in files.items():
        provenance.write_text(output / name, text)
    record = {
        "command": command,
        "data": {"release": release.kind, "split": split} | _facts(frames),
        "weights": [_identity(weights) for weights in networks],
        **provenance.environment(device()),
        "seconds": round(time.monotonic() - started, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "outputs": {name: provenance.sha256_file(output / name) for name in sorted(files)},
    }
    provenance.write_json(output / RECORD, record)
    return tables, table.table_title(face)


def _stamp(release, split, networks):
    """What the tables say on their face."""
    profiles = ", ".join(sorted({weights.profile or "unnamed" for weights in networks}))
    phantoms = (release.root / COHORT_FILE).is_file()
    data = "phantoms in place of CAMUS" if phantoms else "CAMUS"
    return f"weights of profile {profiles} · {data} · {split} split"


def _facts(frames):
    return {
        "patients": frames.index["patient"].nunique(),
        "frames": len(frames.index),
        "images_sha256": provenance.digest(frames.digests),
        "duplicate_images": camus.group_duplicates(frames.digests.items()),
    }


def _identity(weights):
    return {
        "file": weights.path.name,
        "row": weights.row.slug,
        "seed": weights.seed,
        "profile": weights.profile,
        "image_size_px": weights.size_px,
        "sha256": provenance.sha256_file(weights.path),
    }


def _networks(paths, size_px):
    """``Weights`` of the files that were named, or of all shipped ones."""
    folder = REPOSITORY / "weights"
    paths = paths or sorted(folder.glob(f"{PREFIX}*.safetensors"))
    if not paths:
        raise ValueError(f"{folder}: no {PREFIX}*.safetensors here; name files with --weights")
    networks = [read_weights(path, size_px=size_px) for path in paths]
    found = [f"row {weights.row.slug}, seed {weights.seed}" for weights in networks]
    twice = sorted({one for one in found if found.count(one) > 1})
    if twice:
        raise ValueError(f"several files of {'; '.join(twice)}; expected one of each row and seed")
    kinds = {(weights.row.slug, weights.profile, weights.size_px) for weights in networks}
    slugs = [slug for slug, _, _ in kinds]
    mixed = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if mixed:
        raise ValueError(
            f"files of row {', '.join(mixed)} of several profiles or image sizes; expected seeds "
            "of one, evaluate the others apart"
        )
    return networks


def main(arguments=None):
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="folder of CAMUS")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--weights", type=Path, nargs="+", help="files; left out, all of weights/")
    parser.add_argument("--output", type=Path, help="left out, runs/evaluated/<split>")
    parser.add_argument("--image-size", type=int, default=0, help="px; left out, the weights' own")
    chosen = parser.parse_args(arguments)
    output = chosen.output or Path("runs", "evaluated", chosen.split)
    command = shlex.join(["python", "workflow/evaluate.py", *arguments])
    try:
        networks = _networks(chosen.weights, chosen.image_size)
        tables, title = evaluate(chosen.data_root, chosen.split, networks, output, command=command)
    except ValueError as error:
        sys.exit(str(error))
    print(table.render_text(tables["table"], title=title))
    print(f"Tables per case, row and patient, ledger, {RECORD}: {output}")


if __name__ == "__main__":
    main()
