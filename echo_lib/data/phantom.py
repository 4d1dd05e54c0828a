"""A cohort of echocardiogram phantoms in the layout of the current CAMUS release.

Hearts with speckle, drawn by the library: no patient's data, no download, any number of patients.
They let every stage run, and be tested, where CAMUS itself may not be copied; a number measured on
them says nothing about patients. ``anatomy`` draws hearts and label maps, ``tissue`` gives every
pixel its echo level, ``speckle`` makes the image.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from echo_lib.data import anatomy, camus, speckle, tissue
from echo_lib.data.anatomy import SPACING_MM, draw_label_map, draw_patient
from echo_lib.labels import CAMUS_LV, PHASES, SPLITS, VIEWS
from echo_lib.provenance import atomic_path
from echo_lib.seeding import numpy_generator

SPLIT_FILES = {"training": "training", "validation": "validation", "test": "testing"}
COHORT_FILE = "phantom.json"
GREY_OF_MUSCLE = 97.0
N_DISCS = 20
# What each grade does to an image: haze (dB below muscle), lost walls (dB), speckle width (ratio).
_QUALITY = {"Good": (-8.5, 5.0, 1.0), "Medium": (-6.5, 8.0, 1.1), "Poor": (-4.5, 11.0, 1.25)}


def render(patient, view, phase, *, seed):
    """Draw one frame.

    Args:
        patient: ``Patient`` from ``draw_patient``.
        view: ``"2CH"`` or ``"4CH"``.
        phase: ``"ED"`` or ``"ES"``.
        seed: integer seed of the cohort.

    Returns:
        image: (H, W) uint8, rows = depth with the probe at the top; exactly 0 outside the sector
            and 1..255 inside.
        label_map: (H, W) uint8, CAMUS ids.
        spacing_mm: (2,) float64, of rows and columns.

    Raises:
        ValueError: for another view or phase.
    """
    _require(view, VIEWS, "view")
    _require(phase, PHASES, "phase")
    frame = anatomy.geometry(patient, view, phase)
    label_map = draw_label_map(frame)
    of_view = numpy_generator("phantom", seed, patient.name, view, "tissue")
    of_frame = numpy_generator("phantom", seed, patient.name, view, phase, "speckle")
    level = tissue.echo_level(frame, label_map, of_view)
    image = _form_image(patient, frame, level, of_view, of_frame)
    return image, label_map, np.array([SPACING_MM, SPACING_MM])


def _require(value, allowed, what):
    if value not in allowed:
        raise ValueError(f"unknown {what} {value!r}, expected one of {', '.join(allowed)}")


def _form_image(patient, frame, level, of_view, of_frame):
    """Grey levels (H, W) uint8 of a map of echo levels in dB (H, W)."""
    x, z = frame.grid()
    place = (x, z, frame.depth_mm, frame.half_angle)
    beams = speckle.to_beams(level, *place, aberration_mm=_aberration(of_view))
    beams = _acquisition(patient, beams, of_view, right_heart=frame.shape.ventricle_width > 0)
    lateral = tuple(_QUALITY[patient.quality][2] * width for width in speckle.LATERAL)
    echo = speckle.speckle_image(beams, of_frame, lateral=lateral)
    grey = speckle.from_beams(echo, *place) * patient.grey_per_db + GREY_OF_MUSCLE + patient.gain
    return np.where(frame.sector(), np.clip(np.rint(grey), 1, 255), 0).astype(np.uint8)


def _aberration(rng):
    """Ragged borders: trabeculae and refraction, which an expert's contour smooths over (mm)."""
    coarse = [1.0 * speckle.smooth_field(rng, depth_scale=16, beam_scale=7) for _ in range(2)]
    fine = [0.6 * speckle.smooth_field(rng, depth_scale=7, beam_scale=4) for _ in range(2)]
    return np.array(coarse) + np.array(fine)


