"""The gallery of extreme label maps: which edits it shows, and the echo of each.

All images of a comparison start from the same noise, so they differ by their maps alone.
"""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from echo_lib.checkpoints import load_weights
from echo_lib.config import CONFIG_FOLDER, load_profile
from echo_lib.distributed import device
from echo_lib.provenance import PACKAGE
from echo_lib.rows import stage_name
from echo_lib.sdm.sampling import load_denoiser, sample, shipped_weights
from echo_lib.seeding import numpy_generator, torch_generator
from echo_lib.studio import deform, validity
from echo_lib.studio.label_map import EDITS, Edit, edits_from, replay
from echo_lib.studio.parameters import EditError, nearest
from echo_lib.studio.strength import sample_maps

# The columns of Fig. 4. Swirl and shear take the sector with them.
COLUMNS = {
    "Swirl": [{"name": "swirl", "parameters": {"angle_degrees": 60, "radius": 0.7, "move": "all"}}],
    "Shear": [{"name": "shear", "parameters": {"angle_degrees": 20, "move": "all"}}],
    "Septal defect": [{"name": "septal_defect", "parameters": {"position": 0.45, "width": 0.25}}],
    "Missing left atrium": [{"name": "missing_atrium"}],
}

# Row title: edit, what stays the same, the parameter that grows, its values, how they are written.
GRADES = {
    "Turn": ("affine", {}, "rotation_degrees", (15, 30, 45, 60), "{:g}°"),
    "Shift": ("affine", {}, "right", (0.03, 0.06, 0.09, 0.12), "{:.0%}"),
    "Scale": ("affine", {}, "scale", (0.9, 0.8, 0.7, 0.6), "× {:g}"),
    "Shear": ("shear", {}, "angle_degrees", (10, 20, 30, 40), "{:g}°"),
    "Swirl": ("swirl", {}, "angle_degrees", (30, 60, 90, 120), "{:g}°"),
    "Elastic": ("elastic", {"radius": 0.35}, "points", (0.04, 0.08, 0.12, 0.16), "{:.0%}"),
    "Mitral plane": ("mitral_plane", {}, "shift", (-0.2, -0.1, 0.15, 0.3), "{:+.0%}"),
    "Wall thickness": ("wall_thickness", {}, "factor", (0.4, 0.7, 1.4, 1.8), "× {:g}"),
    "Left atrium grown": (
        "grow", {"structure": "left atrium"}, "amount", (-0.04, -0.02, 0.02, 0.04), "{:+.0%}",
    ),
    "Left atrium enlarged": ("enlarged_atrium", {}, "factor", (0.7, 1.3, 1.6, 2.0), "× {:g}"),
    "Left atrium missing": ("missing_atrium", {}, "missing", (0.25, 0.5, 0.75, 1), "{:.0%}"),
    "Septal defect": (
        "septal_defect", {"position": 0.45}, "width", (0.1, 0.2, 0.3, 0.45), "{:.0%}",
    ),
    "Dilated ventricle": (
        "dilated_ventricle", {"wall": 0.8}, "width", (0.7, 1.2, 1.4, 1.6), "× {:g}",
    ),
    "Septal hypertrophy": (
        "hypertrophy", {"region": "septum"}, "factor", (1.4, 1.8, 2.2, 2.6), "× {:g}",
    ),
    "Apical aneurysm": ("apical_aneurysm", {}, "size", (0.05, 0.1, 0.15, 0.2), "{:.0%}"),
    "Pericardial effusion": (
        "pericardial_effusion", {}, "width", (0.03, 0.06, 0.09, 0.12), "{:.0%}",
    ),
}  # fmt: skip
_GRID = (4, 4)  # control points of the elastic row


class Weights(NamedTuple):
    """A file of weights and what a figure says of it."""

    path: object
    words: str


def columns(records=""):
    """The columns of the gallery: title to edits.

    Args:
        records: "" for COLUMNS; else a dictionary of titles to lists of edits, or a list of edits,
            one a column; or either as JSON text.

    Raises:
        EditError: none of these, or an edit that cannot be made.
    """
    if isinstance(records, str) and records:
        try:
            records = json.loads(records)
        except json.JSONDecodeError as error:
            raise EditError(f"edits: not JSON ({error}); expected a list of edits") from error
    if isinstance(records, (list, tuple)):
        edits = edits_from(records)
        titles = [f"{number}. {EDITS[e.name].title}" for number, e in enumerate(edits, start=1)]
        return {title: [edit] for title, edit in zip(titles, edits, strict=True)}
    return {title: edits_from(edits) for title, edits in (records or COLUMNS).items()}


def grades(*, seed):
    """Every row of GRADES: (title, how much, edit), row by row, in growing strength.

    Args:
        seed: of the elastic row's directions.
    """
    graded = []
    for title, (name, fixed, parameter, values, text) in GRADES.items():
        for value in values:
            given = value
            if parameter == "points":
                generator = numpy_generator("gallery elastic", seed)
                given = deform.drawn_points(
                    generator, rows=_GRID[0], columns=_GRID[1], largest=value
                )
            strength = text.format(value).replace("%", " %").replace("-", "−")
            graded.append((title, strength, Edit(name, {**fixed, parameter: given})))
    return graded


