"""Planes and slices, against closed forms: axes of a known heart, ellipses of an ellipsoid."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from echo_lib.config import MeshLabelsConfig
from echo_lib.data import heart_shapes, mesh_slices
from echo_lib.data.mesh_slices import (
    RASTER_MM,
    Plane,
    anatomical_plane,
    covered,
    cut,
    displaced_plane,
    draw_acquisition,
    slice_heart,
)
from echo_lib.data.meshes import HeartMesh, Landmarks, MeshError, read_mesh, write_mesh
from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.seeding import numpy_generator

pyvista = pytest.importorskip("pyvista")
LABELS = MeshLabelsConfig(lv=1, rv=2, la=3, ra=4, mitral=7, tricuspid=8)
STRAIGHT = {
    "rotation_degrees": 0.0,
    "tilt_degrees": 0.0,
    "offset_mm": 0.0,
    "depth": 2.0,
    "gap": 0.1,
    "lean_degrees": 0.0,
    "aside_mm": 0.0,
    "half_angle_degrees": 37.5,
}
X, Y, Z = np.eye(3)


def ball(centre, semi_axes, inner, number):
    """An ellipsoid's shell; ``inner`` is its hollow, part of the whole."""
    grid = pyvista.SolidSphere(
        outer_radius=1.0, inner_radius=inner, radius_resolution=3, theta_resolution=120,
        phi_resolution=120,
    )  # fmt: skip
    grid.points = grid.points * semi_axes + centre
    grid.clear_data()
    grid.cell_data["tissue"] = np.full(grid.n_cells, number)
    return grid


def box(low, high, number):
    x, y, z = zip(low, high, strict=True)
    bounds = (*x, *y, *z)
    grid = pyvista.Box(bounds, level=0, quads=True).delaunay_3d()
    grid = pyvista.UnstructuredGrid(grid.cells, grid.celltypes, grid.points)
    grid.cell_data["tissue"] = np.full(grid.n_cells, number)
    return grid


LV_CENTRE, LV_AXES, LV_HOLLOW = np.array([0.0, 0.0, 35.0]), np.array([25.0, 20.0, 40.0]), 0.75
LA_CENTRE, LA_AXES, LA_HOLLOW = np.array([0.0, 0.0, -27.0]), np.array([20.0, 20.0, 20.0]), 0.85


@pytest.fixture(scope="module")
def analytic():
    """Two hollow ellipsoids for the left chambers, a plate between them, the right heart afar."""
    parts = [
        ball(LV_CENTRE, LV_AXES, LV_HOLLOW, LABELS.lv),
        ball(LA_CENTRE, LA_AXES, LA_HOLLOW, LABELS.la),
        box((-6, -6, -7), (6, 6, -5), LABELS.mitral),
        box((-46, -6, -7), (-34, 6, -5), LABELS.tricuspid),
    ]
    grid = pyvista.merge(parts, merge_points=False)
    marks = Landmarks(apex=75 * Z, mitral=-6 * Z, tricuspid=-40 * X - 6 * Z, atrium=-27 * Z)
    return HeartMesh("analytic", grid, LABELS, marks, "mm")


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    """The mean heart of the built-in cohort, in its template frame."""
    path = tmp_path_factory.mktemp("heart") / "mean.vtk"
    write_mesh(path, *heart_shapes.build(heart_shapes.mean_shape(), LABELS))
    return read_mesh(path, LABELS)


def within(points, centre, axes, radius=1.0):
    """Bool: points (..., 3) in an ellipsoid."""
    return (((points - centre) / axes) ** 2).sum(axis=-1) <= radius**2


def contours_agree(found, truth):
    """Every pixel where two masks differ touches the contour of the truth."""
    band = ndimage.binary_dilation(truth) & ~ndimage.binary_erosion(truth)
    return not ((found != truth) & ~band).any()


