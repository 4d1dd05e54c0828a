"""From a heart mesh to a label map: the anatomical planes, the cut, and the probe's view of it.

The 4-chamber plane holds the left ventricle's long axis and the tricuspid centre; the 2-chamber
plane is that turned about the axis. An acquisition (how far the plane is off, where the probe sits,
how deep it looks) is drawn as plain numbers and then applied, so a slice can be made again exactly.

Plane coordinates, mm: ``right`` and ``down`` as on the screen, from the middle of the long axis.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from echo_lib.data.meshes import MeshError
from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR, VIEWS

# Anticlockwise as seen from the apex: from the side away from the right heart to the anterior wall.
VIEW_DEGREES = {"4CH": 0.0, "2CH": 90.0}
RASTER_MM = 0.5  # pixels in which walls close cavities; half of what a valve's plane is thick
_DECIMALS = 4  # of the drawn numbers, so that a CSV file holds them exactly
_MARGIN = 2  # pixels of the raster around the tissue
# Where a cavity is looked for, as parts of the way from the mitral centre.
_VENTRICLE_SEEDS = np.linspace(0.25, 0.75, 11)  # to the apex
_ATRIUM_SEEDS = np.linspace(0.4, 1.2, 9)  # to the centre of the atrium's wall


@dataclass(frozen=True)
class Plane:
    """A plane through a heart: where it lies and how it stands on the screen, (3,) each."""

    origin: np.ndarray  # mm
    right: np.ndarray  # unit vectors
    down: np.ndarray  # from the apex to the base

    @property
    def normal(self):
        """Unit vector; with ``right`` and ``down`` it makes a right-handed frame."""
        return np.cross(self.right, self.down)

    def project(self, points):
        """Plane coordinates (..., 2) in mm of points (..., 3), along the normal."""
        return (points - self.origin) @ np.stack([self.right, self.down], axis=-1)


@dataclass(frozen=True)
class Section:
    """The tissues that a plane cuts, as pixels of RASTER_MM.

    Attributes:
        tissue: (H, W) int32, 0 where there is none.
        corner_mm: plane coordinates (right, down) of the centre of pixel (0, 0).
    """

    tissue: np.ndarray
    corner_mm: np.ndarray

    def pixels(self, points_mm):
        """Rows and columns (..., 2), whole, of points in plane coordinates (..., 2)."""
        return np.rint((points_mm - self.corner_mm) / RASTER_MM).astype(int)[..., ::-1]

    def sample(self, values, points_mm, *, outside):
        """``values`` (H, W) at the nearest pixels of points (..., 2); ``outside`` beyond them."""
        rows, columns = np.moveaxis(self.pixels(points_mm), -1, 0)
        height, width = values.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return np.where(inside, values[rows * inside, columns * inside], outside)


def draw_acquisition(rng):
    """Draw how one slice is taken; nothing of it depends on the heart.

    The ranges give the place and size that structures have in prepared CAMUS frames.

    Args:
        rng: NumPy generator of the item.

    Returns:
        A dictionary for JSON: ``rotation_degrees`` about the long axis, ``tilt_degrees`` across it
        and ``offset_mm`` along the normal, from the anatomical plane; ``depth`` of the sector, in
        lengths of the axis (mitral plane to apex); ``gap`` between probe and apex, in depths;
        ``lean_degrees`` of the axis on the screen, the apex to the left; ``aside_mm`` of the apex,
        right of the sector's centre line; ``half_angle_degrees`` of the sector.
    """

    def normal(mean, deviation):
        return round(mean + deviation * float(np.clip(rng.normal(), -2.0, 2.0)), _DECIMALS)

    return {
        "rotation_degrees": normal(0.0, 6.0),
        "tilt_degrees": normal(0.0, 2.5),
        "offset_mm": normal(0.0, 2.0),
        "depth": round(rng.uniform(1.5, 2.05), _DECIMALS),
        "gap": normal(0.12, 0.03),
        "lean_degrees": normal(5.0, 4.0),
        "aside_mm": normal(-0.5, 2.5),
        "half_angle_degrees": round(rng.uniform(36.5, 38.5), _DECIMALS),
    }


def anatomical_plane(landmarks, view):
    """The 4-chamber or 2-chamber plane of a heart.

    Args:
        landmarks: ``meshes.Landmarks``.
        view: ``"2CH"`` or ``"4CH"``.

    Returns:
        A ``Plane`` from the middle of the long axis, apex up, the right heart on the left.
    """
    if view not in VIEW_DEGREES:
        raise ValueError(f"unknown view {view!r}, expected one of {', '.join(VIEWS)}")
    axis = landmarks.apex - landmarks.mitral
    up = axis / np.linalg.norm(axis)
    away = landmarks.mitral - landmarks.tricuspid
    away = away - (away @ up) * up
    lateral = away / np.linalg.norm(away)
    middle = (landmarks.apex + landmarks.mitral) / 2
    return Plane(middle, _rotate(lateral, up, VIEW_DEGREES[view]), -up)


def displaced_plane(plane, acquisition):
    """The plane that an acquisition takes in place of the anatomical one."""
    right = _rotate(plane.right, -plane.down, acquisition["rotation_degrees"])
    down = _rotate(plane.down, right, acquisition["tilt_degrees"])
    turned = Plane(plane.origin, right, down)
    return Plane(plane.origin + acquisition["offset_mm"] * turned.normal, right, down)


def _rotate(vector, axis, degrees):
    """Rotate about a unit axis, anticlockwise as seen with the axis towards the eye (Rodrigues)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along = (axis @ vector) * axis
    return along + cosine * (vector - along) + sine * np.cross(axis, vector)


