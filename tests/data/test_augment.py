import json

import numpy as np
import pytest
import torch
import torchio

from echo_lib import labels, seeding
from echo_lib.config import AugmentationConfig
from echo_lib.data import augment

CONFIG = AugmentationConfig(
    maps_per_frame=5,
    degrees=(-5.0, 5.0),
    translate=(0.0, 0.05),
    scale=(0.8, 1.05),
    shear_degrees=5.0,
    control_points=(10, 10, 4),
    max_displacement_px=(0.0, 30.0, 30.0),
)
STILL = {"angle_degrees": 0.0, "translate_px": [0, 0], "scale": 1.0, "shear_degrees": 0.0}


def blocks(size=64, seed=0):
    """A CAMUS map of random 8-px blocks: asymmetric, with every class."""
    coarse = np.random.default_rng(seed).integers(0, 4, size=(size // 8, size // 8))
    return coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)


def draw(k=0, size=64):
    return augment.draw(CONFIG, seeding.numpy_generator("test", k), image_size_px=size)


def parameters(size=64, displacement=None, **changes):
    flat = np.zeros((10, 4, 2)) if displacement is None else displacement
    return {"image_size_px": size, **STILL, **changes, "displacement_px": flat.tolist()}


def as_volume(array):
    return torchio.LabelMap(tensor=torch.from_numpy(array[None, None].astype(np.float32)))


def test_no_movement_changes_nothing():
    np.testing.assert_array_equal(augment.transform(blocks(), parameters()), blocks())


def test_translation_is_in_rows_and_columns():
    moved = augment.transform(blocks(), parameters(translate_px=[3, -5]))
    np.testing.assert_array_equal(moved[3:, :-5], blocks()[:-3, 5:])
    assert not moved[:3].any()
    assert not moved[:, -5:].any()


def test_positive_angles_turn_clockwise_about_the_centre():
    moved = augment.transform(blocks(), parameters(angle_degrees=90.0))
    np.testing.assert_array_equal(moved, np.rot90(blocks(), -1))


def test_scale_is_about_the_centre():
    square = np.zeros((64, 64), dtype=np.uint8)
    square[24:40, 20:44] = 1
    moved = augment.transform(square, parameters(scale=0.5))
    rows, columns = np.argwhere(moved).min(0), np.argwhere(moved).max(0)
    assert (rows.tolist(), columns.tolist()) == ([28, 26], [35, 37])


def test_affine_matrix_worked_by_hand():
    # torchvision's M: a = cos, b = -cos tan(shear) - sin, c = sin, d = -sin tan(shear) + cos.
    drawn = parameters(angle_degrees=30.0, shear_degrees=45.0, scale=2.0, translate_px=[3, 7])
    matrix, shift_px = augment.affine_matrix(drawn)
    expected = [[1.7320508, -2.7320508], [1.0, 0.7320508]]
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    assert shift_px.tolist() == [7, 3]


def test_affine_equals_torch_grid_sample():
    """torchvision resamples by grid_sample, nearest, without aligned corners."""
    array, drawn = blocks(), draw(1)
    matrix, shift_px = augment.affine_matrix(drawn)
    inverse = np.linalg.inv(matrix)
    theta = np.column_stack([inverse, -inverse @ shift_px * 2 / 64])
    theta = torch.from_numpy(theta).float()[None]
    grid = torch.nn.functional.affine_grid(theta, (1, 1, 64, 64), align_corners=False)
    image = torch.from_numpy(array).float()[None, None]
    reference = torch.nn.functional.grid_sample(image, grid, mode="nearest", align_corners=False)
    moved = augment.transform(array, {**drawn, "displacement_px": np.zeros((10, 4, 2)).tolist()})
    # A pixel may differ where a sample falls half way between two pixels.
    assert (moved != reference[0, 0].numpy()).sum() <= 4
    assert (moved != array).sum() > 500


@pytest.mark.parametrize("slices", [4, 7, 10])
def test_elastic_equals_torchio_with_the_whole_grid(slices):
    array = blocks()
    grid = np.random.default_rng(slices).uniform(-8, 8, size=(slices, 10, 4, 3))
    grid[..., 0] = 0
    with pytest.warns(RuntimeWarning, match="folding"):
        reference = torchio.ElasticDeformation(grid, (0, 8, 8))(as_volume(array))
    plane = np.tensordot(augment._slice_weights(slices), grid[..., 1:], axes=1)
    moved = augment.transform(array, parameters(displacement=plane[::-1] * (-1, 1)))
    np.testing.assert_array_equal(moved, reference.data[0, 0].numpy())
    assert (moved != array).sum() > 500


def test_displacements_name_where_values_come_from():
    moved = augment.transform(blocks(), parameters(displacement=np.full((10, 4, 2), (8.0, 16.0))))
    np.testing.assert_array_equal(moved[:-8, :-16], blocks()[8:, 16:])


def test_borders_are_locked_as_torchio_locks_them():
    with torch.random.fork_rng():
        whole = torchio.RandomElasticDeformation.get_params((10, 10, 4), (0, 30, 30), 1)
    plane = np.array(draw()["displacement_px"])
    np.testing.assert_array_equal(plane.any(-1), whole.any(0).any(-1))
    assert not plane[[0, -1]].any()
    assert plane[1:-1].all()


def test_parameters_lie_in_the_configured_ranges():
    drawn = [draw(k, size=256) for k in range(200)]
    angle, scale, shear = (
        np.array([d[key] for d in drawn]) for key in ("angle_degrees", "scale", "shear_degrees")
    )
    rows, columns = np.array([d["translate_px"] for d in drawn]).T
    largest = max(np.abs(d["displacement_px"]).max() for d in drawn)
    assert -5 <= angle.min() < -4.5 < 4.5 < angle.max() <= 5
    assert -5 <= shear.min() < -4.5 < 4.5 < shear.max() <= 5
    assert 0.8 <= scale.min() < 0.81 < 1.04 < scale.max() <= 1.05
    assert (rows.min(), rows.max()) == (-13, 13)
    assert not columns.any()
    assert 20 < largest <= 30


def test_the_shape_of_a_draw_does_not_depend_on_the_size():
    small, large = draw(3, size=128), draw(3, size=256)
    assert small["angle_degrees"] == large["angle_degrees"]
    displacements = [np.array(d["displacement_px"]) for d in (small, large)]
    np.testing.assert_allclose(2 * displacements[0], displacements[1], atol=2e-4)


def test_equal_generators_draw_equal_maps_and_other_items_others():
    assert draw(5) == draw(5)
    assert draw(5) != draw(6)


def test_stored_parameters_replay_exactly():
    drawn = draw(2)
    replayed = json.loads(json.dumps(drawn))
    assert replayed == drawn
    sector = np.tri(64, dtype=bool)
    first, second = (augment.apply(blocks(), p, sector=sector) for p in (drawn, replayed))
    np.testing.assert_array_equal(first, second)


def test_applied_maps_hold_known_labels_inside_the_untransformed_sector():
    sector = np.tri(64, dtype=bool)
    for k in range(5):
        moved = augment.apply(blocks(), draw(k), sector=sector)
        assert moved.dtype == np.uint8
        assert set(np.unique(moved)) == set(range(5))
        np.testing.assert_array_equal(moved == labels.SDM_OUTSIDE, ~sector)


def test_linear_interpolation_of_images():
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    moved = augment.transform(ramp, parameters(scale=2.0), "linear")
    np.testing.assert_allclose(moved[32, :4], [15.75, 16.25, 16.75, 17.25], atol=1e-5)
    assert moved.dtype == np.float32
    whole = augment.transform(ramp.astype(np.uint8), parameters(scale=2.0), "linear")
    assert whole[32, :4].tolist() == [16, 16, 17, 17]


def test_an_array_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"drawn for \(32, 32\)"):
        augment.transform(blocks(), draw(size=32))
    with pytest.raises(ValueError, match="interpolation 'cubic'"):
        augment.transform(blocks(), draw(), "cubic")
