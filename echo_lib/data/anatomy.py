"""The hearts of the phantom: their numbers, drawn per patient, and their label maps.

A phantom heart is a handful of lengths in millimetres. Two coordinates carry the geometry:
``along`` runs from the mitral plane (0) to the apex (the cavity's length) and on; ``across`` is the
signed distance from the bent long axis, positive to the right of the image. Proportions follow the
apical views of CAMUS (S. Leclerc et al., IEEE TMI 38(9), 2019): apex up, base down, the right heart
on the left.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from echo_lib.labels import CAMUS_BACKGROUND, CAMUS_LA, CAMUS_LV, CAMUS_MYOCARDIUM, VIEWS
from echo_lib.seeding import numpy_generator

SPACING_MM = 0.5  # of the phantom's pixels, along both axes


@dataclass(frozen=True)
class ViewShape:
    """One apical view of a heart; lengths in mm, angles in degrees."""

    mitral_x: float  # centre of the mitral plane, from the sector's centre line
    apex_z: float  # depth of the cavity's apex
    tilt: float  # of the long axis; positive leans the apex to the left
    length: float  # of the cavity, mitral plane to apex
    half_width: float  # of the cavity
    bluntness: float  # exponent of the apex: 2 an ellipse, more is blunter
    wall: float  # thickness of the myocardium
    bend: float  # of the long axis, at its middle
    ripple: tuple[float, ...]  # of the two walls: three sine amplitudes each
    atrium_length: float
    atrium_half_width: float
    atrium_shift: float  # sideways per mm below the mitral plane
    ventricle_width: float  # right ventricle; 0 where the view has none


@dataclass(frozen=True)
class Contraction:
    """What changes from end diastole to end systole, as ratios (ES over ED)."""

    length: float
    width: float
    wall: float
    atrium: float


@dataclass(frozen=True)
class Patient:
    """One patient of the cohort: heart, acquisition and what the Info file says."""

    name: str
    shapes: dict[str, ViewShape]
    contraction: Contraction
    depth_mm: float  # of the sector, apex to arc
    half_angle: float  # of the sector, degrees
    apex_x: float  # of the sector, mm from the middle column
    quality: str  # Good, Medium or Poor, as CAMUS grades its images
    gain: float  # grey levels
    grey_per_db: float  # of the log compression
    sex: str
    age: int
    n_frames: int
    frame_rate: float


def draw_patient(patient, *, seed):
    """Draw the numbers of one patient.

    Args:
        patient: name, e.g. ``"patient0001"``; with ``seed`` it decides every number.
        seed: integer seed of the cohort.

    Returns:
        A ``Patient``.
    """
    rng = numpy_generator("phantom", seed, patient, "anatomy")
    size = _normal(rng, 1.0, 0.075)
    length = 79.0 * size
    squeeze = rng.uniform(0.60, 0.84)
    return Patient(
        name=patient,
        shapes={view: _draw_shape(view, size, rng) for view in VIEWS},
        contraction=Contraction(
            length=rng.uniform(0.86, 0.94),
            width=squeeze,
            wall=1.05 + 0.7 * (1.0 - squeeze) + rng.uniform(0.0, 0.06),
            atrium=rng.uniform(1.12, 1.28),
        ),
        depth_mm=length + rng.uniform(60.0, 80.0),
        half_angle=_normal(rng, 37.5, 1.5),
        apex_x=rng.uniform(-1.5, 1.5),
        quality=str(rng.choice(["Good", "Medium", "Poor"], p=[0.45, 0.40, 0.15])),
        gain=_normal(rng, 0.0, 13.0),
        grey_per_db=rng.uniform(4.4, 6.0),
        sex=str(rng.choice(["F", "M"])),
        age=round(_normal(rng, 65.0, 14.0)),
        n_frames=int(rng.integers(14, 26)),
        frame_rate=round(rng.uniform(42.0, 62.0), 1),
    )


def _normal(rng, mean, deviation):
    """A normal draw held within two standard deviations: variation without monsters."""
    return mean + deviation * float(np.clip(rng.normal(), -2.0, 2.0))


def _draw_shape(view, size, rng):
    four = view == "4CH"
    length = 79.0 * size * rng.uniform(0.97, 1.03)
    tilt = _normal(rng, 3.5 if four else 7.0, 2.0 if four else 2.5)
    apex_x = _normal(rng, 2.0 if four else -2.5, 1.6)  # near the centre line, or the sector cuts it
    return ViewShape(
        mitral_x=apex_x + length * float(np.sin(np.radians(tilt))),
        apex_z=rng.uniform(22.0, 33.0),
        tilt=tilt,
        length=length,
        half_width=24.5 * size * rng.uniform(0.86, 1.16),
        bluntness=rng.uniform(2.0, 2.9),
        wall=rng.uniform(9.6, 11.2) * (1.0 if four else 1.06),
        bend=_normal(rng, 0.0, 1.5),
        ripple=tuple(rng.normal(0.0, (0.9, 0.7, 0.4) * 2).tolist()),
        atrium_length=rng.uniform(34.0, 46.0) * size,
        atrium_half_width=rng.uniform(17.0, 22.0) * size,
        atrium_shift=_normal(rng, -0.08 if four else 0.12, 0.10),
        ventricle_width=rng.uniform(17.0, 27.0) * size if four else 0.0,
    )


@dataclass(frozen=True)
class Geometry:
    """One frame of one patient: the shape as it is in this phase, and the frame's pixels."""

    shape: ViewShape
    mitral_z: float
    depth_mm: float
    half_angle: float
    apex_x: float

    @property
    def size(self):
        """Rows and columns that hold the whole sector."""
        half = self.depth_mm * np.sin(np.radians(self.half_angle)) + abs(self.apex_x)
        return int(self.depth_mm / SPACING_MM) + 4, 2 * int(half / SPACING_MM) + 5

    def grid(self):
        """x (lateral, from the sector's centre line) and z (depth) of the pixels in mm, (H, W)."""
        rows, columns = self.size
        x = (np.arange(columns) - (columns - 1) / 2) * SPACING_MM - self.apex_x
        z = (np.arange(rows) - 2.0) * SPACING_MM
        return np.meshgrid(x, z)

    def sector(self):
        """Bool (H, W): True inside the ultrasound sector."""
        x, z = self.grid()
        angle = np.degrees(np.abs(np.arctan2(x, z)))
        return (angle <= self.half_angle) & (np.hypot(x, z) <= self.depth_mm) & (z > 0)


