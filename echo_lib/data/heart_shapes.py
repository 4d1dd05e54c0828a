"""A built-in cohort of four-chamber hearts: shape modes drawn per heart, and the mesh they make.

It stands in for the public cohort of heart meshes (docs/heart_meshes.md) where that is not at
hand, and is written and read as a file of it would be. A template of hexahedra, in rings about
the long axis, is shaped by a dozen lengths and angles: left ventricle and atrium with the mitral
valve's plane between them, right ventricle and atrium with the tricuspid's. There are no vessels.

Template frame, mm: origin in the mitral valve's centre, z from there to the apex, x away from the
right heart, y to the anterior wall. Each heart is then turned and shifted by a drawn rigid motion.
"""

from dataclasses import dataclass

import numpy as np

from echo_lib.seeding import numpy_generator

# Mean and standard deviation of each mode over the cohort; draws stay within two deviations.
MODES = {
    "size": (1.0, 0.07),  # scales every length
    "length": (80.0, 4.0),  # of the left ventricle's cavity, mitral plane to apex
    "radius": (23.5, 2.2),  # of the cavity at its widest
    "roundness": (1.0, 0.05),  # anterior-inferior width of the left heart over septal-lateral
    "bluntness": (2.4, 0.22),  # exponent of the apex: 2 an ellipse, more is blunter
    "wall": (12.5, 1.4),  # thickness of the left ventricle
    "bend": (0.0, 1.5),  # of the long axis, sideways at its middle
    "valve_tilt": (0.0, 4.0),  # of the base, degrees; positive raises the lateral side
    "atrium_length": (44.0, 5.0),
    "atrium_radius": (21.0, 2.2),
    "atrium_shift": (0.06, 0.05),  # sideways per mm below the mitral plane
    "right_width": (27.0, 4.0),  # of the right ventricle, septum to free wall
    "right_reach": (0.8, 0.05),  # of the right ventricle, part of the left one's length
    "right_atrium_radius": (18.0, 2.0),
}
_ATRIAL_WALL = 2.5  # thickness, mm
_RIGHT_WALL = 4.0
_VALVE = 2.0
_OVERLAP = 0.8  # of pieces that meet at an angle, mm, so that no gap opens between them
_ROUND = 48  # cells about the long axis
_HALF_OPENING = 65.0  # degrees of the septum that the right ventricle covers, to either side
_THIN = 0.8  # of a ventricle's wall, at the apex
_NECK = 0.78  # of a ventricle's radius, at the mitral plane


@dataclass(frozen=True)
class HeartShape:
    """One heart: a value per mode, and where it lies in space."""

    modes: dict[str, float]
    rotation: np.ndarray  # (3, 3), template frame to space
    shift_mm: np.ndarray  # (3,)

    def to_space(self, points):
        """Points (..., 3) of the template frame, in space."""
        return points @ self.rotation.T + self.shift_mm


def draw_shape(name, *, seed):
    """Draw one heart of the cohort.

    Args:
        name: of the heart; with ``seed`` it decides every number.
        seed: integer seed of the cohort.

    Returns:
        A ``HeartShape``.
    """
    rng = numpy_generator("heart", seed, name)
    weights = np.clip(rng.normal(size=len(MODES)), -2.0, 2.0)
    modes = {
        mode: mean + deviation * float(weight)
        for (mode, (mean, deviation)), weight in zip(MODES.items(), weights, strict=True)
    }
    basis, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    basis = basis * np.sign(np.diag(triangle))  # uniform over the orthogonal matrices
    basis[:, 0] *= np.linalg.det(basis)  # a rotation: anatomy has a handedness
    return HeartShape(modes, basis, rng.uniform(-100.0, 100.0, size=3))


def mean_shape():
    """The cohort's mean heart, in the template frame itself."""
    return HeartShape({mode: mean for mode, (mean, _) in MODES.items()}, np.eye(3), np.zeros(3))


