"""The paper's released synthetic images, imported as a run's stage "synthetic".

    python -m echo_lib.data.released_archive SDM_generated_data --profile paper --data-root CAMUS

The networks of Table 1 then train on the authors' own images, and no SDM is trained. Images and
annotations are paired by name. Some folders hold annotations of four classes (CAMUS ids), some of
five with the sector (SDM ids); which ones is read off every map, and what is neither is refused.
"""

import argparse
import re
import warnings
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from echo_lib import cli, labels
from echo_lib.data import camus
from echo_lib.data.prepare import resize_image, resize_label_map
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, atomic_path, digest, sha256_file, write_text

DATASETS = {
    "2_chamber_end_diastole": ("2CH", "ED"),
    "2_chamber_end_systole": ("2CH", "ES"),
    "4_chamber_end_diastole": ("4CH", "ED"),
    "4_chamber_end_systole": ("4CH", "ES"),
}
COMBINED = "all_frames_combined"
SPLITS = ("training", "validation")  # networks are tested on real frames
CAMUS_MAPS, SECTOR_MAPS = "4 classes", "5 classes with sector"
ORIGIN = "released data archive"
PAIR_COLUMNS = ["name", "patient", "view", "phase", "split", "image", "label_map"]
_NAME = re.compile(r"(patient\d+)_(2CH|4CH)_(ED|ES)(?:_(training|validation|testing))?_(\d+)")
NUMBERING = (
    "the archive's patients are numbered as in the first release of CAMUS. In the current release "
    "the same number is another patient, so its splits say nothing about these images: one of them "
    "may show a patient on whom a network is tested"
)


class ArchiveError(ValueError):
    """An archive that cannot be used; the message names the files and the remedy."""


def import_archive(archive, run):
    """Bring the archive's training and validation pairs into a run as its stage "synthetic".

    Args:
        archive: the folder that holds the datasets, or the one above it.
        run: ``provenance.Run`` on CAMUS.

    Returns:
        The stage's manifest; ``extra`` holds where the images came from.

    Raises:
        ArchiveError: no such layout, files without a partner, or label maps that are neither of
            the two kinds.
    """
    if run.profile.data.source != "camus":
        raise ArchiveError(
            f"profile {run.profile.name!r} runs on {run.profile.data.source}s, the archive's "
            "images are of CAMUS; choose a profile with data.source camus (paper, reduced)"
        )
    root = find_root(archive)
    pairs = list_pairs(root)
    kinds = kinds_of_datasets(pairs)
    stage = Stage.open(
        run, "synthetic",
        config={},
        extra={
            "origin": ORIGIN,
            "archive": _content(pairs, root),
            "image_size_px": run.profile.data.image_size_px,
            "importer": sha256_file(__file__),
        },
    )  # fmt: skip
    _warn_of_numbering(run, pairs)
    return stage.finished() or _import(stage, pairs, kinds)


def find_root(archive):
    """The folder that holds the datasets: ``archive`` itself, or one directly below it."""
    archive = Path(archive)
    known = (*DATASETS, COMBINED)
    for folder in (archive, archive / "SDM_generated_data"):
        if any((folder / name / "images").is_dir() for name in known):
            return folder
    raise ArchiveError(
        f"{archive}: none of {', '.join(known)} with a folder images is there; expected the "
        "released archive, unpacked (SDM_generated_data)"
    )


def list_pairs(root):
    """The training and validation pairs of all datasets, each name once.

    What is in the combined dataset and in one of the other four is taken from the latter.

    Returns:
        A data frame sorted by name: name, patient, view, phase, split, dataset, and the files
        image, label_map and sector ("" where the archive has no sector annotation).
    """
    lines = {}
    for dataset in (*DATASETS, COMBINED):
        for split in SPLITS:
            for line in _pairs_of(root, dataset, split):
                known = lines.setdefault(line["name"], line)
                if known["split"] != split:
                    raise ArchiveError(
                        f"{line['image']}: {known['image']} bears the same name in another split; "
                        "unpack the archive again"
                    )
    missing = [split for split in SPLITS if split not in {line["split"] for line in lines.values()}]
    if missing:
        raise ArchiveError(f"{root}: no pairs for {', '.join(missing)}; unpack the archive again")
    sectors = _files(root / COMBINED / "sector_annotations", SPLITS)
    for name, line in lines.items():
        line["sector"] = sectors.get(name, "")
    return pandas.DataFrame([lines[name] for name in sorted(lines)])


