"""Training of one segmentation network: one row of Table 1 and one seed (paper, section 2.2)."""

import argparse
import csv
import io
import math
import time
from dataclasses import dataclass, replace

import torch

from echo_lib.checkpoints import load_state, save_state, save_weights
from echo_lib.labels import STRUCTURES
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, StageError, write_text
from echo_lib.rows import ROWS, find_row, stage_name
from echo_lib.seeding import numpy_generator, torch_generator
from echo_lib.segmentation.augmentation import apply, draw_batch
from echo_lib.segmentation.frames import INPUT_STAGES, grey_statistics, load_frames
from echo_lib.segmentation.losses import LOSSES, case_dice
from echo_lib.segmentation.prediction import normalise
from echo_lib.segmentation.unet import build_unet, require_image_size

DICE_COLUMNS = tuple(f"validation_dice_{name.lower().replace(' ', '_')}" for name in STRUCTURES)
CHECKPOINT = "state.pt"


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
    mean Dice on the source's own validation split, or on training patients held out) and
    ``log.csv``. Killed at any moment and started again on the same device and number of threads,
    it gives the same weights to the bit.

    Args:
        run: the run.
        row: a slug of ``echo_lib.rows.ROWS``.
        seed: one of the profile's ``segmentation.table_seeds``.
        device: where to compute.

    Returns:
        The stage's manifest.

    Raises:
        StageError: the row's source is missing or empty, or its loss is not finite.
    """
    row, config = find_row(row), run.profile.segmentation
    stage = _open_stage(run, row, seed)
    if manifest := stage.finished():
        return manifest
    training, validation = (load_frames(run, row, part, device) for part in ("fit", "choose"))
    require_image_size(config, training.images.shape[-2:])
    normalisation = grey_statistics(training.images)
    state = _start(stage, ("segmentation", run.seed, seed), device)
    progress = Progress(stage.name, config.epochs, done=len(state.log), unit="epoch", every_s=5)
    begun = time.monotonic() - (state.log[-1]["seconds"] if state.log else 0)

    for epoch in range(len(state.log) + 1, config.epochs + 1):
        # one epoch
        line = {"epoch": epoch, "learning_rate": learning_rate(config, epoch)}
        key = (run.seed, seed, row.slug, epoch)
        line["loss"] = train_epoch(state, training, config, line, normalisation, key=key)

        # the best so far
        if epoch % config.validate_every == 0 or epoch == config.epochs:
            line |= validate(state.model, validation, config.batch_size, normalisation)
            _keep_best(state, line["validation_dice"])

        # log and checkpoint
        progress.show(epoch, _note(line))
        state.log.append(line | {"seconds": time.monotonic() - begun})
        _write_log(stage.folder / "log.csv", state.log)
        if epoch % config.checkpoint_every == 0 or epoch == config.epochs:
            state.save(stage.folder / CHECKPOINT)

    return _finish(stage, state, normalisation, device, n=len(training.names))


def _open_stage(run, row, seed):
    config = run.profile.segmentation
    if seed not in config.table_seeds:
        raise ValueError(f"seed {seed}, expected one of table_seeds {config.table_seeds}")
    return Stage.open(
        run,
        stage_name(row.slug, seed),
        # Neither the other seeds nor the checkpoints change the weights.
        config={"segmentation": replace(config, table_seeds=(seed,), checkpoint_every=0)},
        inputs=(INPUT_STAGES[row.source],),
        extra={
            "row": row.slug,
            "table_seed": seed,
            "evaluation_split": run.profile.data.evaluation_split,
        },
    )


def _start(stage, key, device):
    config = stage.run.profile.segmentation
    model = build_unet(config, generator=torch_generator(*key, "initial weights")).to(device)
    optimiser = torch.optim.Adam(model.parameters(), config.learning_rate, config.betas, fused=True)
    state = Training(model, optimiser, best={}, best_dice=-1.0, log=[])
    if (stage.folder / CHECKPOINT).is_file():
        state.load(stage.folder / CHECKPOINT, device)
        print(f"{stage.name}: resumed after epoch {len(state.log)}", flush=True)
    return state


def learning_rate(config, epoch):
    """Cosine annealing between the config's two rates; epoch counts from 1."""
    # DEVIATION: per epoch. The released code steps it per batch with the period of the epochs, so
    # its rate swings up and down every few hundred batches.
    weight = (1 + math.cos(math.pi * (epoch - 1) / config.epochs)) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * weight


def train_epoch(state, frames, config, line, normalisation, *, key):
    """One pass over the frames in an order drawn from ``key``; the mean loss over its images."""
    for group in state.optimiser.param_groups:
        group["lr"] = line["learning_rate"]
    state.model.train()
    order = numpy_generator("order", *key).permutation(len(frames.names))
    total = 0.0
    for start in range(0, len(order), config.batch_size):
        chosen = torch.from_numpy(order[start : start + config.batch_size]).to(frames.images.device)
        names = [frames.names[i] for i in chosen.tolist()]
        parameters = draw_batch(config, names, key=key).to(frames.images.device)
        images = frames.images[chosen].float() / 255
        images, target = apply(images, frames.label_maps[chosen], parameters)
        logits = state.model(normalise(images, *normalisation))
        loss = LOSSES[config.loss](logits, target.long())
        total += _require_finite(loss, key, names) * len(names)
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
    return total / len(order)


def _require_finite(loss, key, names):
    value = loss.item()
    if not math.isfinite(value):
        raise StageError(
            f"row {key[2]!r}, epoch {key[3]}: loss {value} on {', '.join(names)}; "
            "look at these pairs, or lower segmentation.learning_rate"
        )
    return value


@torch.no_grad()
def validate(model, frames, batch_size, normalisation):
    """Mean Dice over the frames: ``validation_dice``, and a column for each structure."""
    # DEVIATION: the frames as they are. The released code validates on randomly transformed ones.
    model.eval()
    scores = []
    for images, target in zip(
        frames.images.split(batch_size), frames.label_maps.split(batch_size), strict=True
    ):
        predicted = model(normalise(images.float() / 255, *normalisation)).argmax(dim=1)
        scores.append(case_dice(predicted, target).cpu())
    means = torch.cat(scores).mean(dim=0)
    return {"validation_dice": means.mean().item()} | dict(
        zip(DICE_COLUMNS, means.tolist(), strict=True)
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


def _finish(stage, state, normalisation, device, *, n):
    scored = [line for line in state.log if "validation_dice" in line]
    best = max(scored, key=lambda line: line["validation_dice"])
    metadata = {
        "stage": stage.name,
        "profile": stage.run.profile.name,
        "layers": stage.run.profile.segmentation.layers,
        "mean": normalisation[0],
        "std": normalisation[1],
        "epoch": best["epoch"],
    }
    path = stage.folder / "weights.safetensors"
    save_weights(path, state.best, metadata=metadata)
    scores = {key: best[key] for key in ("validation_dice", *DICE_COLUMNS)}
    facts = {"training_pairs": n, "best_epoch": best["epoch"], **scores}
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
        "--table-seed", type=int, help="one of table_seeds; all of them where left out"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    run = run_from(options)
    seeds = (
        run.profile.segmentation.table_seeds if options.table_seed is None else [options.table_seed]
    )
    for seed in seeds:
        facts = train(run, options.row, seed=seed, device=options.device)["facts"]
        score = f"{100 * facts['validation_dice']:.1f} % at epoch {facts['best_epoch']}"
        print(f"{stage_name(options.row, seed)}: best validation Dice {score}")


if __name__ == "__main__":
    main()