def choose(names, label_maps, *, name=""):
    """The position of a frame: that of ``name``, or the first whose map has the fewest oddities.

    Args:
        names: N names.
        label_maps: (N, H, W) SDM ids.
        name: of the frame wanted, or "".

    Raises:
        ValueError: no frame of that name.
    """
    names = list(names)
    if name:
        if name not in names:
            raise ValueError(f"frame {name!r} is not among these{nearest(name, names)}")
        return names.index(name)
    return min(range(len(names)), key=lambda n: len(validity.findings(np.asarray(label_maps[n]))))


def most_different(position, label_maps):
    """Of the other maps with the fewest oddities, that which shares the fewest pixels with one.

    Args:
        position: of the one.
        label_maps: (N, H, W) SDM ids.
    """
    label_maps = np.asarray(label_maps)
    others = [n for n in range(len(label_maps)) if n != position] or [position]
    oddities = {n: len(validity.findings(label_maps[n])) for n in others}
    sound = [n for n in others if oddities[n] == min(oddities.values())]
    return max(sound, key=lambda n: (label_maps[n] != label_maps[position]).sum())


def maps_of(label_map, lists):
    """(N, H, W) uint8: the map after each of N lists of edits."""
    return np.stack([replay(label_map, edits) for edits in lists])


def echoes(denoiser, label_maps, config, *, seed):
    """The images of label maps, all from the same noise.

    Args:
        denoiser: ``sdm.sampling.Denoiser``.
        label_maps: (N, H, W) SDM ids.
        config: ``SamplingConfig``.
        seed: names the noise.

    Returns:
        (N, H, W) uint8 array.
    """
    batches = torch.from_numpy(np.asarray(label_maps)).split(config.batch_size)
    images = [
        sample(denoiser, b, config, generators=[torch_generator("gallery", seed) for _ in b])
        for b in batches
    ]
    return torch.cat(images).numpy()


def echoes_of(run, index, label_maps):
    """Echoes of a run's label maps by the SDMs of the gallery, each from the noise of its name.

    Args:
        run: ``provenance.Run``.
        index: data frame of N lines with name and view.
        label_maps: (N, H, W) uint8 SDM ids.

    Returns:
        (N, H, W) uint8 images, and the words that say which weights drew them.
    """
    images, words = np.zeros_like(label_maps), {}
    for view in sorted(set(index["view"])):
        weights, at = weights_for(run, view), np.flatnonzero(index["view"] == view)
        names, config = index["name"].iloc[at], run.profile.sdm.sampling
        denoiser = load_denoiser(weights.path, device=device())
        images[at] = sample_maps(denoiser, label_maps[at], config, names=names, seed=run.seed)
        words[weights.words] = None
    return images, "; ".join(words)


def weights_for(run, view):
    """The SDM of the gallery: the run's own, or shipped ones where the run knows phantoms alone.

    Shipped weights are taken where they are for images of the run's size.

    Args:
        run: ``provenance.Run``.
        view: of the label maps.
    """
    own = Weights(
        run.folder / f"sdm/{view}/weights.safetensors", f"images by this run's SDM ({view})"
    )
    if run.profile.data.source != "phantom":
        return own
    path = shipped_weights(view)
    trained_on = _profile_of(path)
    if trained_on is None or not _same_size(trained_on, run.profile):
        return own
    data = {"camus": "CAMUS", "phantom": "phantoms"}[trained_on.data.source]
    return Weights(path, f"images by the shipped weights {path.name}, trained on {data}")


def judge_for(run, images_by):
    """The segmentation network that says whether images follow their maps.

    It should have been trained on real frames of the kind that the SDM was trained on: the run's
    own, unless the SDM is a shipped one of other data and a shipped network fits it.

    Args:
        run: ``provenance.Run``.
        images_by: ``Weights`` of the SDM.
    """
    own = run.folder / stage_name("real_all", run.profile.segmentation.table_seeds[0])
    own = Weights(own / "weights.safetensors", "judged by this run's network")
    needs = None if run.folder in images_by.path.parents else _profile_of(images_by.path)
    if needs is None or needs.data.source == run.profile.data.source:
        return own
    path = PACKAGE.parent / "weights" / "segmentation_real_all.safetensors"
    shipped = _profile_of(path) if path.is_file() else None
    if shipped and shipped.data.source == needs.data.source and _same_size(shipped, run.profile):
        return Weights(path, f"judged by the shipped {path.name}")
    return own._replace(words=f"{own.words}, which has seen phantoms alone")


def stages_of(run, *weights):
    """The run's own stages among the places that ``Weights`` come from."""
    folders = [each.path.parent for each in weights]
    own = [folder for folder in folders if run.folder in folder.parents]
    return [folder.relative_to(run.folder).as_posix() for folder in own]


def index_of(names, frame):
    """The lines that ``evaluation.fidelity`` wants of images made from edited maps of a frame.

    Args:
        names: N names.
        frame: the frame's own line: patient, view, phase, split.
    """
    keys = ("patient", "view", "phase", "split")
    return pd.DataFrame({"name": list(names), **{key: frame[key] for key in keys}})


def _profile_of(path):
    """The shipped profile that a file of weights was made under, or None."""
    name = load_weights(path)[1].get("profile", "")
    return load_profile(name) if (CONFIG_FOLDER / f"{name}.yaml").is_file() else None


def _same_size(first, second):
    return first.data.image_size_px == second.data.image_size_px
