"""Training of one view's SDM (paper, section 2.1): ED frames, one honest loop, exact resume.

    python -m echo_lib.sdm.training --profile demo --view 4CH
    torchrun --nproc-per-node 8 -m echo_lib.sdm.training --profile paper --view 4CH

Every random number belongs to the item drawn at a step, so a resumed run equals an undisturbed one
and the result does not depend on how many processes share the batch.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from echo_lib import distributed
from echo_lib.checkpoints import load_into, load_state, save_state, save_weights
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.config import as_dict
from echo_lib.labels import VIEWS
from echo_lib.precision import autocast, has_bfloat16
from echo_lib.progress import Progress
from echo_lib.provenance import PACKAGE, Stage, sha256_file, write_text
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.stream import FrameStream
from echo_lib.sdm.unet import SemanticUNet
from echo_lib.seeding import seed_for

LOG_COLUMNS = ("step", "loss", "mse", "vlb", "learning_rate", "seconds", "seconds_per_step")


def train(run, view, *, max_minutes=None):
    """Train the SDM of ``view``, or return at once where this very result is there.

    Args:
        run: ``provenance.Run``.
        view: "2CH" or "4CH".
        max_minutes: stop cleanly after this long, with a checkpoint to resume from.

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
    if done and distributed.is_first():
        weights = stage.folder / "weights.safetensors"
        save_weights(weights, recipe.ema_weights(), metadata=_metadata(run, view))
        facts = {"steps": config.training.steps, "seconds_training": round(recipe.seconds, 1)}
        if config.training.precision == "auto":
            facts["computed_in"] = "bfloat16" if has_bfloat16(recipe.device) else "float32"
        _write_log(recipe, stage.folder)
        # The log is left out of the hashes: it holds seconds, and equal runs have equal digests.
        manifest = stage.finish([weights], facts=facts, device=recipe.device)
    distributed.barrier()
    return manifest


def _open_stage(run, view):
    config = run.profile.sdm
    sections = {
        "network": config.network,
        "diffusion": config.diffusion,
        "training": config.training,
    }
    start = initial_weights(config.training, view)
    extra = {"initial_weights": sha256_file(start)} if start else {}
    return Stage.open(run, f"sdm/{view}", config=sections, inputs=("prepared",), extra=extra)


def initial_weights(config, view):
    """The file to start from, or None; relative names lie in the repository."""
    if not config.initial_weights:
        return None
    path = PACKAGE.parent / config.initial_weights.format(view=view)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: initial weights not found; set sdm.training.initial_weights to another file, "
            'or to "" to start from scratch'
        )
    return path


def _metadata(run, view):
    """What a weights file says of itself, enough to rebuild the network and its process."""
    return {
        "view": view,
        "profile": run.profile.name,
        "stamp": run.profile.stamp,
        "network": as_dict(run.profile.sdm.network),
        "diffusion": as_dict(run.profile.sdm.diffusion),
    }


