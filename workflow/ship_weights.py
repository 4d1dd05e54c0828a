"""Put a run's finished SDMs, or networks of its table, under ``weights/``, each with a card.

    python workflow/ship_weights.py --profile reduced-cpu --name camus
    python workflow/ship_weights.py --profile reduced-cpu --rows real_all sdm_all

The card's numbers come from the stage's manifest; a test holds card and weights together.
"""

import argparse
import json
from pathlib import Path

import torch

from echo_lib.checkpoints import load_weights, save_weights
from echo_lib.config import load_profile
from echo_lib.labels import VIEWS
from echo_lib.provenance import sha256_file, write_text
from echo_lib.rows import find_row, stage_name

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = {
    "phantom": (
        "{n} phantoms drawn by `echo_lib.data.phantom` with seed {seed}: no patient's data.",
        "MIT, as the code.",
    ),
    "camus": (
        "{n} end-diastolic frames of the CAMUS training list, resized. S. Leclerc et al., Deep "
        "Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography, IEEE "
        "TMI 38(9), 2019, doi 10.1109/TMI.2019.2900516.",
        "CC BY-NC-SA 4.0, as the data: non-commercial research only.",
    ),
}
CARD = """# {file}

Semantic diffusion model of the {view} view, {parameters:.1f} M parameters, float16, made to
{purpose}.

* **Data.** {data}
* **Licence of these weights.** {licence}
* **Recipe.** {size} px, prediction {prediction}, {steps} steps of {batch} images, AdamW at
  {rate} annealed to 0, EMA {ema}, started from {start}. The whole config is in the file's header.
{history}* **Compute.** {seconds:.0f} s on {device}, of which training steps {training:.0f} s.
* **Seed.** {seed}. Made at commit `{commit}`{dirty}, torch {torch}.
* **SHA-256.** `{sha}`
* **Limits.** Small and briefly trained: texture is coarser than a scanner's, rare anatomy is not
  covered, and a label map far from the training maps may not be followed.
* **Not for** diagnosis, measurement in patients, or passing off images as real.
"""


def ship(folder, view, name, *, purpose):
    """Write ``weights/<name>_<view>.safetensors`` and its card from the run in ``folder``."""
    stage = folder / "sdm" / view
    manifest = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
    tensors, header = load_weights(stage / "weights.safetensors")
    path = REPOSITORY / "weights" / f"{name}_{view}.safetensors"
    header["training"] = manifest["config"]["training"]
    header["history"] = history(manifest, view)
    save_weights(path, tensors, metadata=header, dtype=torch.float16)
    write_text(path.with_suffix(".md"), card(path, tensors, header, manifest, folder, purpose))


def history(manifest, view):
    """Earlier trainings that the weights went through, the first one first.

    Each is the steps, batch size and learning rate behind the weights that the next one started
    from, and those weights' SHA-256.

    Raises:
        SystemExit: the weights that this training started from are there no longer.
    """
    start, expected = manifest["config"]["training"]["initial_weights"], manifest["extra"]
    if not start:
        return []
    path = REPOSITORY / start.format(view=view)
    if not path.is_file() or sha256_file(path) != expected["initial_weights"]:
        raise SystemExit(f"{path}: not the weights that the training started from; restore them")
    _, header = load_weights(path)
    keys = ("steps", "batch_size", "learning_rate")
    known = {key: header["training"][key] for key in keys}
    return [*header.get("history", []), known | {"sha256": expected["initial_weights"]}]


def _told(entry):
    return (
        f"* **Before that.** {entry['steps']} steps of {entry['batch_size']} images at "
        f"{entry['learning_rate']}, which gave weights of SHA-256 `{entry['sha256'][:16]}`.\n"
    )


