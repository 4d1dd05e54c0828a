"""Training of the CycleGAN baseline (paper, section 2.3; arXiv 1703.10593, sections 3 and 4).

    python -m echo_lib.cyclegan.training --profile demo

One pair of generators for both views. Pseudo-images and real frames are unpaired: which two share a
step is drawn afresh each epoch. Every random number belongs to its epoch, place and kind, so a
resumed run equals an undisturbed one.
"""

import argparse
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from echo_lib import distributed
from echo_lib.allocation import keep_freed_memory
from echo_lib.checkpoints import load_state, save_state, save_weights
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.cyclegan import losses
from echo_lib.cyclegan.images import KINDS, ImagePool, UnpairedImages, to_grey, write_png
from echo_lib.cyclegan.losses import DISCRIMINATORS, GENERATORS, TERMS
from echo_lib.cyclegan.networks import build_discriminator, build_generator
from echo_lib.data.datasets import load_pairs, read_index, to_unit
from echo_lib.precision import autocast, has_bfloat16
from echo_lib.progress import Progress
from echo_lib.provenance import Stage, StageError, write_text
from echo_lib.seeding import numpy_generator, torch_generator

LOG_COLUMNS = ("epoch", *TERMS, "learning_rate", "seconds", "seconds_per_step")
PREVIEWS = 4  # pseudo-images shown at every checkpoint


def train(run, *, max_minutes=None):
    """Train both generators, or return at once where this very result is there.

    Args:
        run: ``provenance.Run``.
        max_minutes: stop cleanly after this long, with a checkpoint to resume from.

    Returns:
        The stage's manifest; None where ``max_minutes`` ended it before the last step.

    Raises:
        StageError: the prepared frames or the pseudo-images are missing or altered.
        FloatingPointError: a loss is not finite; names epoch, step and items.
    """
    config = run.profile.cyclegan
    identity = dataclasses.replace(config, checkpoint_every=1)  # no result depends on it
    stage = Stage.open(
        run, "cyclegan", config={"cyclegan": identity}, inputs=("prepared", "pseudo")
    )
    finished = stage.finished()
    if finished:
        return finished
    recipe = Recipe.begin(run, stage.folder)
    if not _loop(recipe, stage.folder, max_minutes):
        return None
    weights = stage.folder / "weights.safetensors"
    save_weights(weights, recipe.generator_weights(), metadata=_metadata(run))
    counts = {f"{kind}_images": len(recipe.items.names[kind]) for kind in KINDS}
    facts = {"epochs": config.epochs, "steps": recipe.steps, **counts}
    facts["seconds_training"] = round(recipe.seconds, 1)
    if config.precision == "auto":
        facts["computed_in"] = "bfloat16" if has_bfloat16(recipe.device) else "float32"
    _write_log(recipe, stage.folder)
    # The log is left out of the hashes: it holds seconds, and equal runs have equal digests.
    return stage.finish([weights], facts=facts, device=recipe.device)


def _metadata(run):
    """What a weights file says of itself, enough to rebuild its generators."""
    config = run.profile.cyclegan
    network = {"width": config.width, "residual_blocks": config.residual_blocks, "channels": 1}
    return {"profile": run.profile.name, "stamp": run.profile.stamp, "generator": network}


def learning_rate(config, epochs):
    """Constant for ``constant_epochs``, then linearly to 0, after ``epochs`` (a float) epochs."""
    falling = max(0.0, epochs - config.constant_epochs)
    return config.learning_rate * (1 - falling / max(1, config.epochs - config.constant_epochs))