@dataclass
class Recipe:
    """Network, data, optimiser and the step reached."""

    run: object
    view: str
    config: object  # SDMTrainingConfig
    device: torch.device
    model: SemanticUNet
    process: GaussianDiffusion
    optimiser: torch.optim.Optimizer
    ema: list  # of tensors, in the order of model.parameters()
    stream: FrameStream
    step: int = 0
    seconds: float = 0.0
    log: list = None  # rows of LOG_COLUMNS
    pending: list = None  # losses since the last row

    @classmethod
    def begin(cls, run, view, folder):
        """From the checkpoint in ``folder`` where there is one, else from the first step."""
        sdm, device = run.profile.sdm, distributed.device()
        model = build_network(sdm.network, seed_for("sdm-weights", run.seed, view)).to(device)
        start = initial_weights(sdm.training, view)
        if start:
            _require_same_prediction(load_into(model, start), sdm.diffusion, start)
        model = model.to(memory_format=torch.channels_last)
        recipe = cls(
            run, view, sdm.training, device, model,
            GaussianDiffusion.from_config(sdm.diffusion),
            torch.optim.AdamW(
                model.parameters(), lr=0.0, weight_decay=sdm.training.weight_decay,
                fused=device.type == "cuda",
            ),
            [parameter.detach().clone() for parameter in model.parameters()],
            FrameStream.open(run, view, device=device),
            log=[], pending=[],
        )  # fmt: skip
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.is_file():
            recipe._restore(load_state(checkpoint, device=device))
        return recipe

    def _restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema = state["ema"]
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.pending = state["log"], state["pending"]

    def state(self):
        """Everything a resumed run needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema,
            "log": self.log,
            "pending": self.pending,
        }

    def ema_weights(self):
        """The averaged weights under the network's names."""
        names = [name for name, _ in self.model.named_parameters()]
        return dict(zip(names, self.ema, strict=True))

    def learning_rate(self):
        """Linear warm-up, then linear annealing to 0 over all steps."""
        warmup = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        return self.config.learning_rate * warmup * (1 - self.step / self.config.steps)

    def update(self):
        """One optimiser step over the whole batch, then the EMA."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        losses = self._accumulate()
        distributed.sum_gradients(self.model)
        if self.config.gradient_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.model.parameters()], 1 - decay)
        self.step += 1
        return losses

    def _accumulate(self):
        """Gradients of the mean loss over the batch; sums of (loss, mse, vlb) as (3,)."""
        size, micro = self.config.batch_size, self.config.micro_batch_size
        total = torch.zeros(3, device=self.device)
        for first in range(0, size, micro):
            if (first // micro) % distributed.world_size() != distributed.rank():
                continue
            draws = range(self.step * size + first, self.step * size + min(first + micro, size))
            x_0, onehot, t, noise = self.stream.batch(draws)
            x_t = self.process.q_sample(x_0, t, noise)
            with autocast(self.device, self.config.precision):
                output = self.model(x_t, t, onehot)
            terms = self.process.losses(output.float(), x_0, t, noise)
            (terms["loss"].sum() / size).backward()
            total += torch.stack([terms[k].detach().sum() for k in ("loss", "mse", "vlb")]) / size
        return distributed.summed(total)

    def flush(self):
        """Turn the pending losses into a row of the log."""
        values = self.pending_values()
        pace = (self.seconds - (self.log[-1][5] if self.log else 0.0)) / len(values)
        means = values.mean(axis=0).tolist()
        self.log.append([self.step, *means, self.learning_rate(), self.seconds, pace])
        self.pending = []

    def pending_values(self):
        """The losses since the last row, (n, 3) float64; stop where one is not finite."""
        values = (
            torch.stack(self.pending).double().cpu().numpy() if self.pending else np.zeros((0, 3))
        )
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            step = self.step - len(values) + int(bad[0])
            size = self.config.batch_size
            items = [self.stream.name(n) for n in range(step * size, (step + 1) * size)]
            raise FloatingPointError(
                f"loss not finite at step {step} (seed {self.run.seed}, view {self.view}), items "
                f"{', '.join(items)}; the checkpoint before it is intact: lower the learning rate "
                "or set gradient_clip"
            )
        return values


def build_network(config, seed):
    """A ``SemanticUNet`` whose initial weights follow from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemanticUNet(config)


def _require_same_prediction(header, config, path):
    found = header.get("diffusion", {}).get("prediction", config.prediction)
    if found != config.prediction:
        raise ValueError(
            f"{path}: weights that predict {found!r}, but sdm.diffusion.prediction is "
            f"{config.prediction!r}; set it to {found!r} or start from other weights"
        )


def _loop(recipe, folder, max_minutes):
    """Step until done; True where the last step was reached."""
    config, begun, before = recipe.config, time.monotonic(), recipe.seconds
    progress = Progress(f"SDM {recipe.view}", config.steps, done=recipe.step, unit="step")
    while recipe.step < config.steps:
        recipe.pending.append(recipe.update())
        recipe.seconds = before + time.monotonic() - begun
        if recipe.step % config.log_every == 0 or recipe.step == config.steps:
            recipe.flush()
            progress.show(recipe.step, f"loss {recipe.log[-1][1]:.4f}")
        out_of_time = bool(max_minutes) and distributed.agreed(
            time.monotonic() - begun > 60 * max_minutes, recipe.device
        )
        if recipe.step % config.checkpoint_every == 0 or recipe.step == config.steps or out_of_time:
            _save(recipe, folder)
        if out_of_time and recipe.step < config.steps:
            print(f"SDM {recipe.view}: stopped after {max_minutes} minutes at step {recipe.step}")
            return False
    return True


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--view", choices=VIEWS, required=True)
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this long")
    args = parser.parse_args(arguments)
    with distributed.process_group():
        train(run_from(args), args.view, max_minutes=args.max_minutes)


if __name__ == "__main__":
    main()
