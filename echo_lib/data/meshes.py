"""Four-chamber heart meshes: reading, checking, and where their landmarks lie.

A mesh is an unstructured grid of volume cells (.vtk or .vtu), each with the number of its tissue;
``config.MeshLabelsConfig`` says which number is what (docs/heart_meshes.md holds the table of the
public cohort). Tissue is walls and valve planes: blood is what they enclose. Once read, lengths
are mm.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echo_lib.config import MeshLabelsConfig, as_dict
from echo_lib.provenance import atomic_path

SUFFIXES = (".vtk", ".vtu")
# Names of the cell array of tissues: the 1,000 synthetic hearts', the CT cohort's, and another's.
TISSUE_ARRAYS = ("elemTag", "ID", "tags")
UNITS_MM = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3}
# Mitral plane to apex in mm: no human heart is outside, and no two units can both be inside.
AXIS_RANGE_MM = (40.0, 200.0)


class MeshError(ValueError):
    """A heart mesh that cannot be used; the message names the file, what is wrong and a remedy."""


@dataclass(frozen=True)
class Landmarks:
    """Points of a heart that its views hang from, (3,) each, mm."""

    apex: np.ndarray  # outermost point of the left ventricle's wall
    mitral: np.ndarray  # centre of the valve's plane
    tricuspid: np.ndarray
    atrium: np.ndarray  # centre of the left atrium's wall


@dataclass(frozen=True)
class HeartMesh:
    """A heart that was read and checked.

    Attributes:
        name: of the heart: its file's, without the suffix.
        grid: ``pyvista.UnstructuredGrid``, mm; its cell array ``tissue`` holds the numbers.
        labels: ``MeshLabelsConfig``.
        landmarks: ``Landmarks``.
        unit: the file's own, a key of UNITS_MM.
    """

    name: str
    grid: object
    labels: MeshLabelsConfig
    landmarks: Landmarks
    unit: str


def pyvista():
    """The module ``pyvista``, of extra ``mesh``."""
    try:
        import pyvista  # here, so that the rest of the library works without it
    except ImportError as error:
        raise ImportError(
            'heart meshes need PyVista, which is not installed; run: pip install "echo_lib[mesh]"'
        ) from error
    return pyvista


def mesh_files(folder):
    """The mesh files in a folder and below, in natural order of their names.

    Raises:
        MeshError: no folder, no mesh in it, or two files of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MeshError(f"{folder}: no such folder; set cyclegan.meshes.folder, or '' for our own")
    files = [path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    if not files:
        raise MeshError(
            f"{folder}: no heart mesh ({' or '.join(SUFFIXES)}) in it; unpack the cohort there "
            "(docs/heart_meshes.md), or set cyclegan.meshes.folder to '' for the built-in cohort"
        )
    by_name = {}
    for path in sorted(files):
        if path.stem in by_name:
            raise MeshError(
                f"{path} and {by_name[path.stem]}: two meshes of one name; a heart is known by "
                "its file's name, so rename one"
            )
        by_name[path.stem] = path
    return [by_name[name] for name in sorted(by_name, key=_natural)]


def _natural(name):
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in _parts(name)]


def _parts(name):
    return [part for part in re.split(r"(\d+)", name) if part]


def read_mesh(path, labels):
    """Read and check one heart mesh.

    Args:
        path: .vtk or .vtu file.
        labels: ``config.MeshLabelsConfig``.

    Returns:
        A ``HeartMesh``.

    Raises:
        MeshError: a file that cannot be read, no array of tissues, missing tissues, an unknown
            unit, landmarks in line.
    """
    path = Path(path)
    grid = _read_grid(path)
    tissue = _tissue(path, grid)
    _require_tissues(path, tissue, labels)
    landmarks = _find_landmarks(grid, tissue, labels)
    unit = _unit(path, np.linalg.norm(landmarks.apex - landmarks.mitral))
    scale = UNITS_MM[unit]
    points = np.asarray(grid.points, dtype=np.float64) * scale
    grid = pyvista().UnstructuredGrid(grid.cells, grid.celltypes, points)
    grid.cell_data["tissue"] = tissue
    landmarks = Landmarks(**{name: point * scale for name, point in vars(landmarks).items()})
    _require_plane(path, landmarks)
    return HeartMesh(path.stem, grid, labels, landmarks, unit)


