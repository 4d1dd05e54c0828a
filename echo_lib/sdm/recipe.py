"""One view's SDM in training: network, data, optimiser, averaged weights and the step reached."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from echo_lib import distributed
from echo_lib.checkpoints import load_state
from echo_lib.precision import autocast
from echo_lib.sdm.carry import load_start
from echo_lib.sdm.denoiser import CompiledStep
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.stream import Ahead, FrameStream
from echo_lib.sdm.unet import SemanticUNet
from echo_lib.seeding import seed_for

QUARTILES = ("mse_q1", "mse_q2", "mse_q3", "mse_q4")  # of the items whose t lies there in [0, T)
LOG_COLUMNS = (
    "step", "loss", "mse", "vlb", *QUARTILES, "learning_rate", "seconds", "seconds_per_step",
)  # fmt: skip


@dataclass
class Recipe:
    """Network, data, optimiser and the step reached.

    Attributes:
        first_step, first_seconds: where this optimiser began: 0, or where the weights that it was
            given had been carried from.
        compiled: the network's forward pass, compiled; None runs it as it is.
    """

    run: object
    view: str
    config: object  # SDMTrainingConfig
    device: torch.device
    model: SemanticUNet
    process: GaussianDiffusion
    optimiser: torch.optim.Optimizer
    ema: list  # of tensors, in the order of model.parameters()
    stream: FrameStream
    first_step: int = 0
    first_seconds: float = 0.0
    log: list = None  # rows of LOG_COLUMNS
    pending: list = None  # losses since the last row
    step: int = field(init=False)
    seconds: float = field(init=False)
    compiled: CompiledStep | None = field(init=False)
    ahead: Ahead = field(init=False)

    def __post_init__(self):
        self.step, self.seconds = self.first_step, self.first_seconds
        self.compiled = CompiledStep(self.model) if self.config.compile else None
        self.ahead = Ahead(self.stream)

    @classmethod
    def begin(cls, run, view, folder):
        """From the checkpoint in ``folder`` where there is one, else from the first step."""
        sdm, device = run.profile.sdm, distributed.device()
        model = build_network(sdm.network, seed_for("sdm-weights", run.seed, view)).to(device)
        start = load_start(model, sdm, view)
        for network in (model, start.averaged):
            network.to(memory_format=torch.channels_last)
        model.checkpoint_activations = sdm.training.checkpoint_activations
        recipe = cls(
            run, view, sdm.training, device, model,
            GaussianDiffusion.from_config(sdm.diffusion),
            torch.optim.AdamW(
                model.parameters(), lr=0.0, weight_decay=sdm.training.weight_decay, fused=True
            ),
            [parameter.detach().clone() for parameter in start.averaged.parameters()],
            FrameStream.open(run, view, device=device),
            start.step, start.seconds, log=[], pending=[],
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
        """Linear warm-up of this optimiser, and linear annealing to 0 over all steps."""
        warmup = min(1.0, (self.step - self.first_step + 1) / max(1, self.config.warmup_steps))
        return self.config.learning_rate * warmup * (1 - self.step / self.config.steps)

    def update(self):
        """One optimiser step over the whole batch, then the EMA.

        Returns:
            (12,): what ``_accumulate`` returns, and the gradient's norm before it was clipped.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        accumulate = self._accumulate
        losses = self.compiled.attempt(accumulate) if self.compiled else accumulate()
        distributed.sum_gradients(self.model)
        largest = self.config.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        self.optimiser.step()
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.model.parameters()], 1 - decay)
        self.step += 1
        return torch.cat([losses, norm.reshape(1)])

    def _accumulate(self):
        """Gradients of the mean loss over the batch, and its losses; the host waits for neither.

        Of every batch each process computes its share, in micro-batches as equal as can be.

        Returns:
            (11,): the means of loss, mse and vlb, then by quartile of t the sum of the items' mse
            and the number of the items.
        """
        size, network = self.config.batch_size, self.compiled or self.model
        total = torch.zeros(3 + 2 * len(QUARTILES), device=self.device)
        self.optimiser.zero_grad(set_to_none=True)
        for draws, following in itertools.pairwise(self._micro_batches()):
            x_0, onehot, t, noise = self.ahead.batch(draws, following)
            x_t = self.process.q_sample(x_0, t, noise)
            with autocast(self.device, self.config.precision):
                output = network(x_t, t, onehot)
            terms = self.process.losses(output.float(), x_0, t, noise)
            (terms["loss"].sum() / size).backward()
            means = torch.stack([terms[k].detach().sum() for k in ("loss", "mse", "vlb")]) / size
            total += torch.cat([means, *self._by_quartile(terms["mse"].detach(), t)])
        return distributed.summed(total)

    def _micro_batches(self):
        """The items of the step's micro-batches, and of the first one of the next step."""
        size = self.config.batch_size
        parts = micro_batches(distributed.share(size), self.config.micro_batch_size)
        steps = [(self.step, part) for part in parts] + [
            (self.step + 1, part) for part in parts[:1]
        ]
        return [range(n * size + part.start, n * size + part.stop) for n, part in steps]

    def _by_quartile(self, mse, t):
        places = torch.arange(len(QUARTILES), device=t.device)
        inside = (t * len(QUARTILES) // self.process.n_steps)[:, None] == places
        return (inside * mse[:, None]).sum(dim=0), inside.sum(dim=0)

    def flush(self):
        """Turn the pending losses into a row of the log."""
        values = self.pending_values()
        before = self.log[-1][LOG_COLUMNS.index("seconds")] if self.log else self.first_seconds
        pace = (self.seconds - before) / len(values)
        means = values[:, :3].mean(axis=0).tolist()
        sums, counts = values[:, 3:-1].sum(axis=0).reshape(2, -1).tolist()
        quartiles = [s / n if n else float("nan") for s, n in zip(sums, counts, strict=True)]
        self.log.append([self.step, *means, *quartiles, self.learning_rate(), self.seconds, pace])
        self.pending = []

    def pending_values(self):
        """What ``update`` returned since the last row, (n, 12) float64; all of it finite.

        Raises:
            FloatingPointError: some of it is not, a loss or a gradient.
        """
        if not self.pending:
            return np.zeros((0, 4 + 2 * len(QUARTILES)))
        values = torch.stack(self.pending).double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            step = self.step - len(values) + int(bad[0])
            size = self.config.batch_size
            items = [self.stream.name(n) for n in range(step * size, (step + 1) * size)]
            raise FloatingPointError(
                f"loss or gradient not finite at step {step} (seed {self.run.seed}, view "
                f"{self.view}), items {', '.join(items)}; the checkpoint before it is intact: "
                "lower the learning rate or set gradient_clip"
            )
        return values


def build_network(config, seed):
    """A ``SemanticUNet`` whose initial weights follow from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemanticUNet(config)


def micro_batches(share, most):
    """A range cut into the fewest ranges of at most ``most``, which differ by at most one."""
    size, count = len(share), -(-len(share) // most)
    return [share[size * k // count : size * (k + 1) // count] for k in range(count)]
