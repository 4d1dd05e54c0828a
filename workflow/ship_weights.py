"""Put a finished SDM of a run under ``weights/``: float16 safetensors and a model card.

    python workflow/ship_weights.py --profile reduced-cpu --name camus

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
        seconds=manifest["seconds"],
        training=manifest["facts"]["seconds_training"],
        device=manifest["device"],
        seed=manifest["seed"],
        commit=manifest["commit"][:12],
        dirty=" with local changes" if manifest["dirty"] else "",
        torch=manifest["versions"]["torch"],
        sha=sha256_file(path),
    )


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    parser.add_argument("--name", required=True, help="files are called NAME_2CH, NAME_4CH")
    parser.add_argument("--purpose", default="draw echocardiograms from label maps")
    chosen = parser.parse_args(arguments)
    for view in VIEWS:
        folder = chosen.run_root / load_profile(chosen.profile).name
        ship(folder, view, chosen.name, purpose=chosen.purpose)


if __name__ == "__main__":
    main()