@pytest.mark.parametrize("offset", [0.0, 7.0])
@pytest.mark.parametrize("degrees", [0.0, 35.0, 90.0])
def test_slice_of_an_ellipsoid_is_the_analytic_ellipse(degrees, offset):
    """A plane through the axis of an ellipsoid, turned by an angle and shifted along its normal."""
    shell = ball((0, 0, 0), (30.0, 20.0, 45.0), 0.7, 1)
    angle = np.radians(degrees)
    right = np.array([np.cos(angle), np.sin(angle), 0.0])
    plane = Plane(np.zeros(3), right, -Z)
    plane = replace(plane, origin=offset * plane.normal)
    section = cut(shell, plane)
    rows, columns = np.indices(section.tissue.shape)
    place = section.corner_mm + RASTER_MM * np.stack([columns, rows], axis=-1)
    space = plane.origin + place[..., :1] * plane.right + place[..., 1:] * plane.down
    whole = within(space, 0.0, np.array([30.0, 20.0, 45.0]))
    hollow = within(space, 0.0, np.array([30.0, 20.0, 45.0]), 0.7)
    assert contours_agree(section.tissue > 0, whole & ~hollow)
    # Semi-axes of the central section: 1/r^2 = cos^2/a^2 + sin^2/b^2, and 45; a shifted plane
    # scales both by sqrt(1 - (shift/reach)^2), reach^2 = (a sin)^2 + (b cos)^2.
    r = 1 / np.hypot(np.cos(angle) / 30, np.sin(angle) / 20)
    reach = np.hypot(30 * np.sin(angle), 20 * np.cos(angle))
    outer, inner = 1 - (offset / reach) ** 2, 0.49 - (offset / reach) ** 2
    area = np.pi * r * 45 * (outer - inner)
    assert (section.tissue > 0).sum() * RASTER_MM**2 == pytest.approx(area, rel=0.01)
    filled = ndimage.binary_fill_holes(section.tissue > 0).sum() * RASTER_MM**2
    assert filled == pytest.approx(np.pi * r * 45 * outer, rel=0.01)


def test_label_map_of_ellipsoids_equals_the_ellipses_to_a_pixel(analytic):
    """The whole way from mesh to label map: axis 81 mm, depth 162 mm, the apex 16.2 mm deep."""
    size = 128
    label_map = slice_heart(analytic, "4CH", STRAIGHT, image_size_px=size)
    z = (np.arange(size) - 1)[:, None] * 162 / 126
    x = (np.arange(size) - 63.5)[None, :] * 2 * 162 * np.sin(np.radians(37.5)) / 126
    space = x[..., None] * X + (75 + 16.2 - z)[..., None] * Z
    lv = within(space, LV_CENTRE, LV_AXES, LV_HOLLOW)
    assert contours_agree(label_map == SDM_LV, lv)
    assert (label_map == SDM_LV).sum() == pytest.approx(lv.sum(), rel=0.01)
    wall = within(space, LV_CENTRE, LV_AXES) & ~lv
    assert contours_agree(label_map == SDM_MYOCARDIUM, wall)
    plate = (np.abs(space[..., 0]) <= 6) & (np.abs(space[..., 2] + 6) <= 1)
    la = within(space, LA_CENTRE, LA_AXES, LA_HOLLOW)
    assert contours_agree((label_map == SDM_LA) & ~plate, la)
    distance = np.hypot(x, z)
    inside = (distance <= 162) & (np.abs(np.degrees(np.arctan2(x, z))) <= 37.5) & (z > 0)
    np.testing.assert_array_equal(label_map == SDM_OUTSIDE, ~inside)
    assert set(np.unique(label_map)) == {0, SDM_LV, SDM_SECTOR, SDM_MYOCARDIUM, SDM_LA}


def test_planes_of_a_heart_with_known_axes(tmp_path):
    """Template frame: z to the apex, x away from the right heart, y to the anterior wall."""
    shape = heart_shapes.mean_shape()
    axis = np.array([1.0, 2.0, 2.0]) / 3
    turn = 2 * np.outer(axis, axis) - np.eye(3)  # by 180 degrees about (1, 2, 2)
    shape = replace(shape, rotation=turn, shift_mm=np.array([10.0, -20.0, 30.0]))
    write_mesh(tmp_path / "heart.vtk", *heart_shapes.build(shape, LABELS))
    marks = read_mesh(tmp_path / "heart.vtk", LABELS).landmarks
    for view, right in (("4CH", X), ("2CH", Y)):
        plane = anatomical_plane(marks, view)
        np.testing.assert_allclose(plane.right, turn @ right, atol=1e-3)
        np.testing.assert_allclose(plane.down, turn @ -Z, atol=1e-3)
        middle = turn @ (44.5 * Z) + (10, -20, 30)  # between -1 and 90 mm
        np.testing.assert_allclose(plane.origin, middle, atol=1e-2)
        for mark in ("apex", "mitral", *(["tricuspid"] if view == "4CH" else [])):
            off = (getattr(marks, mark) - plane.origin) @ plane.normal
            assert off == pytest.approx(0.0, abs=1e-2)