def _acquisition(patient, level, rng, *, right_heart):
    """What machine, window and chest do to the echo levels in beam space (dB)."""
    haze, weakened, _ = _QUALITY[patient.quality]
    depth = np.linspace(0.0, 1.0, speckle.N_DEPTHS)[:, None]
    side = np.linspace(-1.0, 1.0, speckle.N_BEAMS)[None, :]
    level = level + 5.5 * speckle.smooth_field(rng, depth_scale=60, beam_scale=25)
    level += 3.5 * speckle.smooth_field(rng, depth_scale=12, beam_scale=12)
    level += rng.uniform(2.0, 12.0) * (depth - 0.55)  # attenuation, more than made up for
    streaks = speckle.smooth_field(rng, depth_scale=11, beam_scale=32)
    level += rng.uniform(5.0, 13.0) * np.maximum(streaks - 0.7, 0.0) * np.minimum(2 * depth, 1.0)
    level -= (rng.uniform(-4.0, 4.0) if right_heart else rng.uniform(1.0, 8.0)) * side
    for sign in (-1.0, 1.0):  # walls along the beam, and ribs at the sector's edges
        start = rng.uniform(0.35, 0.75)
        level -= rng.uniform(0.2, 1.0) * weakened * np.clip((sign * side - start) / 0.3, 0, 1)
    bands = 4.0 * np.cos(2.0 * np.pi * depth / rng.uniform(0.03, 0.045))  # reverberation
    near = rng.uniform(13.0, 19.0) - 120.0 * depth + bands
    clutter = haze + rng.uniform(-2.5, 2.5) - rng.uniform(0.0, 8.0) * np.abs(depth - 0.25)
    clutter = clutter + 1.2 * speckle.smooth_field(rng, depth_scale=80, beam_scale=40)
    power = sum(10.0 ** (part / 10.0) for part in (level, near, clutter))
    return 10.0 * np.log10(power)


def ejection_fraction(patient):
    """Ejection fraction in percent, by the biplane method of discs on the drawn label maps."""
    volume = {
        phase: biplane_volume(
            [draw_label_map(anatomy.geometry(patient, view, phase)) == CAMUS_LV for view in VIEWS]
        )
        for phase in PHASES
    }
    return 100.0 * (1.0 - volume["ES"] / volume["ED"])


def biplane_volume(cavities, spacing_mm=SPACING_MM):
    """Volume in ml of a cavity seen in two orthogonal views (R. M. Lang et al., JASE 28(1), 2015).

    Args:
        cavities: two (H, W) bool masks.
        spacing_mm: of their pixels, along both axes.
    """
    (one, length_one), (two, length_two) = (discs(mask, spacing_mm) for mask in cavities)
    height = max(length_one, length_two) / N_DISCS
    return float(np.pi / 4.0 * (one * two).sum() * height / 1000.0)


def discs(cavity, spacing_mm=SPACING_MM):
    """Diameters in mm (N_DISCS,) of a mask along its principal axis, and its length in mm."""
    points = np.argwhere(cavity) * spacing_mm
    points = points - points.mean(axis=0)
    axis = np.linalg.eigh(np.cov(points.T))[1][:, 1]
    position = points @ (axis if axis[0] > 0 else -axis)
    length = float(np.ptp(position)) + spacing_mm
    middle = (position.min() + position.max()) / 2
    ends = (middle - length / 2, middle + length / 2)
    counts = np.histogram(position, bins=N_DISCS, range=ends)[0]
    return counts * spacing_mm**2 / (length / N_DISCS), length