def slice_heart(mesh, view, acquisition, *, image_size_px):
    """The label map that a probe sees of a heart.

    Args:
        mesh: ``meshes.HeartMesh``.
        view: ``"2CH"`` or ``"4CH"``.
        acquisition: from ``draw_acquisition``.
        image_size_px: rows and columns.

    Returns:
        (H, W) uint8 SDM ids. As in prepared frames, the sector fills the square, so the pixels of
        a row and of a column differ in mm.

    Raises:
        MeshError: the plane misses the heart, a chamber is not cut, a chamber is open.
    """
    plane = displaced_plane(anatomical_plane(mesh.landmarks, view), acquisition)
    where = f"{mesh.name}, {view}"
    last = (mesh.labels.mitral, mesh.labels.la, mesh.labels.lv)
    section = cut(mesh.grid, plane, last=last, where=where)
    structures = enclose(section, mesh, plane, where=where)
    points, sector = _probe_view(mesh.landmarks, plane, acquisition, image_size_px)
    seen = section.sample(structures, points, outside=SDM_SECTOR)
    return np.where(sector, seen, SDM_OUTSIDE).astype(np.uint8)


def cut(grid, plane, *, last=(), where="mesh"):
    """Cut a grid with a plane and rasterise what is cut.

    Args:
        grid: ``pyvista.UnstructuredGrid`` with cell array ``tissue``, mm.
        plane: ``Plane``.
        last: tissues painted over the others, in this order; matters where cells overlap.
        where: what to name in a message.

    Returns:
        A ``Section``.

    Raises:
        MeshError: the plane misses the mesh.
    """
    surface = grid.slice(normal=plane.normal, origin=plane.origin, generate_triangles=True)
    if surface.n_cells == 0:
        raise MeshError(f"{where}: empty slice; the plane passes the heart by")
    points = plane.project(np.asarray(surface.points, dtype=np.float64))
    corner = np.floor(points.min(axis=0) / RASTER_MM - _MARGIN) * RASTER_MM
    extent = np.ceil((points.max(axis=0) - corner) / RASTER_MM).astype(int) + _MARGIN + 1
    pixels = (points - corner) / RASTER_MM
    triangles = surface.regular_faces
    of_triangle = np.asarray(surface.cell_data["tissue"])
    there = np.unique(of_triangle).tolist()
    tissue = np.zeros(extent[::-1], dtype=np.int32)
    for number in [n for n in there if n not in last] + [n for n in last if n in there]:
        tissue[covered(pixels, triangles[of_triangle == number], tissue.shape)] = number
    return Section(tissue, corner)


def covered(points, triangles, shape):
    """Which pixels have their centre inside an odd number of triangles.

    Each edge toggles all pixels to its right in the rows that it crosses; an edge of two triangles
    cancels itself, so no seam shows between them.

    Args:
        points: (P, 2) float, column and row.
        triangles: (T, 3) indices of points.
        shape: (H, W), all points within.

    Returns:
        (H, W) bool.
    """
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    (x0, y0), (x1, y1) = points[edges[:, 0]].T, points[edges[:, 1]].T
    first = np.ceil(np.minimum(y0, y1)).astype(int)
    count = np.ceil(np.maximum(y0, y1)).astype(int) - first  # rows in [lower end, upper end)
    edge = np.repeat(np.arange(len(edges)), count)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    row = first[edge] + step
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.ceil(x0[edge] + (row - y0[edge]) * slope).astype(int)
    height, width = shape
    toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    return np.cumsum(toggles.reshape(height, width + 1), axis=1)[:, :width] % 2 == 1