def _pairs_of(root, dataset, split):
    images = _files(root / dataset / "images", (split,))
    maps = _files(root / dataset / "annotations", (split,))
    alone = [(images | maps)[name] for name in sorted(images.keys() ^ maps.keys())]
    if alone:
        raise ArchiveError(
            f"{root / dataset}: {len(alone)} {split} files without a partner of the same name in "
            f"images and annotations: {_first(alone)}; unpack the archive again"
        )
    for name, path in images.items():
        yield _identity(path, dataset, split) | {"image": path, "label_map": maps[name]}


def _files(folder, splits):
    """Name to path of the PNG files of some splits."""
    paths = [path for split in splits for path in sorted((folder / split).glob("[!.]*.png"))]
    return {path.stem: path for path in paths}


def _identity(path, dataset, split):
    match = _NAME.fullmatch(path.stem)
    if not match:
        raise ArchiveError(f"{path}: expected a name like patient0001_2CH_ED_{split}_0.png")
    patient, view, phase, named_split, _ = match.groups()
    if (view, phase) != DATASETS.get(dataset, (view, phase)) or split != (named_split or split):
        raise ArchiveError(
            f"{path}: its name says {view} {phase} {named_split or split}, its folder {dataset} "
            f"{split}; unpack the archive again"
        )
    line = {"name": path.stem, "patient": patient, "view": view, "phase": phase, "split": split}
    return line | {"dataset": dataset}


def kind_of_map(label_map, where):
    """Which ids a label map bears: CAMUS_MAPS, SECTOR_MAPS, or None where it does not say.

    Only the map with the sector has a fourth structure. Without it (no atrium in view) the wall
    tells: it surrounds the cavity, and is 2 among CAMUS ids, where 2 else is the sector.

    Args:
        label_map: (H, W) integers.
        where: the file, for the message.
    """
    values = np.unique(label_map)
    if values.min() < 0 or values.max() > labels.SDM_LA:
        raise ArchiveError(
            f"{where}: label values {values.tolist()[:8]}, expected 0..3 (CAMUS ids) or 0..4 (with "
            "the sector); is it an image?"
        )
    if values.max() == labels.SDM_LA:
        return SECTOR_MAPS
    walls = {
        CAMUS_MAPS: _contacts(label_map, labels.CAMUS_LV, labels.CAMUS_MYOCARDIUM),
        SECTOR_MAPS: _contacts(label_map, labels.SDM_LV, labels.SDM_MYOCARDIUM),
    }
    if walls[CAMUS_MAPS] == walls[SECTOR_MAPS]:
        return None
    return max(walls, key=walls.get)


def _contacts(label_map, a, b):
    """How many neighbouring pixels bear ``a`` and ``b``."""
    pairs = ((label_map[1:], label_map[:-1]), (label_map[:, 1:], label_map[:, :-1]))
    return sum(int(((p == a) & (q == b) | (p == b) & (q == a)).sum()) for p, q in pairs)


def kinds_of_datasets(pairs):
    """The one kind of label map that each dataset of ``list_pairs`` holds.

    Raises:
        ArchiveError: a dataset holds both kinds, or none of its maps tells.
    """
    kinds = {}
    for dataset, group in pairs.groupby("dataset", sort=False):
        examples = {}
        for path in group["label_map"]:
            examples.setdefault(kind_of_map(read_png(path), path), path)
        examples.pop(None, None)
        if len(examples) != 1:
            seen = "; ".join(f"{path} has {kind}" for kind, path in examples.items())
            raise ArchiveError(
                f"{dataset}: expected label maps of one kind, found "
                f"{seen or 'none with a cavity in its wall'}; take the annotations from one source"
            )
        kinds[dataset] = next(iter(examples))
    return kinds


