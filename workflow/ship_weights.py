"""Put a run's finished SDMs, or networks of its table, under ``weights/``, each with a card.

    python workflow/ship_weights.py --profile reduced-cpu --name camus
    python workflow/ship_weights.py --profile reduced-cpu --rows real_all sdm_all

The card's numbers come from the stage's manifest; a test holds card and weights together. An SDM's
card shows samples where the run has drawn its synthetic images.
"""

import argparse
import json
import re
from pathlib import Path

import torch
from cards import SAMPLES, sdm_card, segmentation_card

from echo_lib.checkpoints import load_weights, save_weights
from echo_lib.config import load_profile
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.figures import sheet
from echo_lib.labels import VIEWS
from echo_lib.provenance import MANIFEST, atomic_path, sha256_file, write_text
from echo_lib.rows import find_row, seeds_of, stage_name
from echo_lib.seeding import numpy_generator

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES_SHOWN = 8


def ship(folder, view, name, *, profile, purpose):
    """Write ``weights/<name>_<view>.safetensors``, its samples and its card.

    Args:
        folder: of the run.
        view: "2CH" or "4CH".
        name: what the files' names begin with.
        profile: of the run, as on the command line.
        purpose: completes the sentence: made to ...
    """
    manifest = read_manifest(folder, f"sdm/{view}")
    tensors, header = load_weights(folder / "sdm" / view / "weights.safetensors")
    path = REPOSITORY / "weights" / f"{name}_{view}.safetensors"
    header["training"] = manifest["config"]["training"]
    header["seconds_training"] = manifest["facts"]["seconds_training"]
    header["device"] = manifest["device"]
    header["history"] = history(manifest, view)
    samples = draw_samples(folder, view, path.with_suffix(".png"), stamp=header["stamp"])
    save_weights(path, tensors, metadata=header, dtype=torch.float16)
    text = sdm_card(
        path,
        header,
        manifest,
        read_manifest(folder, "prepared"),
        profile=profile,
        parameters=sum(tensor.numel() for tensor in tensors.values()) / 1e6,
        purpose=purpose,
        samples=samples,
    )
    write_text(path.with_suffix(".md"), text)


def read_manifest(folder, stage):
    """The manifest of a stage of the run in ``folder``.

    Raises:
        SystemExit: the stage is not finished.
    """
    path = folder / stage / MANIFEST
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; finish stage {stage!r} of this run first")
    return json.loads(path.read_text(encoding="utf-8"))


def history(manifest, view):
    """Earlier trainings that the weights went through, the first one first.

    Each is the steps, batch size and learning rate behind the weights that the next one started
    from, those weights' SHA-256, and where they are known the seconds of its steps and the device;
    of the first one also the file that it began from, empty for random weights.

    Raises:
        SystemExit: the weights that this training started from are there no longer.
    """
    start = manifest["config"]["training"]["initial_weights"]
    if not start:
        return []
    path, sha256 = REPOSITORY / start.format(view=view), manifest["extra"]["initial_weights"]
    header = load_weights(path)[1] if path.is_file() else {}
    earlier = header.get("history", [])
    if path.is_file() and sha256_file(path) == sha256:
        keys = ("steps", "batch_size", "learning_rate")
        known = {key: header["training"][key] for key in keys} | _seconds(path, header)
        known |= {"device": header["device"]} if "device" in header else {}
        if not earlier:
            known["start"] = header["training"]["initial_weights"].format(view=view)
        return [*earlier, known | {"sha256": sha256}]
    if earlier and earlier[-1]["sha256"] == sha256:  # what this training gave, shipped before
        return earlier
    raise SystemExit(f"{path}: not the weights that the training started from; restore them")


def _seconds(path, header):
    """The seconds of a training's steps; of weights whose header lacks them, their card tells."""
    if "seconds_training" in header:
        return {"seconds": header["seconds_training"]}
    told = path.with_suffix(".md")
    found = told.is_file() and re.search(r"training steps (\d+) s", told.read_text("utf-8"))
    return {"seconds": int(found[1])} if found else {}