def build(shape, labels):
    """The mesh of a heart.

    Args:
        shape: ``HeartShape``.
        labels: ``config.MeshLabelsConfig``.

    Returns:
        points: (P, 3) float32, mm.
        cells: (C, 8) int64, hexahedra in VTK's order of corners; those about an apex have
            coinciding corners.
        tissue: (C,) int32, of ``labels``.
    """
    modes = dict(shape.modes)
    blocks = [
        (labels.lv, _left_ventricle(modes)),
        (labels.la, _left_atrium(modes)),
        (labels.mitral, _mitral_plane(modes)),
        (labels.rv, _right_ventricle(modes)),
        (labels.tricuspid, _tricuspid_plane(modes)),
        (labels.ra, _right_atrium(modes)),
    ]
    points, cells, tissue, first = [], [], [], 0
    for label, grid in blocks:
        points.append(grid.reshape(-1, 3))
        cells.append(_hexahedra(grid) + first)
        tissue.append(np.full(len(cells[-1]), label, dtype=np.int32))
        first += len(points[-1])
    placed = shape.to_space(_warp(np.concatenate(points), modes))
    return placed.astype(np.float32), np.concatenate(cells), np.concatenate(tissue)


def _hexahedra(grid):
    """Corners (C, 8) of the cells of a grid of points (i, j, k, 3); volumes are positive."""
    index = np.arange(grid[..., 0].size).reshape(grid.shape[:3])
    j = grid.shape[1] // 4  # within a side of the right heart's opening, not at its corner
    edges = (grid[1, j, 0], grid[0, j + 1, 0], grid[0, j, 1])
    if np.linalg.det([corner - grid[0, j, 0] for corner in edges]) < 0:
        index = index[:, :, ::-1]
    low, high = slice(None, -1), slice(1, None)
    square = ((low, low), (high, low), (high, high), (low, high))
    corners = [index[i, j, k] for k in (low, high) for i, j in square]
    return np.stack([corner.ravel() for corner in corners], axis=1)


def _round():
    """Angles about the long axis; the last is the first, so that the seam closes exactly."""
    return np.radians([*np.arange(_ROUND) * 360.0 / _ROUND, 0.0])


def _right_angles():
    """Angles of the part of the septum that the right ventricle covers."""
    return np.radians(np.linspace(180.0 - _HALF_OPENING, 180.0 + _HALF_OPENING, 25))


def _between(inner, outer, layers):
    """Grid (i, j, layers + 1, 3) of points from one surface (i, j, 3) to another."""
    depth = np.linspace(0.0, 1.0, layers + 1)[:, None]
    return inner[:, :, None] + depth * (outer - inner)[:, :, None]


def _ventricle_radius(t, bluntness):
    """Radius of a left ventricle, part of its largest, at ``t`` of its length from the base."""
    belly = _NECK + (1.0 - _NECK) * np.sin(np.minimum(t / 0.45, 1.0) * np.pi / 2)
    return belly * np.sqrt(np.maximum(1.0 - t**bluntness, 0.0))


def _surface(modes, t, angle, grow):
    """Points of the endocardium (``grow`` 0) or of a surface ``grow`` mm outside it."""
    across = (modes["radius"] + grow) * _ventricle_radius(t, modes["bluntness"])
    z = (modes["length"] + _THIN * grow) * t
    x, y = across * np.cos(angle), across * modes["roundness"] * np.sin(angle)
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def _left_ventricle(modes):
    t = np.sin(np.linspace(0.0, np.pi / 2, 29))[:, None]  # denser at the apex
    angle = _round()[None, :]
    return _between(_surface(modes, t, angle, 0.0), _surface(modes, t, angle, modes["wall"]), 2)


def _mitral_plane(modes):
    ring = _surface(modes, np.zeros(1), _round(), _OVERLAP / _NECK)
    disc = ring[None] * np.linspace(1.0, 0.0, 7)[:, None, None]
    return _between(disc - (0.0, 0.0, _VALVE), disc, 1)


def _bag(ring, centre, radii, *, first, length, shift):
    """An atrium: from a ring (n, 3) at the valve it widens to an ellipse and closes at its roof.

    ``first`` is the angle on the ellipse, in degrees, where the ring begins; the ring is closed
    and runs as its points do.
    """
    turns = np.sign(_area(ring))
    angle = np.radians(first + turns * np.linspace(0.0, 360.0, len(ring)))
    ellipse = np.stack([radii[0] * np.cos(angle), radii[1] * np.sin(angle), 0.0 * angle], axis=-1)
    ellipse[-1] = ellipse[0]
    t = np.sin(np.linspace(0.0, np.pi / 2, 21))[:, None, None]
    swell = np.sin(np.minimum(t / 0.5, 1.0) * np.pi / 2) ** 2
    middle = ring[:-1].mean(axis=0)
    outline = (1.0 - swell) * (ring - middle) + swell * ellipse
    axis = (1.0 - swell) * middle + swell * np.array([*centre, 0.0])
    normal = turns * _normals(outline)
    closing = np.sqrt(np.maximum(1.0 - t**2.6, 0.0))
    down = np.array([shift, 0.0, -1.0])

    def layer(grow):
        return axis + (outline + grow * normal) * closing + (length + grow) * t * down

    return _between(layer(0.0), layer(_ATRIAL_WALL), 1)


