"""Training of one segmentation network: one row of Table 1 and one seed (paper, section 2.2)."""

import argparse
import csv
import io
import time
from dataclasses import dataclass, replace

import torch

from echo_lib.allocation import keep_freed_memory
from echo_lib.checkpoints import load_into, load_state, save_state, save_weights
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, StageError, write_text
from echo_lib.rows import (
    INPUT_STAGES,
    ROWS,
    config_of,
    find_row,
    is_filtered,
    seeds_of,
    stage_name,
)
from echo_lib.seeding import torch_generator
from echo_lib.segmentation.augmentation import draw_batch
from echo_lib.segmentation.frames import (
    draw_epoch,
    grey_statistics,
    load_frames,
    transformed_batches,
)
from echo_lib.segmentation.losses import LOSSES
from echo_lib.segmentation.unet import build_unet, require_image_size
from echo_lib.segmentation.validation import DICE_COLUMNS, validate
from echo_lib.segmentation.variants import epochs_of, learning_rates

CHECKPOINT = "state.pt"
WEIGHTS = "weights.safetensors"


@dataclass
class Training:
    """What changes while a network trains, and what a checkpoint holds."""

    model: torch.nn.Module
    optimiser: torch.optim.Optimizer
    best: dict  # weights
    best_dice: float
    log: list  # one dict per finished epoch

    def save(self, path):
        state = {name: getattr(self, name) for name in ("best", "best_dice", "log")}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        save_state(path, state)

    def load(self, path, device):
        state = load_state(path, device=device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.best_dice, self.log = state["best"], state["best_dice"], state["log"]


def train(run, row, *, seed=0, device="cpu"):
    """Train the network of ``row``, resume it, or return at once where it is finished.

    Writes the stage ``segmentation/<row>-<seed>``: ``weights.safetensors`` (the epoch with the best
    mean Dice on the sources' own validation split, or on training patients held out) and
    ``log.csv``. Killed at any moment and started again on the same device and number of threads,
    it gives the same weights to the bit.

    Args:
        run: the run.
        row: a slug of ``echo_lib.rows.ROWS``.
        seed: one of the profile's ``segmentation.table_seeds``, or ``extra_seeds``.
        device: where to compute.

    Returns:
        The stage's manifest.

    Raises:
        StageError: a source of the row, or the network it starts from, is missing or empty, or its
            loss is not finite.
    """
    row = find_row(row)
    config = config_of(row, run.profile.segmentation)
    epochs = epochs_of(config)
    stage = _open_stage(run, row, seed)
    if manifest := stage.finished():
        return manifest
    training, validation = (
        load_frames(run, row, part, device, seed=seed) for part in ("fit", "choose")
    )
    require_image_size(config, training.images.shape[-2:])
    normalisation = grey_statistics(training.images)
    state = _start(stage, row, seed, device)
    progress = Progress(stage.name, epochs, done=len(state.log), unit="epoch", every_s=5)
    begun = time.monotonic() - (state.log[-1]["seconds"] if state.log else 0)
    key = (run.seed, seed, row.slug)

    for epoch in range(len(state.log) + 1, epochs + 1):
        # one epoch
        line = {"epoch": epoch}
        line |= train_epoch(state, training, config, normalisation, epoch=epoch, key=key)

        # the best so far
        if epoch % config.validate_every == 0 or epoch == epochs:
            line |= validate(
                state.model, validation, config, normalisation, key=(*key, "validation", epoch)
            )
            _keep_best(state, line["validation_dice"])

        # log and checkpoint
        progress.show(epoch, _note(line))
        state.log.append(line | {"seconds": time.monotonic() - begun})
        _write_log(stage.folder / "log.csv", state.log)
        if epoch % config.checkpoint_every == 0 or epoch == epochs:
            state.save(stage.folder / CHECKPOINT)

    facts = {"training_pairs": len(training.names), "choosing_pairs": len(validation.names)}
    facts |= {"left_out_by_fidelity": training.left_out + validation.left_out}
    return _finish(stage, state, config, normalisation, device=device, facts=facts)


def _open_stage(run, row, seed):
    config = config_of(row, run.profile.segmentation)
    seeds = seeds_of(row, config)
    if seed not in seeds:
        key = "table_seeds" if row.in_paper else "extra_seeds"
        raise ValueError(f"seed {seed}, expected one of {key} {seeds}")
    filtered = is_filtered(row, config)
    inputs = [INPUT_STAGES[source] for source in row.sources]
    inputs += [stage_name(row.starts_from, seed)] if row.starts_from else []
    inputs += ["fidelity"] if filtered else []
    # Neither the other seeds and rows nor the checkpoints change the weights.
    read = replace(
        config,
        table_seeds=(seed,),
        extra_seeds=(),
        extra_rows=(),
        checkpoint_every=0,
        fidelity_threshold=config.fidelity_threshold if filtered else 0.0,
    )
    return Stage.open(
        run,
        stage_name(row.slug, seed),
        config={"segmentation": read},
        inputs=inputs,
        extra={
            "row": row.slug,
            "table_seed": seed,
            "evaluation_split": run.profile.data.evaluation_split,
        },
    )


def _start(stage, row, seed, device):
    run, config = stage.run, stage.run.profile.segmentation
    generator = torch_generator("segmentation", run.seed, seed, "initial weights")
    model = build_unet(config, generator=generator)
    if row.starts_from:
        load_into(model, run.folder / stage_name(row.starts_from, seed) / WEIGHTS)
    model = model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), config.learning_rate, config.betas, fused=True)
    state = Training(model, optimiser, best={}, best_dice=-1.0, log=[])
    if (stage.folder / CHECKPOINT).is_file():
        state.load(stage.folder / CHECKPOINT, device)
        print(f"{stage.name}: resumed after epoch {len(state.log)}", flush=True)
    return state