def draw_samples(folder, view, path, *, stamp):
    """Draw the samples of a card, by lot from the run's synthetic validation images of a view.

    Args:
        folder: of the run.
        view: "2CH" or "4CH".
        path: of the PNG; there is none where the run has not drawn its images.
        stamp: what the PNG says on its face.

    Returns:
        What the card says of them.

    Raises:
        SystemExit: the images were drawn by other weights.
    """
    if not (folder / "synthetic" / MANIFEST).is_file():
        path.unlink(missing_ok=True)
        return ""
    drawn, trained = (read_manifest(folder, stage) for stage in ("synthetic", f"sdm/{view}"))
    if drawn["inputs"].get(f"sdm/{view}") != trained["outputs_digest"]:
        raise SystemExit(f"{folder / 'synthetic'}: drawn by other weights of {view}; sample again")
    index = read_index(folder, "synthetic")
    index = index[(index["split"] == "validation") & (index["view"] == view)]
    lots = numpy_generator("samples of the card", drawn["seed"], view).permutation(len(index))
    pairs = load_pairs(folder, index.iloc[lots[:SAMPLES_SHOWN]])
    rows = {
        "label map": ("label maps", None, pairs.label_maps),
        "synthetic": ("images", pairs.images[:, 0], None),
    }
    titles = [name.removeprefix("patient") for name in pairs.names]
    figure = sheet.draw(rows, titles, stamp_text=stamp)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200, metadata={"Software": None})
    used = {key: drawn["config"]["sampling"][key] for key in ("sampler", "steps")}
    return SAMPLES.format(file=path.name, n=len(pairs), total=len(index), **used)


def ship_segmentation(folder, slug, *, profile, purpose):
    """Write ``weights/segmentation_<row>.safetensors`` and its card, of the row's first seed.

    Args:
        folder: of the run.
        slug: of the row.
        profile: of the run, as on the command line.
        purpose: completes the sentence: made to ...; None says what the row is for.

    Raises:
        SystemExit: a stage is not finished, or the run is one on phantoms.
    """
    row = find_row(slug)
    data = read_manifest(folder, "prepared")["config"]["data"]
    if data["source"] != "camus":
        raise SystemExit(
            f"{folder}: a run on {data['source']} data; expected one on CAMUS, for the cards of "
            "segmentation networks speak of it: give the --profile of such a run"
        )
    stage = stage_name(slug, seeds_of(row, load_profile(profile).segmentation)[0])
    manifest = read_manifest(folder, stage)
    tensors, header = load_weights(folder / stage / "weights.safetensors")
    header["image_size_px"] = data["image_size_px"]
    path = REPOSITORY / "weights" / f"segmentation_{slug}.safetensors"
    save_weights(path, tensors, metadata=header)
    text = segmentation_card(
        path,
        row,
        manifest,
        profile=profile,
        size_px=data["image_size_px"],
        purpose=purpose,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
    )
    write_text(path.with_suffix(".md"), text)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    parser.add_argument("--name", help="SDMs: files are called NAME_2CH, NAME_4CH")
    parser.add_argument("--rows", nargs="+", default=[], help="networks of these rows of the table")
    parser.add_argument("--purpose", help="completes the sentence: made to ...")
    chosen = parser.parse_args(arguments)
    folder = chosen.run_root / load_profile(chosen.profile).name
    if bool(chosen.name) == bool(chosen.rows):
        parser.error("give --name for the SDMs, or --rows for segmentation networks")
    for slug in chosen.rows:
        ship_segmentation(folder, slug, profile=chosen.profile, purpose=chosen.purpose)
    for view in VIEWS if chosen.name else ():
        purpose = chosen.purpose or "draw echocardiograms from label maps"
        ship(folder, view, chosen.name, profile=chosen.profile, purpose=purpose)


if __name__ == "__main__":
    main()