def _area(ring):
    """Area of a closed ring (n, 3), seen from the apex; positive where it runs anticlockwise."""
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def _normals(rings):
    """Unit normals (m, n, 3) of closed rings, outwards where they run anticlockwise."""
    unique = rings[:, :-1]
    x, y, _ = np.moveaxis(np.roll(unique, -1, axis=1) - np.roll(unique, 1, axis=1), -1, 0)
    normal = np.stack([y, -x, 0.0 * x], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.concatenate([normal, normal[:, :1]], axis=1)


def _left_atrium(modes):
    ring = _surface(modes, np.zeros(1), _round(), 0.0)
    radii = modes["atrium_radius"] * np.array([1.0, modes["roundness"]])
    length, shift = modes["atrium_length"], modes["atrium_shift"]
    return _bag(ring, (0.0, 0.0), radii, first=0.0, length=length, shift=shift)


def _free_wall(modes, t, angle, grow):
    """Inner side of the right ventricle's free wall, grown outwards by ``grow``.

    ``t`` runs over the right ventricle's own length, 0 at its base.
    """
    place = t * modes["right_reach"] * modes["length"] / (modes["length"] + _THIN * modes["wall"])
    side = np.degrees(angle - np.pi) / _HALF_OPENING  # -1 and 1 where it meets the septum
    width = modes["right_width"] * np.sqrt(np.maximum(1.0 - side**2, 0.0))
    width = width * np.sqrt(np.maximum(1.0 - t**1.8, 0.0)) - _OVERLAP + grow
    outward = np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=-1)
    return _surface(modes, place, angle, modes["wall"]) + width[..., None] * outward


def _right_ventricle(modes):
    t = np.sin(np.linspace(0.0, np.pi / 2, 19))[:, None]
    angle = _right_angles()[None, :]
    inner = _free_wall(modes, t, angle, 0.0)
    return _between(inner, _free_wall(modes, t, angle, _RIGHT_WALL), 1)


def _crescent(modes):
    """The right ventricle's opening: the septal side and the free wall's, each (n, 3)."""
    angle, base = _right_angles(), np.zeros(1)
    free = _free_wall(modes, base, angle, _OVERLAP)
    return _surface(modes, base, angle, modes["wall"]), free


def _tricuspid_plane(modes):
    septal, free = _crescent(modes)
    free = free + _OVERLAP * free / np.linalg.norm(free, axis=-1, keepdims=True)
    plate = septal + np.linspace(0.0, 1.0, 5)[:, None, None] * (free - septal)
    return _between(plate - (0.0, 0.0, _VALVE), plate, 1)


def _right_atrium(modes):
    septal, free = _crescent(modes)
    ring = np.concatenate([septal, free[-2:0:-1], septal[:1]])  # down the septum, up the free wall
    radius = modes["right_atrium_radius"]
    beside = max(modes["atrium_radius"], _NECK * (modes["radius"] + modes["wall"]))
    centre = (-(beside + radius + 2.0 * _ATRIAL_WALL), 0.0)
    length = 0.95 * modes["atrium_length"]
    return _bag(ring, centre, (radius, 1.2 * radius), first=90.0, length=length, shift=0.0)


def _warp(points, modes):
    """Size, bend and tilted base, for all tissues alike, so that what touches goes on touching."""
    x, y, z = np.moveaxis(points, -1, 0)
    place = np.clip(z / modes["length"], 0.0, 1.0)
    tilted = z + np.tan(np.radians(modes["valve_tilt"])) * x * np.exp(-((z / 20.0) ** 2))
    bent = x + modes["bend"] * np.sin(np.pi * place)
    return modes["size"] * np.stack([bent, y, tilted], axis=-1)
