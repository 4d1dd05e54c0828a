"""Figures as files, with their provenance, and which of them the repository shows.

``save_figure`` writes PNG, PDF and a JSON sidecar into the run's folder. ``publish`` copies the
three to the tracked folder of figures, unless what stands there comes from a better profile.
"""

import json
import shutil

import matplotlib

from echo_lib.config import as_dict
from echo_lib.provenance import (
    MANIFEST,
    atomic_path,
    environment,
    require,
    sha256_file,
    write_json,
)

DPI = 300
SUFFIXES = (".png", ".pdf", ".json")  # the sidecar last: it says that the others are complete
# Without these the writers put the date and their own version into the file.
_METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_RC = {"pdf.fonttype": 42}  # text stays text


class PublishingError(RuntimeError):
    """A figure that must not be saved or shown; the message says why."""


def figure_folder(run):
    """Where the run's figures lie."""
    return run.folder / "figures"


def save_figure(run, figure, name, *, caption, inputs):
    """Write ``figures/<name>.png``, ``.pdf`` and ``.json`` of a run.

    Args:
        run: the run.
        figure: a matplotlib figure that carries the profile's stamp.
        name: without suffix.
        caption: what the figure shows, one or two sentences.
        inputs: names of the stages that it was drawn from; each must be finished.

    Returns:
        The sidecar.

    Raises:
        PublishingError: the profile has a stamp, and the figure does not carry it.
    """
    profile = run.profile
    if profile.stamp and profile.stamp not in _texts(figure):
        raise PublishingError(
            f"figure {name!r} does not carry the stamp {profile.stamp!r}; "
            "draw it with stamp_text=profile.stamp"
        )
    base = figure_folder(run) / name
    for kind, metadata in _METADATA.items():
        with atomic_path(_with(base, f".{kind}")) as temporary, matplotlib.rc_context(_RC):
            figure.savefig(temporary, dpi=DPI, metadata=metadata)
    sidecar = {
        "name": name,
        "profile": profile.name,
        "stamp": profile.stamp,
        "caption": caption,
        "seed": run.seed,
        "inputs": {stage: require(run, stage)["outputs_digest"] for stage in inputs},
        "config": as_dict(profile),
        **environment(),
        "png_sha256": sha256_file(_with(base, ".png")),
    }
    write_json(_with(base, ".json"), sidecar)
    return sidecar


def publish(run, name, folder):
    """Copy a saved figure to ``folder`` where its profile may stand there.

    The profile ``paper`` and the ``reduced`` ones always replace the demo's; the demo's is shown
    only where no better one is; ``smoke``, a user's own profiles and changed ones stay in their
    run folder, as does what was made from images that the authors released.

    Args:
        run: the run whose figure was saved.
        name: of the figure.
        folder: the tracked folder of figures.

    Returns:
        True where the figure was copied.
    """
    source, target = figure_folder(run) / name, folder / name
    ours, theirs = rank(run.profile.name), rank(_profile(_with(target, ".json")))
    if not run.profile.is_shipped or ours == 0 or ours < theirs or _is_imported(run):
        return False
    if sha256_file(_with(source, ".png")) != _sidecar(_with(source, ".json"))["png_sha256"]:
        raise PublishingError(
            f"{_with(source, '.png')} was altered since it was saved; save it again"
        )
    for suffix in SUFFIXES:
        with atomic_path(_with(target, suffix)) as temporary:
            shutil.copyfile(_with(source, suffix), temporary)
    return True


def rank(profile_name):
    """How good a profile's figures are: paper 3, reduced 2, demo 1, any other 0."""
    if profile_name.startswith("reduced"):
        return 2
    return {"paper": 3, "demo": 1}.get(profile_name, 0)


def _is_imported(run):
    """True where the synthetic images were not made by the run, but released by the authors."""
    path = run.folder / "synthetic" / MANIFEST
    return path.is_file() and "origin" in json.loads(path.read_text(encoding="utf-8"))["facts"]


def _texts(figure):
    return {text.get_text() for text in figure.texts}


def _with(base, suffix):
    return base.with_name(base.name + suffix)


def _sidecar(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _profile(path):
    return _sidecar(path).get("profile", "")
