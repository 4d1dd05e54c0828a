"""The model cards of shipped weights: what they say, from the manifests of a run's stages."""

import json
import shlex
from dataclasses import replace

from echo_lib.config import as_dict, load_profile
from echo_lib.provenance import sha256_file
from echo_lib.rows import config_of
from echo_lib.segmentation.variants import VARIANTS

SDM_CARD = """# {file}

Semantic diffusion model of the {view} view, {parameters:.1f} M parameters, float16, made to
{purpose}.

{samples}* **Data.** {data}
* **Licence of these weights.** {licence}
* **Recipe.** {size} px, prediction {prediction}, {steps} steps of {batch} images, AdamW at
  {rate} annealed to 0, EMA {ema}, started from {start}. The whole config is in the file's header.
{history}* **Compute.** {seconds:.0f} s on {device}, of which training steps {training:.0f} s.
* **Command.** `{command}`, after `prepared` of the same run{restored}.
* **Seed.** {seed}. Made at commit `{commit}`{dirty}, torch {torch}.
* **SHA-256.** `{sha}`
* **Limits.** Small and briefly trained: texture is coarser than a scanner's, rare anatomy is not
  covered, and a label map far from the training maps may not be followed. From the label map of a
  frame that it was trained on, an image may come nearer to that frame than to any other
  (`python -m echo_lib.sdm.copies`, docs/shortfall.md).
* **Not for** diagnosis, measurement in patients, or passing off images as real.
"""
SAMPLES = """![Label maps above, images below]({file})

Label maps of the validation split, transformed, and what these weights draw from them: {n} of
{total} images of this view, by lot ({sampler}, {steps} steps).

"""
RESTORED = ", from the file of that SHA-256: an earlier one of this name, in git's history"
SEGMENTATION_CARD = """# {file}

Segmentation network of the row "{name}" (`{row}`) {place} Table 1, {parameters:,} parameters,
float32, made to {purpose}.

* **Data.** {data}
* **Licence of these weights.** {licence}
* **Input and output.** One grey image of {size} x {size} px; background, LV cavity, myocardium,
  left atrium. Read by `echo_lib.segmentation.prediction.load_network`.
* **Recipe.** {epochs} epochs of {images} images in batches of {batch}, Adam at {rate} annealed to
  {final}, loss {loss}, variant {variant}, started from {start}; the epoch with the best Dice
  ({dice:.1f} %) on {chosen_on}. The file's header says layers, image size and normalisation.
* **Compute.** {seconds:.0f} s on {device}.
* **Command.** `{command}`, after {stages} of the same run.
* **Seed.** {seed} of the run, {table_seed} of the table. Made at commit `{commit}`{dirty}, torch
  {torch}.
* **SHA-256.** `{sha}`
* **Limits.** Small and made for one data set; frames of another scanner are not what it knows.
* **Not for** diagnosis or measurement in patients.
"""
CAMUS = (
    "CAMUS: S. Leclerc et al., Deep Learning for Segmentation using an Open Large-Scale Dataset in "
    "2D Echocardiography, IEEE TMI 38(9), 2019, doi 10.1109/TMI.2019.2900516."
)
# The data behind an SDM and its licence, by the profile's data.source.
DATA = {
    "phantom": (
        "{n} phantoms drawn by `echo_lib.data.phantom` with seed {seed}: no patient's data.",
        "MIT, as the code.",
    ),
    "camus": (
        "{n} frames ({phases}) of the CAMUS training list, resized. " + CAMUS,
        "CC BY-NC-SA 4.0, as the data: non-commercial research only.",
    ),
}
# The pairs behind a segmentation network of CAMUS, by the row's sources.
PAIRS = {
    "real": "frames of the CAMUS training list, resized, with the experts' labels",
    "synthetic": "synthetic images of SDMs trained on CAMUS, with the label maps behind them",
    "cyclegan": "slices of heart meshes made into images by a CycleGAN trained on CAMUS, with the "
    "labels of the meshes",
}
CHOSEN_ON = {"validation": "training patients held out", "test": "the validation split"}
JUDGE = "real_all"  # the row whose network says whether synthetic images follow their maps
# Keys that no weight depends on; a manifest does not hold the profile's values of them.
FREE = {
    "checkpoint_activations", "checkpoint_every", "preview_every", "table_seeds", "extra_seeds",
    "extra_rows",
}  # fmt: skip