def write_cohort(root, *, training, validation, test, seed, workers=1):
    """Write a cohort of phantoms as the current CAMUS release lays its patients out.

    Patients are numbered from 1: training first, then validation, then test. Every file is written
    atomically and depends on the seed and the patient alone, so a stopped run goes on where it was
    and the bytes do not depend on ``workers``. Files that are there are kept.

    Args:
        root: folder of the release; made where missing.
        training: number of patients of the split, 0 or more; ``validation`` and ``test`` likewise.
        seed: integer seed of the cohort.
        workers: processes that draw; 1 draws in this one.

    Returns:
        dict of split name to tuple of patient names.

    Raises:
        ValueError: for a negative count, no patient at all, fewer than one worker, or a folder that
            holds a cohort of another seed.
    """
    counts = dict(zip(SPLITS, (training, validation, test), strict=True))
    if min(counts.values()) < 0 or not sum(counts.values()):
        raise ValueError(f"patients per split {counts}, expected 0 or more each and one at least")
    if workers < 1:
        raise ValueError(f"workers={workers}, expected 1 or more")
    root = Path(root)
    _claim(root, seed)
    splits = _name_patients(counts)
    tasks = [(root, name, seed) for names in splits.values() for name in names]
    tasks = [task for task in tasks if not all(path.exists() for path in _files(*task[:2]))]
    _run(tasks, workers)
    _write_splits(root, splits)
    return splits


def _claim(root, seed):
    """Note the seed in the folder, or stop where the folder is another seed's."""
    note = root / COHORT_FILE
    if note.exists():
        found = json.loads(note.read_text())["seed"]
        if found != seed:
            raise ValueError(
                f"{root} holds phantoms of seed {found}, not {seed}; "
                "use another folder or delete this one"
            )
        return
    root.mkdir(parents=True, exist_ok=True)
    with atomic_path(note) as path:
        path.write_text(json.dumps({"kind": "phantom", "seed": seed}) + "\n")


def _name_patients(counts):
    numbers = iter(range(1, sum(counts.values()) + 1))
    return {
        split: tuple(f"patient{next(numbers):04d}" for _ in range(counts[split]))
        for split in SPLITS
    }


def _run(tasks, workers):
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            _write_patient(task)
        return
    # A fork would copy the locks of threads (torch, BLAS) that the caller may have running.
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        for _ in pool.map(_write_patient, tasks):
            pass


def _files(root, name):
    """Every file of a patient: four images, four label maps, two Info files."""
    folder = root / "database_nifti" / name
    frames = [f"{name}_{view}_{phase}" for view in VIEWS for phase in PHASES]
    images = [folder / f"{frame}{end}.nii.gz" for frame in frames for end in ("", "_gt")]
    return images + [folder / f"Info_{view}.cfg" for view in VIEWS]


def _write_patient(task):
    root, name, seed = task
    patient = draw_patient(name, seed=seed)
    folder = root / "database_nifti" / name
    folder.mkdir(parents=True, exist_ok=True)
    for view in VIEWS:
        for phase in PHASES:
            _write_frame(folder, patient, view, phase, seed)
    info = _info(patient)
    for view in VIEWS:
        if not (folder / f"Info_{view}.cfg").exists():
            with atomic_path(folder / f"Info_{view}.cfg") as path:
                path.write_text(info)


def _write_frame(folder, patient, view, phase, seed):
    frame = folder / f"{patient.name}_{view}_{phase}"
    targets = [frame.with_name(frame.name + end) for end in (".nii.gz", "_gt.nii.gz")]
    if all(path.exists() for path in targets):
        return
    image, label_map, spacing_mm = render(patient, view, phase, seed=seed)
    for path, array in zip(targets, (image, label_map), strict=True):
        if not path.exists():
            camus.write_image(path, array, spacing_mm)


def _info(patient):
    fields = {
        "ED": 1,
        "ES": patient.n_frames,
        "NbFrame": patient.n_frames,
        "Sex": patient.sex,
        "Age": patient.age,
        "ImageQuality": patient.quality,
        "EF": round(ejection_fraction(patient), 1),
        "FrameRate": patient.frame_rate,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def _write_splits(root, splits):
    folder = root / "database_split"
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        with atomic_path(folder / f"subgroup_{SPLIT_FILES[split]}.txt") as path:
            path.write_text("".join(f"{name}\n" for name in names))
