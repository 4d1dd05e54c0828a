import numpy as np
import pytest

from echo_lib.labels import SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.seeding import numpy_generator
from echo_lib.studio.deform import dragged, drawn_points, grid_points
from echo_lib.studio.label_map import Edit, apply
from echo_lib.studio.parameters import EditError

SIZE = 97  # so that a pixel is the centre, (48, 48)


@pytest.fixture
def empty():
    return np.full((SIZE, SIZE), SDM_SECTOR, dtype=np.uint8)


def dot(label_map, row, column, reach=2):
    label_map[row - reach : row + reach + 1, column - reach : column + reach + 1] = SDM_LV
    return label_map


def centre_of(label_map, label=SDM_LV):
    return np.argwhere(label_map == label).mean(axis=0)


def test_a_shift_by_whole_pixels_rolls_the_map(heart):
    after = apply(heart, Edit("affine", {"right": 6 / 96, "down": -4 / 96}))
    mask = heart != SDM_SECTOR
    mask[heart == 0] = False
    rolled = np.roll(np.where(mask, heart, 0), (-4, 6), axis=(0, 1))
    np.testing.assert_array_equal(after, np.where(rolled > 0, rolled, np.where(heart > 0, 2, 0)))


def test_a_quarter_turn_is_clockwise_and_exact(heart):
    after = apply(heart, Edit("affine", {"rotation_degrees": 90, "move": "all"}))
    np.testing.assert_array_equal(after, np.rot90(heart, -1))


def test_scale_multiplies_the_area(disc):
    after = apply(disc, Edit("affine", {"scale": 1.5}))
    assert (after == SDM_LV).sum() == pytest.approx(np.pi * 30**2, rel=0.01)


def test_an_affine_and_its_inverse_give_the_map_back(heart, dice):
    there = apply(heart, Edit("affine", {"rotation_degrees": 25, "scale": 0.9}))
    back = apply(there, Edit("affine", {"rotation_degrees": -25, "scale": 1 / 0.9}))
    for label in (SDM_LV, SDM_MYOCARDIUM):
        assert dice(back, heart, label) > 0.97


def test_shear_moves_a_pixel_by_the_tangent_of_the_angle(empty):
    angle = float(np.degrees(np.arctan(0.5)))
    before = dot(empty, 28, 48)  # 20 px above the centre
    after = apply(before, Edit("shear", {"angle_degrees": angle}))
    np.testing.assert_allclose(centre_of(after), (28, 58), atol=0.01)
    aside = dot(np.full_like(empty, SDM_SECTOR), 48, 68)  # 20 px to the right
    after = apply(aside, Edit("shear", {"angle_degrees": angle, "direction": "vertical"}))
    np.testing.assert_allclose(centre_of(after), (38, 68), atol=0.01)


def test_swirl_turns_by_the_angle_of_its_distance(empty):
    # At half the radius (1 - 1/4)^2 = 9/16 of 160 degrees are 90: from the right to below.
    before = dot(empty, 48, 48 + 16)
    radius = 32 / SIZE
    after = apply(before, Edit("swirl", {"angle_degrees": 160, "radius": radius}))
    np.testing.assert_allclose(centre_of(after), (48 + 16, 48), atol=1.0)


def test_swirl_leaves_the_centre_and_what_lies_beyond_the_radius(heart):
    edit = Edit("swirl", {"angle_degrees": 200, "radius": 0.25, "move": "all"})
    after = apply(heart, edit)
    rows, columns = np.indices(heart.shape) - 47.5
    beyond = np.hypot(rows, columns) >= 24
    np.testing.assert_array_equal(after[beyond], heart[beyond])
    assert (after != heart).any()
    assert (after[47:49, 47:49] == heart[47:49, 47:49]).all()


def test_swirl_and_back(heart, dice):
    there = apply(heart, Edit("swirl", {"angle_degrees": 60}))
    back = apply(there, Edit("swirl", {"angle_degrees": -60}))
    assert dice(back, heart, SDM_LV) > 0.96


@pytest.mark.parametrize("name", ["affine", "shear", "swirl"])
def test_the_sector_stays_unless_all_moves(heart, name):
    strength = {"affine": "rotation_degrees", "shear": "angle_degrees", "swirl": "angle_degrees"}
    edit = {strength[name]: 30, **({"radius": 1} if name == "swirl" else {})}
    stays = apply(heart, Edit(name, edit))
    moves = apply(heart, Edit(name, {**edit, "move": "all"}))
    np.testing.assert_array_equal(stays > 0, heart > 0)
    assert ((moves > 0) != (heart > 0)).any()


def test_a_dragged_point_arrives_exactly_and_far_ones_stay():
    start, way = np.array([[40.0, 40.0]]), np.array([[12.0, -9.0]])
    places = dragged((SIZE, SIZE), start, way, radius_px=20)
    np.testing.assert_allclose(places[:, 52, 31], (40, 40), atol=1e-9)
    rows, columns = np.indices((SIZE, SIZE))
    # The way is straight, and nothing beyond the radius around it moves.
    t = np.clip(((rows - 40) * 12 - (columns - 40) * 9) / 225, 0, 1)
    far = np.hypot(rows - 40 - 12 * t, columns - 40 + 9 * t) > 20
    np.testing.assert_array_equal(places[0][far], rows[far])
    np.testing.assert_array_equal(places[1][far], columns[far])


def test_several_points_arrive_exactly_and_nothing_folds():
    starts = np.array([[30.0, 30.0], [34.0, 44.0], [60.0, 50.0]])
    ways = np.array([[15.0, 0.0], [-12.0, 6.0], [0.0, 20.0]])
    places = dragged((SIZE, SIZE), starts, ways, radius_px=30)
    for start, end in zip(starts, (starts + ways).astype(int), strict=True):
        np.testing.assert_allclose(places[:, end[0], end[1]], start, atol=1e-6)
    (row_by_row, row_by_column), (column_by_row, column_by_column) = (
        np.gradient(axis) for axis in places
    )
    area = row_by_row * column_by_column - row_by_column * column_by_row
    assert area.min() > 0


def test_elastic_moves_the_map_with_the_point(empty):
    before = dot(empty, 48, 48, reach=1)
    points = [[48.5 / SIZE, 48.5 / SIZE, 10 / SIZE, 0]]
    after = apply(before, Edit("elastic", {"points": points, "radius": 0.4}))
    assert after[58, 48] == SDM_LV
    assert after[48, 48] == SDM_SECTOR


def test_two_points_at_one_place_are_refused(heart):
    with pytest.raises(EditError, match="two control points meet"):
        apply(heart, Edit("elastic", {"points": [[0.5, 0.5, 0.1, 0], [0.5, 0.5, 0, 0.1]]}))


def test_grids_of_control_points():
    assert grid_points(1, 2) == ((0.5, 0.25, 0, 0), (0.5, 0.75, 0, 0))
    small, large = (
        np.array(drawn_points(numpy_generator("x"), rows=3, columns=2, largest=most))
        for most in (0.02, 0.04)
    )
    assert small.shape == (6, 4)
    assert np.abs(small[:, 2:]).max() <= 0.02
    np.testing.assert_allclose(large[:, 2:], 2 * small[:, 2:], atol=2e-4)
