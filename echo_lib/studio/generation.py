"""Echoes of edited label maps: reproducible by their settings, made off the main thread."""

import threading
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from echo_lib.config import SamplingConfig
from echo_lib.labels import VIEWS
from echo_lib.sdm import sampling
from echo_lib.sdm.samplers import SAMPLERS
from echo_lib.seeding import torch_generator

PREVIEW_STEPS = 3  # evaluations of the first, rough answer


class Cancelled(Exception):
    """Another request came, or the user gave up."""


@dataclass(frozen=True)
class Settings:
    """What decides an image beside its label map.

    Raises:
        ValueError: an unknown view or sampler, steps or guidance out of range.
    """

    view: str = "4CH"
    sampler: str = "dpm_solver_pp"
    steps: int = 15  # network evaluations
    guidance: float = 0.0  # s of Eq. 1; of use where the weights were trained for it
    seed: int = 0

    def __post_init__(self):
        if self.view not in VIEWS or self.sampler not in SAMPLERS:
            raise ValueError(
                f"view {self.view!r} and sampler {self.sampler!r}, expected one of {VIEWS} and one "
                f"of {tuple(SAMPLERS)}"
            )
        if not 2 <= self.steps <= 1000 or not 0 <= self.guidance <= 20:
            raise ValueError(
                f"steps {self.steps} and guidance {self.guidance}, expected 2..1000 and 0..20"
            )

    def as_code(self):
        """The call that makes these settings."""
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in asdict(self).items())})"


def generate(label_map, settings, *, weights=None, on_step=None):
    """The echo of a label map; the same for the same map, settings and weights.

    Args:
        label_map: (H, W) SDM ids; sides that the network's grid divides.
        settings: ``Settings``.
        weights: safetensors of an SDM; None takes the shipped ones of the view.
        on_step: called with (evaluations done, of how many); may raise to stop.

    Returns:
        (H, W) uint8.
    """
    denoiser = _load(str(weights or sampling.shipped_weights(settings.view)))
    calls = settings.steps * (2 if settings.guidance else 1)
    if on_step:
        denoiser = denoiser._replace(model=_Counting(denoiser.model, on_step, calls))
    config = SamplingConfig(
        sampler=settings.sampler, steps=settings.steps, eta=0.0, guidance=settings.guidance,
        batch_size=1, precision="auto", compile=False, cache_gib=1.0,
    )  # fmt: skip
    maps = torch.from_numpy(np.array(label_map, dtype=np.int64))[None]
    generators = [torch_generator("studio", settings.seed)]
    return sampling.sample(denoiser, maps, config, generators=generators)[0].numpy()


@lru_cache(maxsize=4)
def _load(path):
    return sampling.load_denoiser(Path(path))


class _Counting:
    """A network that reports each of its evaluations."""

    def __init__(self, model, on_step, total):
        self._model, self._on_step, self._total, self._done = model, on_step, total, 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, *arguments, **options):
        output = self._model(*arguments, **options)
        self._done += 1
        self._on_step(min(self._done, self._total), self._total)
        return output


@dataclass(frozen=True)
class Request:
    """An image that is wanted.

    Attributes:
        label_map: (H, W) uint8 SDM ids.
        settings: ``Settings``.
        record: JSON text of the edits behind the map.
        weights: see ``generate``.
    """

    label_map: np.ndarray
    settings: Settings
    record: str = ""
    weights: Path | None = None


class Worker:
    """Makes one image at a time on a thread of its own; the latest request wins.

    Each request is answered twice, by a preview of few steps and by the image. All callbacks run on
    the worker's thread.

    Args:
        on_progress: called with (request, evaluations done, of how many).
        on_image: called with (request, (H, W) uint8, is it the preview).
        on_error: called with (request, exception).
    """

    def __init__(self, on_progress, on_image, on_error):
        self._on_progress, self._on_image, self._on_error = on_progress, on_image, on_error
        self._condition = threading.Condition()
        self._wanted, self._number, self._busy = None, 0, False
        self._thread = None

    @property
    def busy(self):
        """True while a request waits or is under way."""
        with self._condition:
            return self._busy or self._wanted is not None

    def request(self, request):
        """Ask for an image; one under way is given up."""
        with self._condition:
            self._number += 1
            self._wanted = request
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True, name="studio")
                self._thread.start()
            self._condition.notify_all()

    def cancel(self):
        """Give up what is under way and what waits."""
        with self._condition:
            self._number += 1
            self._wanted = None
            self._condition.notify_all()

    def wait(self, timeout_s=None):
        """Block until nothing is wanted or under way; True where that was so in time."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._busy and self._wanted is None, timeout_s
            )

    def _run(self):
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._wanted is not None)
                request, number = self._wanted, self._number
                self._wanted, self._busy = None, True
            try:
                self._answer(request, number)
            except Cancelled:
                continue
            except Exception as error:  # told to the user, whatever it is; the thread lives on
                self._on_error(request, error)

    def _answer(self, request, number):
        def on_step(done, total):
            if number != self._number:
                raise Cancelled
            self._on_progress(request, done, total)

        settings = request.settings
        if settings.steps > PREVIEW_STEPS:
            quick = replace(settings, sampler="dpm_solver_pp", steps=PREVIEW_STEPS)
            self._make(request, quick, on_step, number, preview=True)
        self._make(request, settings, on_step, number, preview=False)

    def _make(self, request, settings, on_step, number, *, preview):
        image = generate(request.label_map, settings, weights=request.weights, on_step=on_step)
        if number != self._number:
            raise Cancelled
        self._on_image(request, image, preview)