def test_displaced_planes():
    plane = Plane(np.zeros(3), X, -Z)
    turned = displaced_plane(plane, STRAIGHT | {"rotation_degrees": 30.0})
    np.testing.assert_allclose(turned.right, (np.sqrt(3) / 2, 0.5, 0.0), atol=1e-12)
    np.testing.assert_allclose(turned.down, -Z, atol=1e-12)
    tilted = displaced_plane(plane, STRAIGHT | {"tilt_degrees": 90.0})
    np.testing.assert_allclose(tilted.right, X, atol=1e-12)
    np.testing.assert_allclose(tilted.down, Y, atol=1e-12)
    shifted = displaced_plane(plane, STRAIGHT | {"offset_mm": 4.0})
    np.testing.assert_allclose(shifted.origin, 4.0 * np.cross(X, -Z), atol=1e-12)
    with pytest.raises(ValueError, match="unknown view '3CH'"):
        anatomical_plane(Landmarks(90 * Z, 0 * Z, -40 * X, -20 * Z), "3CH")


def test_covered_pixels_by_hand():
    """A square of two triangles: centres from 1 up to but not on 3, each way, and no seam."""
    points = np.array([[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]])
    mask = covered(points, np.array([[0, 1, 2], [0, 2, 3]]), (5, 6))
    truth = np.zeros((5, 6), dtype=bool)
    truth[1:3, 1:3] = True
    np.testing.assert_array_equal(mask, truth)


def test_right_heart_is_on_the_left_and_the_atrium_below(heart):
    four, two = (slice_heart(heart, view, STRAIGHT, image_size_px=96) for view in ("4CH", "2CH"))
    for label_map in (four, two):
        rows = {k: np.argwhere(label_map == k)[:, 0].mean() for k in (SDM_LV, SDM_LA)}
        assert rows[SDM_LV] < rows[SDM_LA]
        assert (label_map[0] == SDM_OUTSIDE).all()
        for k in (SDM_LV, SDM_MYOCARDIUM, SDM_LA):
            assert ndimage.label(label_map == k)[1] == 1
    section = cut(heart.grid, anatomical_plane(heart.landmarks, "4CH"))
    columns = {n: np.argwhere(section.tissue == n)[:, 1].mean() for n in (1, 2, 3, 4)}
    assert columns[2] < columns[1]
    assert columns[4] < columns[3]
    section = cut(heart.grid, anatomical_plane(heart.landmarks, "2CH"))
    assert not np.isin(section.tissue, (2, 4, 8)).any()


def test_leaning_moves_the_apex_to_the_left_and_aside_to_the_right(heart):
    # Depth 182 mm and 75 degrees, in 126 pixels: mm a row and a column.
    pixel_mm = 182 / 126 * np.array([1.0, 2 * np.sin(np.radians(37.5))])

    def centres(**changed):
        label_map = slice_heart(heart, "4CH", STRAIGHT | changed, image_size_px=128)
        return [np.argwhere(label_map == k).mean(axis=0) * pixel_mm for k in (SDM_LV, SDM_LA)]

    def lean(lv, la):
        down, right = la - lv
        return np.degrees(np.arctan2(right, down))

    assert lean(*centres(lean_degrees=8.0)) - lean(*centres()) == pytest.approx(8.0, abs=0.5)
    moved = np.subtract(centres(aside_mm=6.0), centres())
    np.testing.assert_allclose(moved, [[0.0, 6.0]] * 2, atol=0.4)


def test_structures_keep_their_area_at_another_size(heart):
    """Fine valve planes never let cavities run together, however coarse the image is."""
    fine = slice_heart(heart, "4CH", STRAIGHT, image_size_px=256)
    coarse = slice_heart(heart, "4CH", STRAIGHT, image_size_px=32)
    for k in (SDM_LV, SDM_MYOCARDIUM, SDM_LA):
        assert np.mean(coarse == k) == pytest.approx(np.mean(fine == k), rel=0.15)