def write_mesh(path, points, cells, tissue):
    """Write a mesh of hexahedra as the public cohort's files are: tissues in array ``elemTag``.

    Args:
        path: .vtk or .vtu file.
        points: (P, 3) float, mm.
        cells: (C, 8) corners of the cells.
        tissue: (C,) integer.
    """
    pv = pyvista()
    grid = pv.UnstructuredGrid({pv.CellType.HEXAHEDRON: cells}, points)
    grid.cell_data[TISSUE_ARRAYS[0]] = tissue
    grid = grid.clean()  # coinciding points become one
    with atomic_path(path) as temporary:
        grid.save(temporary)


def _read_grid(path):
    pv = pyvista()
    if path.suffix not in SUFFIXES:
        raise MeshError(f"{path}: suffix {path.suffix!r}, expected one of {SUFFIXES}")
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it says of a damaged file, we say below
            grid = pv.read(path)
    except Exception as error:  # VTK's readers raise whatever they meet
        raise MeshError(f"{path}: cannot be read as a VTK file ({error}); copy it again") from error
    if not isinstance(grid, pv.UnstructuredGrid):
        raise MeshError(f"{path}: holds {type(grid).__name__}, expected an unstructured grid")
    if grid.n_cells == 0:
        raise MeshError(f"{path}: no cell could be read, so it is damaged or empty; copy it again")
    types, places = np.unique(grid.celltypes, return_index=True)
    cells = [grid.get_cell(place) for place in places]
    flat = [pv.CellType(t).name for t, cell in zip(types, cells, strict=True) if cell.dimension < 3]
    if flat:
        raise MeshError(
            f"{path}: cells of type {', '.join(flat)}, expected volume cells alone (tetrahedra, "
            "hexahedra); a wall without thickness leaves no area in a slice"
        )
    return grid


def _tissue(path, grid):
    found = [name for name in TISSUE_ARRAYS if name in grid.cell_data]
    if not found:
        raise MeshError(
            f"{path}: no cell array of tissues; expected one of {TISSUE_ARRAYS}, found "
            f"{sorted(grid.cell_data.keys())}; rename the array that holds them"
        )
    values = np.asarray(grid.cell_data[found[0]])
    if values.ndim != 1 or not np.array_equal(values, np.rint(values)):
        raise MeshError(f"{path}: cell array {found[0]!r} does not hold one whole number a cell")
    return values.astype(np.int32)


def _require_tissues(path, tissue, labels):
    there = set(np.unique(tissue).tolist())
    missing = {name: number for name, number in as_dict(labels).items() if number not in there}
    if missing:
        raise MeshError(
            f"{path}: no cell of tissue {', '.join(f'{n} ({i})' for n, i in missing.items())}; "
            f"found {sorted(there)}; correct the numbers in cyclegan.meshes.labels"
        )


def _find_landmarks(grid, tissue, labels):
    mitral = _centre(grid, tissue == labels.mitral)
    wall = np.asarray(grid.extract_cells(tissue == labels.lv).points, dtype=np.float64)
    return Landmarks(
        apex=wall[np.linalg.norm(wall - mitral, axis=1).argmax()],
        mitral=mitral,
        tricuspid=_centre(grid, tissue == labels.tricuspid),
        atrium=_centre(grid, tissue == labels.la),
    )


def _centre(grid, cells):
    """Centre of mass (3,) of the cells in a mask."""
    part = grid.extract_cells(cells)
    sizes = part.compute_cell_sizes(length=False, area=False)
    volumes = np.abs(np.asarray(sizes.cell_data["Volume"]))
    return np.average(np.asarray(part.cell_centers().points, float), axis=0, weights=volumes)


def _unit(path, axis_length):
    low, high = AXIS_RANGE_MM
    for unit, scale in UNITS_MM.items():
        if low <= axis_length * scale < high:
            return unit
    raise MeshError(
        f"{path}: the apex lies {axis_length:.4g} from the mitral plane, which is {low:g} to "
        f"{high:g} mm in none of the units {', '.join(UNITS_MM)}; check cyclegan.meshes.labels"
    )


def _require_plane(path, landmarks):
    axis = landmarks.apex - landmarks.mitral
    beside = np.linalg.norm(np.cross(axis, landmarks.tricuspid - landmarks.mitral))
    if beside / np.linalg.norm(axis) < 5.0:  # mm; the valves' centres lie some 40 mm apart
        raise MeshError(
            f"{path}: the tricuspid centre lies on the left ventricle's long axis, so no "
            "4-chamber plane is defined; check cyclegan.meshes.labels"
        )
