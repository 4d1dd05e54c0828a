"""Run folders, stages and manifests.

A stage owns one folder of ``<run_root>/<profile>/``. ``Stage.open`` compares the stage's identity
(profile, the config it reads, seed, the code it runs, the manifests it reads) with what the folder
was made for: the same identity resumes or is already finished, another one is set aside. The stage
ends with ``manifest.json``, which the next stage requires.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from echo_lib.config import Profile, as_dict

PACKAGE = Path(__file__).resolve().parent
MANIFEST = "manifest.json"
IDENTITY = "stage.json"
# Figures and results are written by runs; what decides a result is this.
_CODE = ("echo_lib", "config", "notebooks", "workflow", "weights", "requirements.lock")
_LIBRARIES = ("torch", "monai", "torchio", "numpy", "pandas", "SimpleITK", "matplotlib")

# The library files whose meaning a stage's results rest on. The workflow reads this too.
STAGE_CODE = {
    "cohort": (
        "labels.py", "seeding.py", "data/camus.py", "data/camus_files.py", "data/anatomy.py",
        "data/tissue.py", "data/speckle.py", "data/phantom.py",
    ),
    "prepared": (
        "labels.py", "seeding.py", "data/camus.py", "data/camus_files.py", "data/augment.py",
        "data/prepare.py",
    ),
    "sdm": (
        "labels.py", "seeding.py", "checkpoints.py", "distributed.py", "precision.py",
        "data/datasets.py",
        "sdm/blocks.py", "sdm/unet.py", "sdm/diffusion.py", "sdm/samplers.py", "sdm/denoiser.py",
        "sdm/stream.py", "sdm/carry.py", "sdm/recipe.py", "sdm/preview.py", "sdm/training.py",
    ),
    "synthetic": (
        "labels.py", "seeding.py", "checkpoints.py", "precision.py", "data/datasets.py",
        "sdm/blocks.py", "sdm/unet.py", "sdm/diffusion.py", "sdm/samplers.py", "sdm/denoiser.py",
        "sdm/sampling.py", "sdm/verification.py",
    ),
    "comparison": (
        "labels.py", "seeding.py", "checkpoints.py", "precision.py", "data/datasets.py",
        "sdm/blocks.py", "sdm/unet.py", "sdm/diffusion.py", "sdm/samplers.py", "sdm/denoiser.py",
        "sdm/sampling.py", "sdm/verification.py", "sdm/comparison.py",
    ),
    "pseudo": (
        "labels.py", "seeding.py", "data/speckle.py", "data/meshes.py", "data/mesh_slices.py",
        "data/heart_shapes.py", "data/pseudo_image.py", "data/pseudo.py", "data/datasets.py",
    ),
    "cyclegan": (
        "labels.py", "seeding.py", "checkpoints.py", "precision.py", "data/datasets.py",
        "cyclegan/networks.py", "cyclegan/images.py", "cyclegan/losses.py", "cyclegan/training.py",
    ),
    "translated": (
        "labels.py", "seeding.py", "checkpoints.py", "precision.py", "data/datasets.py",
        "cyclegan/networks.py", "cyclegan/images.py", "cyclegan/interop.py",
        "cyclegan/translation.py",
    ),
    "fidelity": (
        "labels.py", "seeding.py", "rows.py", "data/datasets.py", "segmentation/unet.py",
        "segmentation/variants.py",
        "segmentation/prediction.py", "evaluation/metrics.py", "evaluation/statistics.py",
        "evaluation/structures.py", "evaluation/distances.py", "evaluation/fidelity.py",
    ),
    "copies": (
        "labels.py", "seeding.py", "checkpoints.py", "distributed.py", "precision.py",
        "data/datasets.py",
        "sdm/blocks.py", "sdm/unet.py", "sdm/diffusion.py", "sdm/samplers.py", "sdm/denoiser.py",
        "sdm/sampling.py", "sdm/verification.py", "sdm/copies.py",
    ),
    "segmentation": (
        "labels.py", "seeding.py", "rows.py", "checkpoints.py", "data/datasets.py",
        "segmentation/unet.py", "segmentation/frames.py", "segmentation/losses.py",
        "segmentation/augmentation.py", "segmentation/variants.py", "segmentation/validation.py",
        "segmentation/training.py", "segmentation/prediction.py",
    ),
    "evaluation": (
        "labels.py", "seeding.py", "rows.py", "data/datasets.py", "data/camus.py",
        "data/camus_files.py", "data/originals.py", "data/echonet.py", "segmentation/unet.py",
        "segmentation/variants.py",
        "segmentation/prediction.py", "evaluation/metrics.py", "evaluation/volumes.py",
        "evaluation/statistics.py", "evaluation/ledger.py", "evaluation/contradictions.py",
        "evaluation/strata.py",
        "evaluation/table.py", "evaluation/report.py", "evaluation/results.py",
    ),
}  # fmt: skip


class StageError(RuntimeError):
    """A stage whose input is missing, altered or of another run; the message says which."""


@dataclass(frozen=True)
class Run:
    """One run of the pipeline: a profile, a seed, and where things lie."""

    profile: Profile
    seed: int
    data_root: Path | None
    run_root: Path

    @property
    def folder(self):
        """``<run_root>/<profile>``."""
        return Path(self.run_root) / self.profile.name


@contextlib.contextmanager
def atomic_path(path):
    """A temporary sibling of ``path`` to write to; renamed to it only if the body succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers that choose a format by extension keep working.
    temporary = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sha256_file(path):
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value):
    """Hex SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(stage):
    """SHA-256 of the library code behind a stage, blind to comments, docstrings and layout.

    Args:
        stage: a stage's name; of ``sdm/4CH`` only the part before the slash counts.
    """
    files = [PACKAGE / name for name in STAGE_CODE[stage.partition("/")[0]]]
    return digest([_code_meaning(file) for file in files if file.is_file()])


def _code_meaning(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return [path.name, ast.dump(tree)]


@dataclass
class Stage:
    """One stage's folder, open for work.

    Attributes:
        name: ``prepared``, ``sdm/4CH``, ...; also the folder below the run's.
        identity: what the result depends on; equal identities give equal files.
    """

    run: Run
    name: str
    identity: dict
    started: float = field(default_factory=time.monotonic)

    @property
    def folder(self):
        return self.run.folder / self.name

    @classmethod
    def open(cls, run, name, *, config, inputs=(), extra=None):
        """Open a stage, set aside what another identity left there, keep what can be resumed.

        Args:
            run: the run.
            name: the stage's name.
            config: the config dataclasses that the stage reads, by name.
            inputs: names of the stages it reads; each must be finished and unaltered.
            extra: further JSON-able facts that the result depends on (hashes of outside files).
        """
        identity = {
            "stage": name,
            "profile": run.profile.name,
            "seed": run.seed,
            "config": {key: as_dict(value) for key, value in config.items()},
            "code": code_digest(name),
            "inputs": {key: require(run, key)["outputs_digest"] for key in inputs},
            "extra": extra or {},
        }
        stage = cls(run, name, identity)
        stage._set_aside()
        write_json(stage.folder / IDENTITY, identity)
        return stage

    def _set_aside(self):
        marker = self.folder / IDENTITY
        if not marker.is_file():
            return
        before = json.loads(marker.read_text(encoding="utf-8"))
        if before == self.identity:
            return
        changed = [key for key in self.identity if before.get(key) != self.identity[key]]
        aside = self.folder.with_name(f"{self.folder.name}.superseded-{digest(before)[:8]}")
        if aside.exists():
            aside = aside.with_name(f"{aside.name}-{time.time_ns()}")
        self.folder.rename(aside)
        print(
            f"{self.name}: {', '.join(changed)} changed; the earlier result is kept as {aside.name}"
        )

    def finished(self):
        """The manifest where this stage is done and its files are unaltered, else None."""
        if not (self.folder / MANIFEST).is_file():
            return None
        return require(self.run, self.name)

    def finish(self, outputs, *, facts=None, device="cpu"):
        """Write the manifest.

        Args:
            outputs: the files made, below the stage's folder.
            facts: JSON-able numbers worth keeping (counts, scores).
            device: what it ran on.
        """
        for partial in self.folder.rglob(".*.partial.*"):  # left half-written by a killed process
            partial.unlink(missing_ok=True)
        hashes = {_relative(path, self.folder): sha256_file(path) for path in sorted(outputs)}
        manifest = {
            **self.identity,
            "outputs_digest": digest(hashes),
            "facts": facts or {},
            **environment(device),
            "seconds": round(time.monotonic() - self.started, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "outputs": hashes,
        }
        write_json(self.folder / MANIFEST, manifest)
        return manifest


def require(run, name):
    """The manifest of a finished stage, its files checked against their hashes.

    Raises:
        StageError: the stage is missing, of another profile, or a file of it is missing or altered.
    """
    folder = run.folder / name
    path = folder / MANIFEST
    if not path.is_file():
        raise StageError(f"stage {name!r} is not finished: {path} is missing; run it first")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for key, expected in (("profile", run.profile.name), ("seed", run.seed)):
        if manifest[key] != expected:
            raise StageError(
                f"{path}: made with {key} {manifest[key]!r}, expected {expected!r}; "
                "choose another run_root or run the stage again"
            )
    for name_, expected in manifest["outputs"].items():
        file = folder / name_
        if not file.is_file() or sha256_file(file) != expected:
            state = "altered" if file.is_file() else "missing"
            raise StageError(
                f"{file}: {state} since stage {name!r} finished; remove it and {path}, run again"
            )
    return manifest


def manifests_of(folder):
    """The manifests of a run's finished stages, in the order in which they finished.

    Args:
        folder: ``Run.folder``.
    """
    paths = sorted(Path(folder).rglob(MANIFEST))
    found = [json.loads(p.read_text("utf-8")) for p in paths if ".superseded-" not in str(p)]
    return sorted(found, key=lambda manifest: manifest["finished"])


def environment(device="cpu"):
    """Commit, dirty flag, library versions and device, as manifests and sidecars record them."""
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "device": _device_name(device),
    }


@cache
def git_state():
    """The repository's commit and whether code or weights differ from it."""
    try:
        call = {"cwd": PACKAGE.parent, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **call).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", *_CODE], **call
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(status.strip())


def _device_name(device):
    """``cpu``, or ``cuda:0 (NVIDIA H200)``."""
    if not str(device).startswith("cuda"):
        return str(device)
    import torch  # only a process that has it already gets here

    return f"{device} ({torch.cuda.get_device_name(device)})"


def _relative(path, folder):
    return Path(path).relative_to(folder).as_posix()


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
