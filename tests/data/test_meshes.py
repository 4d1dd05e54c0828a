"""Reading of heart meshes, on files written for the test; anatomy is known in closed form."""

import builtins

import numpy as np
import pytest

from echo_lib.config import MeshLabelsConfig
from echo_lib.data import heart_shapes, meshes
from echo_lib.data.meshes import MeshError, mesh_files, read_mesh

pyvista = pytest.importorskip("pyvista")
LABELS = MeshLabelsConfig(lv=1, rv=2, la=3, ra=4, mitral=7, tricuspid=8)


@pytest.fixture(scope="module")
def heart():
    """Grid of the mean heart, in the template frame."""
    points, cells, tissue = heart_shapes.build(heart_shapes.mean_shape(), LABELS)
    grid = pyvista.UnstructuredGrid({pyvista.CellType.HEXAHEDRON: cells}, points)
    grid.cell_data["elemTag"] = tissue
    return grid


def save(grid, path, *, scale=1.0, array="elemTag"):
    copy = grid.copy()
    copy.points = copy.points * scale
    if array != "elemTag":
        copy.cell_data[array] = copy.cell_data["elemTag"]
        del copy.cell_data["elemTag"]
    copy.save(path)
    return path


def test_landmarks_of_the_mean_heart(heart, tmp_path):
    mesh = read_mesh(save(heart, tmp_path / "mean.vtk"), LABELS)
    assert (mesh.name, mesh.unit) == ("mean", "mm")
    np.testing.assert_allclose(mesh.landmarks.apex, (0, 0, 90.0), atol=1e-4)  # 80 + 0.8 x 12.5
    np.testing.assert_allclose(mesh.landmarks.mitral, (0, 0, -1.0), atol=1e-4)
    x, y, z = mesh.landmarks.tricuspid
    assert x < -30
    assert (y, z) == pytest.approx((0.0, -1.0), abs=1e-3)