def train_epoch(state, frames, config, normalisation, *, epoch, key):
    """One epoch over the frames, in an order and with transforms drawn from ``key``.

    Nothing of it waits for the device: a loss that is not finite is seen when the epoch ends.

    Returns:
        The epoch's ``loss``, the mean over its images, and its first ``learning_rate``.
    """
    # what the epoch sees, and how
    device, size = frames.images.device, config.batch_size
    length = config.images_per_epoch or frames.of_all_patients
    chosen, passes = draw_epoch(len(frames.names), length, epoch, key=key)
    items = [(number, frames.names[i]) for i, number in zip(chosen, passes.tolist(), strict=True)]
    parameters = draw_batch(config, items, key=key).to(device)
    places = torch.from_numpy(chosen).to(device)
    rates = learning_rates(config, epoch, -(-len(items) // size))
    batches = transformed_batches(frames, places, parameters, size, normalisation=normalisation)

    # one step a batch
    state.model.train()
    losses, sizes = [], []
    for (images, target), rate in zip(batches, rates, strict=True):
        loss = LOSSES[config.loss](state.model(images), target.long())
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.param_groups[0]["lr"] = rate
        state.optimiser.step()
        losses.append(loss.detach())
        sizes.append(len(images))

    losses = torch.stack(losses).double().cpu()
    _require_finite(losses, key, epoch, [name for _, name in items], size)
    mean = (losses * torch.tensor(sizes)).sum().item() / len(items)
    return {"learning_rate": rates[0], "loss": mean}


def _require_finite(losses, key, epoch, names, size):
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        first = bad[0]
        raise StageError(
            f"row {key[-1]!r}, epoch {epoch}, batch {first + 1}: loss {losses[first].item()} on "
            f"{', '.join(names[first * size : (first + 1) * size])}; "
            "look at these pairs, or lower segmentation.learning_rate"
        )


def _keep_best(state, dice):
    if dice > state.best_dice:
        weights = state.model.state_dict()
        state.best, state.best_dice = (
            {name: w.detach().clone() for name, w in weights.items()},
            dice,
        )


def _write_log(path, log):
    file = io.StringIO(newline="")
    columns = ("epoch", "loss", "validation_dice", *DICE_COLUMNS, "learning_rate", "seconds")
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for line in log:
        writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in line.items()})
    write_text(path, file.getvalue())


def _note(line):
    dice = line.get("validation_dice")
    shown = "" if dice is None else f", validation Dice {100 * dice:.1f} %"
    return f"loss {line['loss']:.4f}{shown}"


def _finish(stage, state, config, normalisation, *, device, facts):
    scored = [line for line in state.log if "validation_dice" in line]
    best = max(scored, key=lambda line: line["validation_dice"])
    metadata = {
        "stage": stage.name,
        "profile": stage.run.profile.name,
        "variant": config.variant,
        "layers": config.layers,
        "mean": normalisation[0],
        "std": normalisation[1],
        "epoch": best["epoch"],
    }
    path = stage.folder / WEIGHTS
    save_weights(path, state.best, metadata=metadata)
    scores = {key: best[key] for key in ("validation_dice", *DICE_COLUMNS)}
    facts |= {"best_epoch": best["epoch"], **scores}
    # The log is left out of the hashes: it holds seconds, and equal runs shall have equal digests.
    manifest = stage.finish([path], facts=facts, device=device)
    (stage.folder / CHECKPOINT).unlink(missing_ok=True)
    return manifest


def main(arguments=None):
    """Command line: ``python -m echo_lib.segmentation.training --profile demo --row real_all``."""
    from echo_lib.cli import add_run_arguments, run_from

    parser = argparse.ArgumentParser(description=main.__doc__)
    add_run_arguments(parser)
    parser.add_argument("--row", required=True, choices=[row.slug for row in ROWS])
    parser.add_argument(
        "--table-seed", type=int, help="one of the row's seeds; all of them where left out"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = run_from(options)
    seeds = seeds_of(find_row(options.row), run.profile.segmentation)
    if options.table_seed is not None:
        seeds = (options.table_seed,)
    for seed in seeds:
        facts = train(run, options.row, seed=seed, device=options.device)["facts"]
        score = f"{100 * facts['validation_dice']:.1f} % at epoch {facts['best_epoch']}"
        print(f"{stage_name(options.row, seed)}: best validation Dice {score}")


if __name__ == "__main__":
    main()