def test_tetrahedra_give_the_same_slice(heart):
    grid = heart.grid.triangulate()
    one, two = (
        slice_heart(mesh, "2CH", STRAIGHT, image_size_px=96)
        for mesh in (heart, replace(heart, grid=grid))
    )
    assert np.mean(one != two) < 0.004


def test_drawn_hearts_are_cut_in_both_views(tmp_path):
    for number in range(1, 7):
        name = f"heart{number}"
        write_mesh(
            tmp_path / f"{name}.vtk",
            *heart_shapes.build(heart_shapes.draw_shape(name, seed=3), LABELS),
        )
        mesh = read_mesh(tmp_path / f"{name}.vtk", LABELS)
        for view in ("2CH", "4CH"):
            drawn = draw_acquisition(numpy_generator("slice", 3, name, view))
            label_map = slice_heart(mesh, view, drawn, image_size_px=64)
            share = np.bincount(label_map.ravel(), minlength=5) / (label_map > 0).sum()
            assert 0.06 < share[SDM_LV] < 0.4
            assert 0.04 < share[SDM_MYOCARDIUM] < 0.35
            assert 0.01 < share[SDM_LA] < 0.25


def test_draws_are_those_of_the_item_and_within_their_ranges():
    drawn = draw_acquisition(numpy_generator("slice", 0, "heart0001_4CH_0"))
    assert drawn == draw_acquisition(numpy_generator("slice", 0, "heart0001_4CH_0"))
    assert drawn != draw_acquisition(numpy_generator("slice", 0, "heart0001_4CH_1"))
    many = [draw_acquisition(numpy_generator("many", k)) for k in range(200)]
    assert all(1.5 <= one["depth"] <= 2.05 for one in many)
    assert all(abs(one["offset_mm"]) <= 4.0 for one in many)
    assert min(one["gap"] for one in many) >= 0.06  # the probe stays outside the heart


def test_an_empty_slice(heart):
    with pytest.raises(MeshError, match="mean, 4CH: empty slice; the plane passes the heart by"):
        slice_heart(heart, "4CH", STRAIGHT | {"offset_mm": 300.0}, image_size_px=64)


def test_a_chamber_that_is_not_cut(analytic):
    """The left ventricle and the atrium both reach 20 mm to the side."""
    far = Plane(np.array([0.0, 24.0, 34.5]), X, -Z)
    with pytest.raises(MeshError, match="empty slice"):
        cut(analytic.grid, far)
    with pytest.raises(MeshError, match="analytic, 4CH: lv is not cut by the plane"):
        # Through the wall alone, whose hollow ends at 15 mm.
        slice_heart(analytic, "4CH", STRAIGHT | {"offset_mm": 18.0}, image_size_px=64)
    with pytest.raises(MeshError, match="analytic, 4CH: lv is not cut by the plane"):
        slice_heart(analytic, "4CH", STRAIGHT | {"offset_mm": 19.9}, image_size_px=64)


def without(mesh, cells):
    return replace(mesh, grid=mesh.grid.extract_cells(~cells))


def test_an_open_surface(heart):
    tissue, centres = heart.grid.cell_data["tissue"], heart.grid.cell_centers().points
    hole = (tissue == LABELS.lv) & (centres[:, 0] > 15) & (np.abs(centres[:, 2] - 40) < 5)
    with pytest.raises(MeshError, match="mean, 4CH: lv is open: its cavity reaches the outside"):
        slice_heart(without(heart, hole), "4CH", STRAIGHT, image_size_px=64)
    # The 2-chamber plane meets no hole there.
    assert (slice_heart(without(heart, hole), "2CH", STRAIGHT, image_size_px=64) == SDM_LV).any()
    roof = (tissue == LABELS.la) & (centres[:, 2] < -40)
    with pytest.raises(MeshError, match="mean, 2CH: la is open"):
        slice_heart(without(heart, roof), "2CH", STRAIGHT, image_size_px=64)


def test_an_open_mitral_plane(heart):
    tissue, centres = heart.grid.cell_data["tissue"], heart.grid.cell_centers().points
    half = (tissue == LABELS.mitral) & (centres[:, 0] > 2)
    with pytest.raises(MeshError, match=r"lv and la are one cavity, .* mitral plane is open"):
        slice_heart(without(heart, half), "4CH", STRAIGHT, image_size_px=64)


def test_the_raster_is_finer_than_a_valve():
    assert mesh_slices.RASTER_MM <= heart_shapes._VALVE / 4