def geometry(patient, view, phase):
    """The ``Geometry`` of a frame: the ED shape, contracted where ``phase`` is ``"ES"``."""
    shape, depth = patient.shapes[view], patient.depth_mm
    mitral_z = shape.apex_z + shape.length * np.cos(np.radians(shape.tilt))
    if phase == "ES":
        descent = 0.75 * (1.0 - patient.contraction.length) * shape.length
        mitral_z -= descent  # the base moves to the apex, more than the apex to the base
        shape = _contract(shape, patient.contraction)
    return Geometry(shape, float(mitral_z), depth, patient.half_angle, patient.apex_x)


def _contract(shape, contraction):
    changed = dict(vars(shape))
    changed["length"] *= contraction.length
    changed["half_width"] *= contraction.width
    changed["wall"] *= contraction.wall
    changed["atrium_length"] *= contraction.atrium
    changed["atrium_half_width"] *= 0.4 + 0.6 * contraction.atrium
    changed["ventricle_width"] *= 0.5 + 0.5 * contraction.width
    return ViewShape(**changed)


def heart_coordinates(frame):
    """``along`` and ``across`` of every pixel in mm, each (H, W); see the module's first lines."""
    x, z = frame.grid()
    tilt = np.radians(frame.shape.tilt)
    dx, dz = x - frame.shape.mitral_x, z - frame.mitral_z
    along = -dx * np.sin(tilt) - dz * np.cos(tilt)
    across = dx * np.cos(tilt) - dz * np.sin(tilt)
    position = np.clip(along / frame.shape.length, 0.0, 1.0)
    return along, across - frame.shape.bend * np.sin(np.pi * position)


def ventricle_half_width(shape, along, across, grow=0.0):
    """Half width in mm of the left ventricle at each pixel, grown outwards by ``grow`` mm.

    ``grow=0`` is the endocardium, ``grow=shape.wall`` the epicardium. Below the mitral plane the
    width stays that of the plane; above the apex it is 0.
    """
    t = 1.0 - np.linspace(1.0, 0.0, 400) ** 2  # denser at the apex, where the width changes fast
    belly = 0.82 + 0.18 * np.sin(np.minimum(t / 0.4, 1.0) * np.pi / 2)
    smooth = (shape.half_width + grow) * belly * np.sqrt(1.0 - t**shape.bluntness)
    left, right = (
        np.maximum(smooth + _ripple(waves, t) * np.minimum(smooth / 8.0, 1.0), 0.0)
        for waves in (shape.ripple[:3], shape.ripple[3:])
    )
    place = along / (shape.length + grow)
    return np.where(across < 0, np.interp(place, t, left), np.interp(place, t, right))


def _ripple(amplitudes, t):
    return sum(a * np.sin(np.pi * k * t) for k, a in enumerate(amplitudes, start=1))


def atrium_mask(shape, along, across):
    """Bool (H, W): the left atrium, from the mitral plane down."""
    t = np.clip(-along / shape.atrium_length, 0.0, 1.0)
    neck = 0.85 + 0.15 * np.sin(np.minimum(t / 0.5, 1.0) * np.pi / 2)
    half = shape.atrium_half_width * neck * np.sqrt(1.0 - t**2.6)
    return (along < 0) & (np.abs(across + shape.atrium_shift * along) < half)


def draw_label_map(frame):
    """The label map of a frame.

    Args:
        frame: ``Geometry``.

    Returns:
        (H, W) uint8, CAMUS ids; every structure in one piece, none outside the sector.
    """
    along, across = heart_coordinates(frame)
    endocardium = ventricle_half_width(frame.shape, along, across)
    epicardium = ventricle_half_width(frame.shape, along, across, frame.shape.wall)
    beyond = np.abs(across) - endocardium
    lv = (along >= 0) & (beyond < 0)
    wall = (along >= -0.2 * np.maximum(beyond, 0.0)) & (np.abs(across) < epicardium) & ~lv
    label_map = np.full(along.shape, CAMUS_BACKGROUND, dtype=np.uint8)
    label_map[atrium_mask(frame.shape, along, across)] = CAMUS_LA
    label_map[wall] = CAMUS_MYOCARDIUM
    label_map[lv] = CAMUS_LV
    label_map[~frame.sector()] = CAMUS_BACKGROUND
    for structure in (CAMUS_LV, CAMUS_MYOCARDIUM, CAMUS_LA):
        _keep_largest_piece(label_map, structure)
    return label_map


def _keep_largest_piece(label_map, structure):
    """Clear, in place, every piece of ``structure`` but the largest."""
    pieces, n = ndimage.label(label_map == structure)
    if n > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        label_map[(pieces > 0) & (pieces != sizes.argmax())] = CAMUS_BACKGROUND