def card(path, tensors, header, manifest, folder, purpose):
    """The model card, from the manifest of the stage that trained the weights."""
    prepared = json.loads((folder / "prepared" / "manifest.json").read_text(encoding="utf-8"))
    training, source = manifest["config"]["training"], prepared["config"]["data"]["source"]
    data, licence = DATA[source]
    view = path.stem.rpartition("_")[2]
    n = prepared["facts"]["frames"]["training"][f"{view}_ED"]
    return CARD.format(
        file=path.name,
        view=view,
        parameters=sum(tensor.numel() for tensor in tensors.values()) / 1e6,
        purpose=purpose,
        data=data.format(n=n, seed=manifest["seed"]),
        licence=licence,
        size=prepared["config"]["data"]["image_size_px"],
        prediction=manifest["config"]["diffusion"]["prediction"],
        steps=training["steps"],
        batch=training["batch_size"],
        rate=training["learning_rate"],
        ema=training["ema_decay"],
        start=training["initial_weights"].format(view=view) or "random weights",
        history="".join(map(_told, reversed(header["history"]))),
        training=manifest["facts"]["seconds_training"],
        sha=sha256_file(path),
        **_made(manifest),
    )


SEGMENTATION_CARD = """# {file}

Segmentation network of the row "{name}" of Table 1, {parameters:,} parameters, float32, made to
{purpose}.

* **Data.** {data}
* **Licence of these weights.** {licence}
* **Input and output.** One grey image of {size} x {size} px; background, LV cavity, myocardium,
  left atrium. Read by `echo_lib.segmentation.prediction.load_network`.
* **Recipe.** {epochs} epochs of {images} images in batches of {batch}, Adam at {rate} annealed to
  {final}, loss {loss}, variant {variant}; the epoch with the best Dice ({dice:.1f} %) on training
  patients held out. The network's header says its layers and normalisation.
* **Compute.** {seconds:.0f} s on {device}.
* **Seed.** {seed} of the run, {table_seed} of the table. Made at commit `{commit}`{dirty}, torch
  {torch}.
* **SHA-256.** `{sha}`
* **Limits.** Small and made for one data set; frames of another scanner are not what it knows.
* **Not for** diagnosis or measurement in patients.
"""
PAIRS = {
    "real": "{n} frames of the CAMUS training list, with the experts' labels, resized.",
    "synthetic": "{n} synthetic images of SDMs trained on CAMUS, with the label maps behind them.",
}


def ship_segmentation(folder, slug, *, purpose):
    """Write ``weights/segmentation_<row>.safetensors`` and its card, of the table's first seed."""
    profile = load_profile(folder / "profile.yaml")
    config, row = profile.segmentation, find_row(slug)
    stage = folder / stage_name(slug, config.table_seeds[0])
    manifest = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
    tensors, header = load_weights(stage / "weights.safetensors")
    path = REPOSITORY / "weights" / f"segmentation_{slug}.safetensors"
    save_weights(path, tensors, metadata=header)
    facts = manifest["facts"]
    text = SEGMENTATION_CARD.format(
        file=path.name,
        name=row.name,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        purpose=purpose,
        data=" ".join(PAIRS[s].format(n=facts["training_pairs"]) for s in row.sources),
        licence=DATA["camus"][1],
        size=profile.data.image_size_px,
        epochs=config.epochs,
        images=config.images_per_epoch or facts["training_pairs"],
        batch=config.batch_size,
        rate=config.learning_rate,
        final=config.final_learning_rate,
        loss=config.loss,
        variant=config.variant,
        dice=100 * facts["validation_dice"],
        table_seed=config.table_seeds[0],
        sha=sha256_file(path),
        **_made(manifest),
    )
    write_text(path.with_suffix(".md"), text)


def _made(manifest):
    """What the cards say of how a stage was run."""
    return {
        "seconds": manifest["seconds"],
        "device": manifest["device"],
        "seed": manifest["seed"],
        "commit": manifest["commit"][:12],
        "dirty": " with local changes" if manifest["dirty"] else "",
        "torch": manifest["versions"]["torch"],
    }


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
        purpose = chosen.purpose or "segment echocardiograms, and judge synthetic ones"
        ship_segmentation(folder, slug, purpose=purpose)
    for view in VIEWS if chosen.name else ():
        purpose = chosen.purpose or "draw echocardiograms from label maps"
        ship(folder, view, chosen.name, purpose=purpose)


if __name__ == "__main__":
    main()