@pytest.mark.parametrize("suffix", [".vtk", ".vtu"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    shape = heart_shapes.draw_shape("heart0001", seed=0)
    points, cells, tissue = heart_shapes.build(shape, LABELS)
    path = tmp_path / f"heart0001{suffix}"
    meshes.write_mesh(path, points, cells, tissue)
    mesh = read_mesh(path, LABELS)
    np.testing.assert_array_equal(mesh.grid.cell_data["tissue"], tissue)
    centres = points[cells].mean(axis=1)
    read = mesh.grid.points[mesh.grid.cells_dict[pyvista.CellType.HEXAHEDRON]].mean(axis=1)
    np.testing.assert_allclose(read, centres, atol=1e-4)
    np.testing.assert_allclose(mesh.landmarks.apex, shape.to_space(apex_of(shape)), atol=0.6)
    first = path.read_bytes()
    meshes.write_mesh(path, points, cells, tissue)
    assert path.read_bytes() == first


def apex_of(shape):
    """The bent long axis meets the epicardium at z = length + 0.8 wall, unbent."""
    return shape.modes["size"] * np.array([0, 0, shape.modes["length"] + 0.8 * shape.modes["wall"]])


def test_tetrahedra_give_the_same_landmarks(heart, tmp_path):
    one = read_mesh(save(heart, tmp_path / "a.vtk"), LABELS)
    tetrahedra = heart.clean().triangulate()
    assert set(tetrahedra.celltypes) == {pyvista.CellType.TETRA}
    two = read_mesh(save(tetrahedra, tmp_path / "b.vtk"), LABELS)
    for name, point in vars(one.landmarks).items():
        np.testing.assert_allclose(point, getattr(two.landmarks, name), atol=0.1)


@pytest.mark.parametrize(("unit", "scale"), [("um", 1000.0), ("cm", 0.1), ("m", 0.001)])
def test_the_unit_is_known_by_the_hearts_size(heart, tmp_path, unit, scale):
    mesh = read_mesh(save(heart, tmp_path / "heart.vtk", scale=scale), LABELS)
    assert mesh.unit == unit
    np.testing.assert_allclose(mesh.landmarks.apex, (0, 0, 90.0), atol=1e-3)
    assert np.ptp(mesh.grid.points[:, 2]) == pytest.approx(90.0 + 46.5, abs=0.01)


def test_no_unit_fits(heart, tmp_path):
    path = save(heart, tmp_path / "heart.vtk", scale=4.0)
    with pytest.raises(MeshError, match=r"heart.vtk: the apex lies 364 .* 40 to 200 mm in none"):
        read_mesh(path, LABELS)


@pytest.mark.parametrize("array", ["ID", "tags"])
def test_arrays_of_other_cohorts(heart, tmp_path, array):
    assert read_mesh(save(heart, tmp_path / "heart.vtu", array=array), LABELS).name == "heart"


def test_no_array_of_tissues(heart, tmp_path):
    path = save(heart, tmp_path / "heart.vtk", array="region")
    with pytest.raises(MeshError, match=r"heart.vtk: no cell array .*elemTag.*found \['region'\]"):
        read_mesh(path, LABELS)


def test_tissues_are_whole_numbers(heart, tmp_path):
    heart = heart.copy()
    heart.cell_data["elemTag"] = heart.cell_data["elemTag"] + 0.5
    with pytest.raises(MeshError, match="'elemTag' does not hold one whole number"):
        read_mesh(save(heart, tmp_path / "heart.vtk"), LABELS)


def test_missing_tissues_are_named_with_what_was_found(heart, tmp_path):
    path = save(heart, tmp_path / "heart.vtk")
    labels = MeshLabelsConfig(lv=1, rv=2, la=3, ra=4, mitral=14, tricuspid=15)
    message = (
        r"heart.vtk: no cell of tissue mitral \(14\), tricuspid \(15\); "
        r"found \[1, 2, 3, 4, 7, 8\]; correct the numbers in cyclegan.meshes.labels"
    )
    with pytest.raises(MeshError, match=message):
        read_mesh(path, labels)


def test_tricuspid_plane_on_the_axis(heart, tmp_path):
    labels = MeshLabelsConfig(lv=1, rv=2, la=3, ra=4, mitral=7, tricuspid=7)
    with pytest.raises(MeshError, match="tricuspid centre lies on the left ventricle's long axis"):
        read_mesh(save(heart, tmp_path / "heart.vtk"), labels)


@pytest.mark.parametrize("suffix", [".vtk", ".vtu"])
def test_a_file_of_something_else(tmp_path, suffix):
    path = tmp_path / f"heart{suffix}"
    path.write_text("not a mesh\n")
    with pytest.raises(MeshError, match=f"heart{suffix}: (cannot be read|no cell)"):
        read_mesh(path, LABELS)


@pytest.mark.parametrize("suffix", [".vtk", ".vtu"])
def test_a_cut_off_file(heart, tmp_path, suffix):
    path = save(heart, tmp_path / f"heart{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(MeshError, match=f"heart{suffix}: .*copy it again"):
        read_mesh(path, LABELS)


def test_surfaces_are_refused(heart, tmp_path):
    surface = heart.extract_surface(algorithm="dataset_surface")
    surface.save(tmp_path / "surface.vtk")
    with pytest.raises(MeshError, match="holds PolyData, expected an unstructured grid"):
        read_mesh(tmp_path / "surface.vtk", LABELS)
    flat = pyvista.UnstructuredGrid(surface.cast_to_unstructured_grid())
    flat.save(tmp_path / "flat.vtk")
    with pytest.raises(MeshError, match=r"cells of type QUAD.* expected volume cells"):
        read_mesh(tmp_path / "flat.vtk", LABELS)


def test_wrong_paths(tmp_path):
    with pytest.raises(MeshError, match=r"heart.vtk: no such file"):
        read_mesh(tmp_path / "heart.vtk", LABELS)
    with pytest.raises(MeshError, match=r"suffix '.stl', expected one of"):
        read_mesh(tmp_path / "heart.stl", LABELS)
    with pytest.raises(MeshError, match=r"no such folder; set cyclegan\.meshes\.folder"):
        mesh_files(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("hearts\n")
    with pytest.raises(MeshError, match="no heart mesh"):
        mesh_files(tmp_path)


def test_files_come_in_natural_order_and_each_name_once(tmp_path):
    for name in ("Mesh_10.vtk", "Mesh_9.vtk", "part/Mesh_100.vtu", "part/Mesh_1.vtk", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.stem for path in mesh_files(tmp_path)]
    assert names == ["Mesh_1", "Mesh_9", "Mesh_10", "Mesh_100"]
    (tmp_path / "part" / "Mesh_9.vtu").touch()
    with pytest.raises(MeshError, match="two meshes of one name"):
        mesh_files(tmp_path)


def test_without_pyvista_the_extra_is_named(monkeypatch):
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pyvista":
            raise ModuleNotFoundError("No module named 'pyvista'")
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "echo_lib\[mesh\]"'):
        meshes.pyvista()
