"""The network that the SDM's benchmark times, and the rows of its table."""

from dataclasses import dataclass, field
from functools import cached_property

import torch

from benchmarks import measure
from benchmarks.cost import sdm_flops
from echo_lib.provenance import git_state
from echo_lib.sdm.recipe import build_network

GIB = 2**30
COLUMNS = {
    "what": ("what", ""),
    "precision": ("precision", ""),
    "batch": ("images", "d"),
    "seconds": ("seconds", ".3g"),
    "images_per_second": ("images/s", ".3g"),
    "tflop": ("TFLOP", ".3g"),
    "tflops_per_second": ("TFLOP/s", ".3g"),
    "of_matmul": ("of the matmul rate", ".2f"),
    "of_uncached": ("of the uncached step", ".2f"),
    "peak_gib": ("peak memory, GiB", ".2f"),
    "timed": ("timed", ""),
}


@dataclass
class Bench:
    """A network on a device, what is asked of it, and the rows found."""

    profile: object
    device: torch.device
    batch: int
    rounds: int
    matmul_size: int
    most_s: float = 0.0
    rows: list = field(default_factory=list)
    flops: dict = None

    def __post_init__(self):
        sdm, size = self.profile.sdm, self.profile.data.image_size_px
        recomputing = sdm.training.checkpoint_activations
        self.flops = sdm_flops(sdm.network, size, batch=self.batch, recomputing=recomputing)

    @cached_property
    def model(self):
        return self.network().to(self.device, memory_format=torch.channels_last)

    def network(self):
        """A network with its first weights, on the CPU, ready to sample."""
        return build_network(self.profile.sdm.network, 0).eval().requires_grad_(False)

    def inputs(self, device=None):
        """x_t, t and one-hot label maps of the batch."""
        network, size = self.profile.sdm.network, self.profile.data.image_size_px
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, network.image_channels, size, size, generator=generator)
        ids = torch.randint(0, network.classes, (self.batch, 1, size, size), generator=generator)
        onehot = (ids == torch.arange(network.classes).view(1, -1, 1, 1)).float()
        device = device or self.device
        x, onehot = (v.to(device, memory_format=torch.channels_last) for v in (x, onehot))
        return x, torch.full((self.batch,), 500, device=device), onehot

    def timed_beside_product(self, calls, precision, *, rounds=None):
        """Seconds of warm calls and the matrix product's rate, which takes turns with them."""
        dtype = getattr(torch, precision)
        product, operations = measure.matrix_product(self.device, dtype, size=self.matmul_size)
        product()
        seconds = measure.fastest(
            calls | {"matmul": product},
            device=self.device, rounds=rounds or self.rounds, warm=True,
        )  # fmt: skip
        return seconds, operations / seconds["matmul"]

    def row(self, what, precision):
        """The row of that name that holds a time, or None."""
        for row in self.rows:
            if (row["what"], row["precision"]) == (what, precision) and row["seconds"]:
                return row
        return None

    def add(self, what, precision, *, seconds, flops, rate, images=True, peak=None, timed="yes"):
        """Put down a row.

        Args:
            rate: of the matrix product beside it; the row's own is also given as a part of it.
        """
        row = {
            "what": what, "precision": precision, "seconds": seconds,
            "batch": self.batch if images else None,
            "images_per_second": self.batch / seconds if images else None,
            "tflop": flops / 1e12, "tflops_per_second": flops / seconds / 1e12,
            "of_matmul": flops / seconds / rate,
            "of_uncached": None,
            "peak_gib": peak / GIB if peak else None, "timed": timed,
            "rounds": self.rounds, "commit": git_state()[0],
        }  # fmt: skip
        self.rows.append(row)
        uncached = self.row("step, uncached", precision)
        if what.startswith("step") and uncached:
            # In units of the matrix product beside each: they may be of different spells.
            ours, theirs = (r["tflop"] / r["of_matmul"] for r in (row, uncached))
            row["of_uncached"] = ours / theirs

    def add_missing(self, what, precision, reason):
        """Put down a row that was not run, and why."""
        row = {"what": what, "precision": precision, "timed": f"not run: {reason}"}
        self.rows.append(dict.fromkeys(COLUMNS) | row)
