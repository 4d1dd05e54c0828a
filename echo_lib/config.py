"""Profiles: one frozen dataclass per stage, read from ``config/*.yaml``.

A profile file names every value; nothing has a default here, so a number has one home. An unknown,
missing or mistyped key raises ``ConfigError`` and names the nearest key.
"""

import dataclasses
import difflib
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from echo_lib.labels import PHASES

CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "config"


class ConfigError(ValueError):
    """A profile that cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class DataConfig:
    """Where the frames come from and how they are prepared."""

    source: str  # "phantom": drawn by the library; "camus": read from data_root
    training_patients: int  # 0 takes every patient of the split
    validation_patients: int
    test_patients: int
    evaluation_split: str  # the split on which Dice is reported
    image_size_px: int  # frames are resized to this many rows and columns
    workers: int  # processes; no output depends on it


@dataclass(frozen=True)
class AugmentationConfig:
    """Random transforms of label maps (paper, section 2.2)."""

    maps_per_frame: int
    degrees: tuple[float, float]  # rotation, range
    translate: tuple[float, float]  # largest shift, fraction of width and of height
    scale: tuple[float, float]  # zoom, range
    shear_degrees: float  # horizontal shear in (-shear, shear)
    control_points: tuple[int, int, int]  # elastic grid: slices, rows, columns
    max_displacement_px: tuple[float, float, float]  # slices, rows, columns, at 256 px


@dataclass(frozen=True)
class SemanticUNetConfig:
    """The SDM's network; ``config/paper.yaml`` holds the released one."""

    image_channels: int  # 1, or 3 with the grey image repeated
    classes: int  # of the label map
    width: int  # channels of the first level
    multipliers: tuple[int, ...]  # channels of each level, in units of width
    residual_blocks: int  # per level
    attention_downsampling: tuple[int, ...]  # levels with attention, by downsampling factor
    head_width: int  # channels of an attention head
    spade_hidden_width: int
    norm_groups: int
    patch_size: int  # pixel-unshuffle stem; 1 is none
    learned_variance: bool
    dropout: float  # 0; kept to read the released config


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise process and its objective (paper, section 2.1)."""

    timesteps: int  # T
    schedule: str  # "cosine" or "linear"
    prediction: str  # "epsilon", "x0" or "v": what the network's output means
    vlb_weight: float  # of the variational bound beside the MSE
    v_weight_limit: float  # x0 errors count as errors of v, by 1 / sigma_t^2 up to this; 0: plain


@dataclass(frozen=True)
class SDMTrainingConfig:
    """How an SDM is trained."""

    phases: tuple[str, ...]  # of the frames it sees, from "ED", "ES"
    steps: int
    batch_size: int  # over all processes
    micro_batch_size: int  # at most so many a forward pass; gradients accumulate over the rest
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float  # largest gradient norm; 0 is none
    ema_decay: float
    ema_warmup: bool  # decay min(ema_decay, (1 + step) / (10 + step))
    flip_probability: float  # horizontal
    label_dropout: float  # probability of a null condition, for guidance
    precision: str  # "float32", "bfloat16", or "auto": bfloat16 where the device has it
    checkpoint_activations: bool  # recompute them in the backward pass: less memory, more time
    compile: bool  # torch.compile of the network; worth its start where steps are many
    checkpoint_every: int  # steps
    log_every: int  # steps
    preview_every: int  # steps between images of fixed maps and seeds; 0 makes none
    initial_weights: str  # pattern with {view}, relative to the repository; "" starts from scratch


@dataclass(frozen=True)
class SamplingConfig:
    """How label maps become images."""

    sampler: str  # "ddpm", "ddim" or "dpm_solver_pp"
    steps: int  # network evaluations per image
    eta: float  # DDIM stochasticity; 0 is deterministic
    guidance: float  # s of Eq. 1; 0 is none
    batch_size: int  # images per forward pass; no image depends on it but for rounding
    precision: str  # "float32", "bfloat16", or "auto": bfloat16 where the device has it
    compile: bool  # torch.compile of the step; worth its start where images are many
    cache_gib: float  # for the modulations of a batch's maps, as computed; the rest is recomputed


@dataclass(frozen=True)
class ComparisonConfig:
    """The samplers side by side, on the same label maps of the validation split."""

    maps: int  # as many of each view and phase
    steps: tuple[int, ...]  # network evaluations per image, each by every sampler
    reference_steps: int  # of ancestral sampling, which the others are measured against


@dataclass(frozen=True)
class SegmentationConfig:
    """The segmentation network and its training (paper, section 2.2)."""

    variant: str  # "as_written": the paper and sound practice; "as_released": the released code
    layers: int  # 2**L channels in layer L
    epochs: int
    images_per_epoch: int  # of every row; 0: each image once, of some patients as many as of all
    batch_size: int
    learning_rate: float
    final_learning_rate: float  # of the cosine annealing over all epochs
    betas: tuple[float, float]
    loss: str  # "cross_entropy" or "dice_cross_entropy"
    gamma: tuple[float, float]  # exponent, range
    flip_probability: float
    degrees: tuple[float, float]
    translate: tuple[float, float]  # largest shift, fraction of width and of height
    scale: tuple[float, float]
    checkpoint_every: int  # epochs
    validate_every: int  # epochs
    table_seeds: tuple[int, ...]  # one network per row of Table 1 and seed
    extra_seeds: tuple[int, ...]  # the same of the extra rows
    extra_rows: tuple[str, ...]  # slugs of the rows run beside those of Table 1
    fidelity_threshold: float  # synthetic images that follow their map less are left out; 0: none


@dataclass(frozen=True)
class MeshLabelsConfig:
    """The tissue numbers in the cells of a heart mesh."""

    lv: int  # myocardium of the left ventricle
    rv: int
    la: int  # wall of the left atrium
    ra: int
    mitral: int  # plane of the valve
    tricuspid: int


@dataclass(frozen=True)
class MeshesConfig:
    """Heart meshes and the pseudo-images cut from them (paper, section 2.3)."""

    folder: str  # of .vtk or .vtu files, relative to the repository; "" draws the built-in cohort
    hearts: int  # of the built-in cohort; of a folder, at most so many, 0 takes all
    slices_per_view: int  # per heart, each with a plane, probe and depth of its own
    labels: MeshLabelsConfig


@dataclass(frozen=True)
class CycleGANConfig:
    """The baseline: networks and training (paper, section 2.3; arXiv 1703.10593, section 4)."""

    meshes: MeshesConfig
    width: int  # channels of the generator's first level
    residual_blocks: int
    discriminator_width: int
    epochs: int
    images_per_epoch: int  # 0: as many as the larger of the two sets
    constant_epochs: int  # then the rate falls linearly to 0
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    cycle_weight: float
    identity_weight: float  # in units of cycle_weight
    pool_size: int  # earlier images that the discriminators are shown again
    precision: str  # "float32", "bfloat16", or "auto": bfloat16 where the device has it
    checkpoint_every: int  # epochs


@dataclass(frozen=True)
class SDMConfig:
    """Everything of the semantic diffusion model."""

    network: SemanticUNetConfig
    diffusion: DiffusionConfig
    training: SDMTrainingConfig
    sampling: SamplingConfig
    comparison: ComparisonConfig


@dataclass(frozen=True)
class Profile:
    """A whole run: what it is for, and every number of every stage."""

    name: str
    purpose: str  # one line, shown on figures and tables
    data: DataConfig
    augmentation: AugmentationConfig
    sdm: SDMConfig
    cyclegan: CycleGANConfig
    segmentation: SegmentationConfig

    @property
    def stamp(self):
        """What figures and tables say on their face; empty for the paper on real data."""
        if self.name == "paper" and self.is_shipped:
            return ""
        data = {"phantom": "phantoms in place of CAMUS", "camus": "CAMUS"}[self.data.source]
        known = (CONFIG_FOLDER / f"{self.name}.yaml").is_file()
        changed = " (changed)" if known and not self.is_shipped else ""
        return f"profile {self.name}{changed} · {data} · {self.data.evaluation_split} split"

    @property
    def is_shipped(self):
        """True where every number is that of ``config/<name>.yaml``; workers do not count."""
        if not (CONFIG_FOLDER / f"{self.name}.yaml").is_file():
            return False
        shipped = load_profile(self.name)
        data = dataclasses.replace(shipped.data, workers=self.data.workers)
        return dataclasses.replace(shipped, data=data) == self


_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_CHOICES = {
    "source": ("phantom", "camus"),
    "phases": PHASES,
    "evaluation_split": ("validation", "test"),
    "schedule": ("cosine", "linear"),
    "prediction": ("epsilon", "x0", "v"),
    "sampler": ("ddpm", "ddim", "dpm_solver_pp"),
    "precision": ("float32", "bfloat16", "auto"),
    "loss": ("cross_entropy", "dice_cross_entropy"),
    "variant": ("as_written", "as_released"),
}


def profile_path(profile):
    """The file of a profile, given by name (``demo``) or by path."""
    path = Path(profile)
    if path.suffix not in (".yaml", ".yml"):
        path = CONFIG_FOLDER / f"{profile}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in CONFIG_FOLDER.glob("*.yaml"))
        raise ConfigError(f"profile {str(profile)!r} not found; expected one of {known} or a .yaml")
    return path


def load_profile(profile, overrides=None):
    """Read a profile.

    Args:
        profile: a name in ``config/`` or the path of a .yaml file.
        overrides: dotted keys to values, e.g. ``{"sdm.training.steps": 10}``.

    Raises:
        ConfigError: unknown, missing or mistyped keys, values out of their choices.
    """
    path = profile_path(profile)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: expected a mapping of keys, found {type(values).__name__}")
    values.setdefault("name", path.stem)
    for key, value in (overrides or {}).items():
        _override(values, key, value, path.name)
    return _build(Profile, values, path.name, "")


def parse_overrides(assignments):
    """``["sdm.training.steps=10"]`` as ``{"sdm.training.steps": 10}``; values are YAML."""
    pairs = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"override {assignment!r}: expected KEY=VALUE")
        pairs[key.strip()] = yaml.safe_load(value) if value.strip() else ""
    return pairs


def as_dict(config):
    """A config as plain dictionaries and lists, ready for JSON or YAML."""
    return _plain(dataclasses.asdict(config))


def as_yaml(config):
    """A config as YAML text, in the order of its fields."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)


