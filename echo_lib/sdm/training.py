"""Training of one view's SDM (paper, section 2.1): one honest loop, exact resume.

    python -m echo_lib.sdm.training --profile demo --view 4CH
    python -m echo_lib.sdm.training --profile demo --view 4CH --max-minutes 10
    torchrun --nproc-per-node 8 -m echo_lib.sdm.training --profile paper --view 4CH

Every random number belongs to the item drawn at a step, so a resumed run equals an undisturbed one
and the result does not depend on how many processes share the batch. ``carry.safetensors`` takes a
training to another machine, see ``echo_lib.sdm.carry``.
"""

import argparse
import dataclasses
import sys
import time

import pandas as pd

from echo_lib import distributed
from echo_lib.allocation import keep_freed_memory
from echo_lib.checkpoints import save_state, save_weights
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.config import as_dict
from echo_lib.labels import VIEWS
from echo_lib.precision import has_bfloat16
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, sha256_file, write_text
from echo_lib.sdm import preview
from echo_lib.sdm.carry import initial_weights, write_carry
from echo_lib.sdm.recipe import LOG_COLUMNS, Recipe

# On a GPU a thread draws the next batch. Python would hand over to it every 5 ms, once an item.
SWITCH_S = 1e-4
# What no weight depends on: a run may go on with other values.
_FREE = {
    "checkpoint_activations": False, "compile": False, "checkpoint_every": 1, "preview_every": 0,
}  # fmt: skip


def train(run, view, *, max_minutes=None):
    """Train the SDM of ``view``, or return at once where this very result is there.

    Args:
        run: ``provenance.Run``.
        view: "2CH" or "4CH".
        max_minutes: stop cleanly after this long, at the next line of the log, with a checkpoint to
            resume from here and weights to carry elsewhere.

    Returns:
        The stage's manifest; None where ``max_minutes`` ended it before the last step.

    Raises:
        StageError: the prepared data are missing or altered.
        FloatingPointError: the loss is not finite; names step and items.
    """
    config = run.profile.sdm
    with distributed.first_process_first():
        stage = _open_stage(run, view)
    finished = stage.finished()
    if finished:
        return finished
    recipe = Recipe.begin(run, view, stage.folder)
    done = _loop(recipe, stage.folder, max_minutes)
    manifest = None
    if distributed.is_first():
        training = as_dict(config.training) | {"steps": recipe.step}
        write_carry(stage.folder, recipe, metadata=_metadata(run, view) | {"training": training})
        manifest = _finish(stage, recipe) if done else None
    distributed.barrier()
    return manifest


def _finish(stage, recipe):
    """Write weights, log and manifest."""
    weights = stage.folder / "weights.safetensors"
    save_weights(weights, recipe.ema_weights(), metadata=_metadata(recipe.run, recipe.view))
    facts = {"steps": recipe.step, "seconds_training": round(recipe.seconds, 1)}
    if recipe.first_step:
        facts |= {"steps_carried": recipe.first_step, "seconds_carried": recipe.first_seconds}
    if recipe.config.precision == "auto":
        facts["computed_in"] = "bfloat16" if has_bfloat16(recipe.device) else "float32"
    _write_log(recipe, stage.folder)
    # Log and carry are not hashed: they hold seconds, and equal runs have equal digests.
    return stage.finish([weights], facts=facts, device=recipe.device)


def _open_stage(run, view):
    config = run.profile.sdm
    sections = {
        "network": config.network,
        "diffusion": config.diffusion,
        "training": dataclasses.replace(config.training, **_FREE),
    }
    start = initial_weights(config.training, view)
    extra = {"initial_weights": sha256_file(start)} if start else {}
    return Stage.open(run, f"sdm/{view}", config=sections, inputs=("prepared",), extra=extra)


def _metadata(run, view):
    """What a weights file says of itself, enough to rebuild the network and its process."""
    return {
        "view": view,
        "profile": run.profile.name,
        "stamp": run.profile.stamp,
        "network": as_dict(run.profile.sdm.network),
        "diffusion": as_dict(run.profile.sdm.diffusion),
    }


def _loop(recipe, folder, max_minutes):
    """Step until done; True where the last step was reached."""
    config, started, before = recipe.config, time.monotonic(), recipe.seconds
    progress = Progress(f"SDM {recipe.view}", config.steps, done=recipe.step, unit="step")
    aside = _preview(recipe, folder)
    while recipe.step < config.steps:
        recipe.pending.append(recipe.update())
        elapsed = time.monotonic() - started
        recipe.seconds = before + elapsed - aside
        due = recipe.step % config.log_every == 0 or recipe.step == config.steps
        if due:
            recipe.flush()
            progress.show(recipe.step, f"loss {recipe.log[-1][1]:.4f}")
        # to agree is to wait for the device, so not after every step
        out_of_time = (
            bool(max_minutes)
            and due
            and distributed.agreed(elapsed > 60 * max_minutes, recipe.device)
        )
        if recipe.step % config.checkpoint_every == 0 or recipe.step == config.steps or out_of_time:
            _save(recipe, folder)
        aside += _preview(recipe, folder)
        if out_of_time and recipe.step < config.steps:
            print(f"SDM {recipe.view}: stopped after {max_minutes} minutes at step {recipe.step}")
            return False
    return True


def _preview(recipe, folder):
    """Draw the preview that is due, if any; its seconds, which are not the training's."""
    every, begun = recipe.config.preview_every, time.monotonic()
    due = every and (recipe.step % every == 0 or recipe.step == recipe.config.steps)
    if due and distributed.is_first():
        preview.write(recipe, folder)
    return time.monotonic() - begun


def _save(recipe, folder):
    recipe.pending_values()  # a broken state must not replace a sound checkpoint
    if distributed.is_first():
        save_state(folder / "checkpoint.pt", recipe.state())
        _write_log(recipe, folder)


def _write_log(recipe, folder):
    text = pd.DataFrame(recipe.log, columns=LOG_COLUMNS).to_csv(index=False)
    write_text(folder / "log.csv", text)


def main(arguments=None):
    """Command line of this module."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--view", choices=VIEWS, required=True)
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this long")
    args = parser.parse_args(arguments)
    sys.setswitchinterval(SWITCH_S)
    with distributed.process_group():
        train(run_from(args), args.view, max_minutes=args.max_minutes)


if __name__ == "__main__":
    main()
