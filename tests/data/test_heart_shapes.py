import numpy as np
import pytest

from echo_lib.config import MeshLabelsConfig
from echo_lib.data import heart_shapes
from echo_lib.data.heart_shapes import MODES, build, draw_shape, mean_shape

LABELS = MeshLabelsConfig(lv=1, rv=2, la=3, ra=4, mitral=7, tricuspid=8)
# Six tetrahedra of a hexahedron about its diagonal 0-6, in VTK's order of corners.
SIX = ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6))


def volumes(points, cells):
    corners = points.astype(float)[cells]
    tets = np.stack([corners[:, list(one)] for one in SIX], axis=1)
    return np.linalg.det(tets[:, :, 1:] - tets[:, :, :1]).sum(axis=1) / 6


def test_a_heart_is_drawn_from_its_name_and_the_seed():
    one, again = draw_shape("heart0003", seed=1), draw_shape("heart0003", seed=1)
    assert one.modes == again.modes
    np.testing.assert_array_equal(one.rotation, again.rotation)
    for other in (draw_shape("heart0004", seed=1), draw_shape("heart0003", seed=2)):
        assert all(one.modes[mode] != other.modes[mode] for mode in MODES)


def test_modes_spread_as_stated_and_stay_within_two_deviations():
    drawn = [draw_shape(f"heart{number}", seed=0).modes for number in range(400)]
    for mode, (mean, deviation) in MODES.items():
        values = np.array([modes[mode] for modes in drawn])
        assert np.abs(values - mean).max() <= 2 * deviation + 1e-9
        assert values.mean() == pytest.approx(mean, abs=0.2 * deviation)
        assert values.std() == pytest.approx(deviation, rel=0.15)  # 0.96 of it, being clipped


def test_a_heart_is_turned_not_mirrored():
    for number in range(8):
        rotation = draw_shape(f"heart{number}", seed=0).rotation
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["heart0001", "heart0002", "heart0003", "heart0004"])
def test_every_cell_has_a_positive_volume(name):
    points, cells, tissue = build(draw_shape(name, seed=5), LABELS)
    assert volumes(points, cells).min() > 0.1  # mm^3
    assert set(tissue) == {1, 2, 3, 4, 7, 8}
    assert points.dtype == np.float32


def test_the_mean_heart_has_the_mean_lengths():
    points, cells, tissue = build(mean_shape(), LABELS)
    part = {number: points[np.unique(cells[tissue == number])] for number in set(tissue)}
    length, wall = MODES["length"][0], MODES["wall"][0]
    assert part[1][:, 2].min() == pytest.approx(0.0, abs=1e-5)
    assert part[1][:, 2].max() == pytest.approx(length + 0.8 * wall, abs=1e-4)
    atrium = MODES["atrium_length"][0] + 2.5  # and its wall
    assert part[3][:, 2].min() == pytest.approx(-atrium, abs=1e-4)
    assert (part[7][:, 2].min(), part[7][:, 2].max()) == pytest.approx((-2.0, 0.0), abs=1e-5)
    reach = MODES["right_reach"][0] * length
    assert part[2][:, 2].max() == pytest.approx(reach, abs=1e-4)
    right, left = (part[n][np.abs(part[n][:, 1]) < 5] for n in (4, 3))
    assert right[:, 0].max() < left[:, 0].min()  # the atria lie beside each other


def test_mitral_plate_fills_the_opening():
    points, cells, tissue = build(mean_shape(), LABELS)
    volume = volumes(points, cells)[tissue == LABELS.mitral].sum()
    radius = 0.78 * MODES["radius"][0] + 0.8  # the neck, and the overlap with the wall
    assert volume == pytest.approx(np.pi * radius**2 * 2.0, rel=0.01)


def test_size_scales_every_length():
    small, large = mean_shape(), mean_shape()
    large.modes["size"] = 1.1
    np.testing.assert_allclose(
        build(large, LABELS)[0], 1.1 * build(small, LABELS)[0], rtol=1e-5, atol=1e-4
    )


def test_the_tilted_base_keeps_its_order():
    """Where the warp folded space, cells would turn over: not at the modes' limits either."""
    shape = heart_shapes.mean_shape()
    for mode, (mean, deviation) in MODES.items():
        shape.modes[mode] = mean + 2 * deviation
    assert volumes(*build(shape, LABELS)[:2]).min() > 0
    for mode, (mean, deviation) in MODES.items():
        shape.modes[mode] = mean - 2 * deviation
    assert volumes(*build(shape, LABELS)[:2]).min() > 0