def _override(values, key, value, where):
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            raise ConfigError(
                f"{where}: override of {key!r}: no section {parent!r}{_near(parent, values)}"
            )
        values = values[parent]
    if last not in values:
        raise ConfigError(f"{where}: override of {key!r}: no such key{_near(last, values)}")
    values[last] = value


def _near(key, known):
    close = difflib.get_close_matches(str(key), [str(name) for name in known], n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(map(str, known))}"


def _build(cls, values, where, prefix):
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {prefix or 'file'}: expected keys, found {values!r}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {prefix}{key!s}{_near(key, hints)}")
    missing = [key for key in hints if key not in values]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(prefix + key for key in missing)}")
    return cls(**{k: _value(t, values[k], where, prefix + k) for k, t in hints.items()})


def _value(hint, value, where, key):
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where, key + ".")
    if isinstance(hint, types.GenericAlias):
        return _sequence(hint, value, where, key)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)  # YAML 1.1 reads 1e-4 as text
    if type(value) is not hint:
        raise ConfigError(f"{where}: {key}: expected {hint.__name__}, found {value!r}")
    choices = _CHOICES.get(key.rsplit(".", 1)[-1].partition("[")[0])
    if choices and value not in choices:
        raise ConfigError(f"{where}: {key}: {value!r}{_near(value, choices)}")
    return value


def _sequence(hint, value, where, key):
    parts = typing.get_args(hint)
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: {key}: expected a list, found {value!r}")
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(parts) != len(value):
        raise ConfigError(f"{where}: {key}: expected {len(parts)} values, found {len(value)}")
    return tuple(
        _value(t, v, where, f"{key}[{i}]")
        for i, (t, v) in enumerate(zip(parts, value, strict=True))
    )


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