@dataclass
class Recipe:
    """Networks, images, optimisers and the step reached."""

    config: object  # CycleGANConfig
    device: torch.device
    networks: nn.ModuleDict  # of GENERATORS and DISCRIMINATORS
    optimisers: dict  # "generators", "discriminators"
    items: UnpairedImages
    pools: dict  # kind to the fakes of that kind
    step: int = 0
    seconds: float = 0.0
    log: list = None  # rows of LOG_COLUMNS
    pending: list = None  # (len(TERMS),) losses since the last row

    @classmethod
    def begin(cls, run, folder):
        """From the checkpoint in ``folder`` where there is one, else from the first step."""
        config, device = run.profile.cyclegan, distributed.device()
        networks = build_networks(config, run.seed).to(device)
        recipe = cls(
            config, device, networks, _optimisers(networks, config),
            load_images(run, device), {kind: ImagePool(config.pool_size) for kind in KINDS},
            log=[], pending=[],
        )  # fmt: skip
        if (folder / "checkpoint.pt").is_file():
            recipe._restore(load_state(folder / "checkpoint.pt", device=device))
        return recipe

    def _restore(self, state):
        self.networks.load_state_dict(state["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.pools = {k: ImagePool(self.config.pool_size, v) for k, v in state["pools"].items()}
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.pending = state["log"], state["pending"]

    def state(self):
        """Everything a resumed run needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "networks": self.networks.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "pools": {kind: pool.images for kind, pool in self.pools.items()},
            "log": self.log,
            "pending": self.pending,
        }

    def generator_weights(self):
        """Both generators' weights, named ``to_echo.*`` and ``to_pseudo.*``."""
        state = self.networks.state_dict()
        return {name: state[name] for name in state if name.split(".")[0] in GENERATORS}

    @property
    def steps_per_epoch(self):
        return -(-self.items.per_epoch // self.config.batch_size)

    @property
    def steps(self):
        return self.config.epochs * self.steps_per_epoch

    def places(self, step):
        """The epoch of a step, counted from 0, and its places in that epoch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        first = number * self.config.batch_size
        return epoch, range(first, min(first + self.config.batch_size, self.items.per_epoch))

    def update(self):
        """One step of both generators, then of both discriminators; the losses, (len(TERMS),)."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.config, self.step / self.steps_per_epoch)
        places = self.places(self.step)
        images = {kind: to_unit(self.items.batch(kind, *places)) for kind in KINDS}
        terms, fakes = losses.generator_losses(self.networks, images, self.config)
        self._descend("generators", terms["generators"])
        for kind in KINDS:
            draws = numpy_generator("cyclegan-pool", self.items.seed, kind, self.step)
            pooled = self.pools[kind].exchange(fakes[kind], draws)
            judge = self.networks[f"discriminator_{kind}"]
            loss = losses.discriminator_loss(judge, images[kind], pooled, self.config)
            terms[f"discriminator_{kind}"] = loss
        self._descend("discriminators", sum(terms[name] for name in DISCRIMINATORS))
        self.step += 1
        return torch.stack([terms[name].detach() for name in TERMS])

    def _descend(self, name, loss):
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()

    def flush(self):
        """Turn the pending losses into a row of the log."""
        values = self.pending_values()
        pace = (self.seconds - (self.log[-1][-2] if self.log else 0.0)) / len(values)
        epoch, means = self.step // self.steps_per_epoch, values.mean(axis=0).tolist()
        rate = learning_rate(self.config, epoch)
        self.log.append([epoch, *means, rate, self.seconds, pace])
        self.pending = []

    def pending_values(self):
        """The losses since the last row, (n, len(TERMS)); stop where one is not finite."""
        if not self.pending:
            return np.zeros((0, len(TERMS)))
        values = torch.stack(self.pending).double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            step = self.step - len(values) + int(bad[0])
            epoch, places = self.places(step)
            terms = np.array(TERMS)[~np.isfinite(values[bad[0]])]
            raise FloatingPointError(
                f"{', '.join(terms)} not finite in epoch {epoch + 1}, step {step} "
                f"(seed {self.items.seed}), items {self.items.describe(epoch, places)}; the "
                "checkpoint before it is intact: lower cyclegan.learning_rate"
            )
        return values


def build_networks(config, seed):
    """Both generators and both discriminators; the weights of each follow from its name."""
    networks = nn.ModuleDict()
    for name in (*GENERATORS, *DISCRIMINATORS):
        build = build_generator if name in GENERATORS else build_discriminator
        networks[name] = build(config, generator=torch_generator("cyclegan-weights", seed, name))
    return networks


def _optimisers(networks, config):
    optimisers = {}
    for group, names in (("generators", GENERATORS), ("discriminators", DISCRIMINATORS)):
        parameters = [parameter for name in names for parameter in networks[name].parameters()]
        optimisers[group] = torch.optim.Adam(parameters, lr=0.0, betas=config.betas)
    return optimisers


def load_images(run, device):
    """The training images of both kinds: every view and phase.

    Raises:
        StageError: there are none of a kind, or their sizes differ.
    """
    images, names = {}, {}
    for kind in KINDS:
        index = read_index(run.folder, kind)
        index = index[index["split"] == "training"]
        if index.empty:
            raise StageError(f"no {kind} training images to train the CycleGAN on")
        pairs = load_pairs(run.folder, index)
        images[kind], names[kind] = pairs.images.to(device), pairs.names
    sizes = {kind: tuple(images[kind].shape[-2:]) for kind in KINDS}
    if sizes["pseudo"] != sizes["real"]:
        raise StageError(f"pseudo-images and real frames differ in size (rows, columns): {sizes}")
    per_epoch = run.profile.cyclegan.images_per_epoch or max(map(len, names.values()))
    return UnpairedImages(images, names, run.seed, per_epoch)


def _loop(recipe, folder, max_minutes):
    """Step until done; True where the last step was reached."""
    begun, before, every = time.monotonic(), recipe.seconds, recipe.config.checkpoint_every
    progress = Progress("CycleGAN", recipe.steps, done=recipe.step, unit="step")
    while recipe.step < recipe.steps:
        recipe.pending.append(recipe.update())
        recipe.seconds = before + time.monotonic() - begun
        epoch, rest = divmod(recipe.step, recipe.steps_per_epoch)
        if rest == 0:
            recipe.flush()
        last = dict(zip(LOG_COLUMNS, recipe.log[-1], strict=True)) if recipe.log else None
        progress.show(recipe.step, f"cycle loss {last['cycle_real']:.3f}" if last else "")
        out_of_time = bool(max_minutes) and time.monotonic() - begun > 60 * max_minutes
        done = recipe.step == recipe.steps
        if done or out_of_time or (rest == 0 and epoch % every == 0):
            _save(recipe, folder)
        if out_of_time and not done:
            print(f"CycleGAN: stopped after {max_minutes} minutes at step {recipe.step}")
            return False
    return True


def _save(recipe, folder):
    recipe.pending_values()  # a broken state must not replace a sound checkpoint
    save_state(folder / "checkpoint.pt", recipe.state())
    _write_log(recipe, folder)
    name = f"epoch_{recipe.step / recipe.steps_per_epoch:07.2f}.png"
    write_png(folder / "previews" / name, preview(recipe))


def _write_log(recipe, folder):
    text = pd.DataFrame(recipe.log, columns=LOG_COLUMNS).to_csv(index=False)
    write_text(folder / "log.csv", text)


@torch.inference_mode()
def preview(recipe):
    """Columns: the same few pseudo-images; rows: pseudo, echo made of it, pseudo made of that."""
    every = max(1, len(recipe.items.names["pseudo"]) // PREVIEWS)
    pseudo = to_unit(recipe.items.images["pseudo"][::every][:PREVIEWS])
    with autocast(recipe.device, recipe.config.precision):
        echo = recipe.networks["to_echo"](pseudo)
        back = recipe.networks["to_pseudo"](echo)
    return torch.cat([torch.cat(list(to_grey(row)), 1) for row in (pseudo, echo, back)]).numpy()


def main(arguments=None):
    """Command line of this module."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this long")
    args = parser.parse_args(arguments)
    train(run_from(args), max_minutes=args.max_minutes)


if __name__ == "__main__":
    main()