def read_png(path):
    """A PNG as (H, W) integers; colours are taken where they are grey."""
    with Image.open(path) as file:
        array = np.array(file)
    if array.ndim == 3 and (array[..., :3] == array[..., :1]).all():
        array = array[..., 0]
    if array.ndim != 2:
        raise ArchiveError(f"{path}: PNG in colour, expected grey values")
    return array.astype(np.uint8) if array.dtype == bool else array


def _import(stage, pairs, kinds):
    size, lines, files = stage.run.profile.data.image_size_px, [], []
    progress = Progress("Importing the archive", len(pairs), unit="pair")
    for number, pair in enumerate(pairs.to_dict("records"), start=1):
        group = f"{pair['split']}/{pair['view']}_{pair['phase']}/{pair['name']}.png"
        line = pair | {key: f"synthetic/{key}s/{group}" for key in ("image", "label_map")}
        paths = [stage.run.folder / line[key] for key in ("image", "label_map")]
        if not all(path.is_file() for path in paths):
            for path, array in zip(paths, _read(pair, kinds[pair["dataset"]], size), strict=True):
                with atomic_path(path) as temporary:
                    Image.fromarray(array).save(temporary)
        lines.append(line)
        files += paths
        progress.show(number)
    index = stage.folder / "pairs.csv"
    write_text(index, pandas.DataFrame(lines)[PAIR_COLUMNS].to_csv(index=False))
    counts = pairs.groupby(["split", "view", "phase"]).size()
    facts = {
        "images": len(pairs),
        "origin": ORIGIN,
        "label_maps": kinds,
        "counts": {" ".join(key): int(count) for key, count in counts.items()},
    }
    return stage.finish([*files, index], facts=facts)


def _read(pair, kind, size_px):
    """Image and five-class label map of a pair, in the run's size."""
    image, label_map = read_png(pair["image"]), read_png(pair["label_map"]).astype(np.uint8)
    if image.shape != label_map.shape or image.dtype != np.uint8:
        raise ArchiveError(
            f"{pair['image']}: {image.shape} {image.dtype}, its annotation {label_map.shape}; "
            "expected 8-bit grey of one shape"
        )
    if kind == CAMUS_MAPS:
        sector = np.ones(label_map.shape, bool)
        if pair["sector"]:
            sector = read_png(pair["sector"]) != labels.SDM_OUTSIDE
        label_map = labels.add_sector(label_map, sector)
    return resize_image(image, size_px), resize_label_map(label_map, size_px)


def _content(pairs, root):
    files = {path for key in ("image", "label_map", "sector") for path in pairs[key] if path}
    return digest({path.relative_to(root).as_posix(): sha256_file(path) for path in files})


def _warn_of_numbering(run, pairs):
    """Say so where the archive's patients are not those of the run's splits."""
    splits = pairs.groupby("patient")["split"].nunique()
    if (splits > 1).any():
        both = _first(list(splits.index[splits > 1]))
        warnings.warn(f"patients in training and validation of the archive: {both}", stacklevel=3)
    if run.data_root is None or camus.open_release(run.data_root).kind != camus.FIRST:
        warnings.warn(NUMBERING, stacklevel=3)


def _first(things):
    return ", ".join(map(str, things[:5])) + (", ..." if len(things) > 5 else "")


def main(argv=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the unpacked archive, SDM_generated_data")
    cli.add_run_arguments(parser)
    options = parser.parse_args(argv)
    facts = import_archive(options.archive, cli.run_from(options))["facts"]
    print(f"synthetic: {facts['images']} pairs from the {ORIGIN}")
    for dataset, kind in facts["label_maps"].items():
        print(f"  {dataset}: label maps of {kind}")
    for group, count in facts["counts"].items():
        print(f"  {group}: {count}")


if __name__ == "__main__":
    main()