def sdm_card(path, header, manifest, prepared, *, profile, **texts):
    """The card of an SDM.

    Args:
        path: of the weights as they are shipped.
        header: theirs, with view and history.
        manifest, prepared: of the stage that trained them, and of stage "prepared".
        profile: of the run, as on the command line.
        texts: parameters (in millions), purpose and samples.
    """
    config, view = manifest["config"], header["view"]
    training, own = config["training"], as_dict(load_profile(profile).sdm)
    data, licence = DATA[prepared["config"]["data"]["source"]]
    frames = prepared["facts"]["frames"]["training"]
    n = sum(frames[f"{view}_{phase}"] for phase in training["phases"])
    start = manifest["extra"].get("initial_weights")
    is_own = training["initial_weights"].format(view=view) == f"weights/{path.name}"
    sections = {f"sdm.{key}": (values, own[key]) for key, values in config.items()}
    return SDM_CARD.format(
        file=path.name,
        view=view,
        data=data.format(n=n, phases=" and ".join(training["phases"]), seed=manifest["seed"]),
        licence=licence,
        size=prepared["config"]["data"]["image_size_px"],
        prediction=config["diffusion"]["prediction"],
        steps=training["steps"],
        batch=training["batch_size"],
        rate=training["learning_rate"],
        ema=training["ema_decay"],
        start=f"weights of SHA-256 `{start[:16]}`" if start else "random weights",
        restored=RESTORED if is_own else "",
        history="".join(map(_told, reversed(header["history"]))),
        training=manifest["facts"]["seconds_training"],
        command=command_of("sdm", manifest, profile, ["--view", view], sections),
        sha=sha256_file(path),
        **texts,
        **_made(manifest),
    )


def _told(entry):
    seconds = f", {entry['seconds']:.0f} s" if "seconds" in entry else ""
    seconds += f" on {entry['device']}" if "device" in entry else ""
    begun = f", begun from `{entry['start']}`" if entry.get("start") else ""
    return (
        f"* **Before that.** {entry['steps']} steps of {entry['batch_size']} images at "
        f"{entry['learning_rate']}{seconds}{begun}, which gave weights of SHA-256 "
        f"`{entry['sha256'][:16]}`.\n"
    )


def segmentation_card(path, row, manifest, *, profile, size_px, purpose, parameters):
    """The card of a network of ``row`` that was trained on CAMUS.

    Args:
        path: of the weights as they are shipped.
        row: a ``rows.Row``.
        manifest: of the stage that trained them.
        profile: of the run, as on the command line.
        size_px: of the images.
        purpose: completes the sentence: made to ...; None says what the row is for.
        parameters: their number.
    """
    config, facts = manifest["config"]["segmentation"], manifest["facts"]
    n, judges = facts["training_pairs"], ", and judge synthetic ones" if row.slug == JUDGE else ""
    return SEGMENTATION_CARD.format(
        file=path.name,
        name=row.name,
        row=row.slug,
        place="of" if row.in_paper else "beside",
        parameters=parameters,
        purpose=purpose or f"segment echocardiograms{judges}",
        data=f"{n} pairs: {'; '.join(PAIRS[source] for source in row.sources)}. {CAMUS}",
        licence=DATA["camus"][1],
        size=size_px,
        epochs=config["epochs"] + VARIANTS[config["variant"]].further_epochs,
        images=config["images_per_epoch"] or n,
        batch=config["batch_size"],
        rate=config["learning_rate"],
        final=config["final_learning_rate"],
        loss=config["loss"],
        variant=config["variant"],
        start=f"the network of row `{row.starts_from}`" if row.starts_from else "random weights",
        dice=100 * facts["validation_dice"],
        chosen_on=CHOSEN_ON[manifest["extra"]["evaluation_split"]],
        command=_segmentation_command(row, manifest, profile),
        stages=" and ".join(f"`{stage}`" for stage in manifest["inputs"]),
        table_seed=manifest["extra"]["table_seed"],
        sha=sha256_file(path),
        **_made(manifest),
    )


def _segmentation_command(row, manifest, profile):
    found = manifest["config"]["segmentation"]
    found = found | {"epochs": round(found["epochs"] / row.longer)}  # the row multiplies them again
    own = as_dict(config_of(replace(row, longer=1), load_profile(profile).segmentation))
    options = ["--row", row.slug, "--table-seed", str(manifest["extra"]["table_seed"])]
    return command_of("segmentation", manifest, profile, options, {"segmentation": (found, own)})


def command_of(room, manifest, profile, options, sections):
    """The command that made a stage; what differs from its profile's file stands as ``--set``.

    Args:
        room: "sdm" or "segmentation".
        manifest: of the stage.
        profile: of the run, as on the command line.
        options: what names the network.
        sections: of the profile, dotted, to (values in the manifest, values in the file).
    """
    changed = [
        f"{section}.{key}={json.dumps(value)}"
        for section, (found, own) in sections.items()
        for key, value in found.items()
        if key not in FREE and value != own[key]
    ]
    words = ["python", "-m", f"echo_lib.{room}.training", "--profile", str(profile)]
    words += ["--seed", str(manifest["seed"]), *options]
    return shlex.join([*words, *(word for change in changed for word in ("--set", change))])


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