def enclose(section, mesh, plane, *, where="mesh"):
    """The structures in a section: the wall, and the cavities that walls and valve planes enclose.

    Args:
        section: ``Section``.
        mesh: ``meshes.HeartMesh``; its labels and landmarks are read.
        plane: ``Plane`` of the section.
        where: what to name in a message.

    Returns:
        (H, W) uint8 SDM ids; SDM_SECTOR wherever there is no structure.

    Raises:
        MeshError: a chamber is not cut, or is open.
    """
    marks, labels = mesh.landmarks, mesh.labels
    regions, _ = ndimage.label(section.tissue == 0)
    ways = {"lv": (marks.apex, _VENTRICLE_SEEDS), "la": (marks.atrium, _ATRIUM_SEEDS)}
    cavities = {}
    for chamber, (end, steps) in ways.items():
        seeds = plane.project(marks.mitral + steps[:, None] * (end - marks.mitral))
        wall = section.tissue == getattr(labels, chamber)
        cavities[chamber] = _cavity(section, regions, wall, seeds, f"{where}: {chamber}")
    if (cavities["lv"] & cavities["la"]).any():
        raise MeshError(
            f"{where}: lv and la are one cavity, so the mitral plane is open (tissue "
            f"{labels.mitral}); mend the mesh or take it out of the folder"
        )
    structures = np.full(section.tissue.shape, SDM_SECTOR, dtype=np.uint8)
    structures[cavities["lv"]], structures[cavities["la"]] = SDM_LV, SDM_LA
    valve = section.tissue == labels.mitral
    structures[valve] = _nearest(structures, cavities["lv"] | cavities["la"])[valve]
    structures[section.tissue == labels.lv] = SDM_MYOCARDIUM
    return structures


def _cavity(section, regions, wall, seeds, what):
    """The region (H, W) bool of free pixels that holds most of the seeds between the walls."""
    extent = np.argwhere(wall)
    found = np.zeros(0, dtype=int)
    if len(extent):
        place = section.pixels(seeds)
        between = ((place >= extent.min(axis=0)) & (place <= extent.max(axis=0))).all(axis=1)
        found = regions[tuple(place[between].T)]
        found = found[found > 0]
    if not len(found):
        raise MeshError(f"{what} is not cut by the plane; take the mesh out of the folder")
    region = np.bincount(found).argmax()
    if region == regions[0, 0]:  # the corner is beyond all tissue
        raise MeshError(
            f"{what} is open: its cavity reaches the outside of the heart; a wall or valve plane "
            "has a hole, so mend the mesh or take it out of the folder"
        )
    return regions == region


def _nearest(values, known):
    """``values`` with every pixel outside ``known`` replaced by that of the nearest one inside."""
    rows, columns = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    return values[rows, columns]


def _probe_view(landmarks, plane, acquisition, size):
    """Plane coordinates (H, W, 2) of an image's pixels, and its sector (H, W) bool."""
    depth = acquisition["depth"] * np.linalg.norm(landmarks.apex - landmarks.mitral)
    half_angle = np.radians(acquisition["half_angle_degrees"])
    lean = np.radians(acquisition["lean_degrees"])
    across = np.array([np.cos(lean), np.sin(lean)])  # the screen's right, in plane coordinates
    along = np.array([-np.sin(lean), np.cos(lean)])
    apex = plane.project(landmarks.apex)
    probe = apex - acquisition["gap"] * depth * along - acquisition["aside_mm"] * across
    # The sector's corners touch the square's sides, its tip the second row, its arc the last one.
    z = (np.arange(size) - 1.0)[:, None] * depth / (size - 2)
    x = (np.arange(size) - (size - 1) / 2)[None, :] * 2 * depth * np.sin(half_angle) / (size - 2)
    sector = (np.abs(np.arctan2(x, z)) <= half_angle) & (np.hypot(x, z) <= depth) & (z > 0)
    return probe + x[..., None] * across + z[..., None] * along, sector
