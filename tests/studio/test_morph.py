import itertools

import numpy as np
import pytest
from PIL import Image

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio.label_map import Edit, apply, replay
from echo_lib.studio.morph import morph, save_animation
from echo_lib.studio.shapes import signed_distance


@pytest.fixture
def other(heart):
    edits = [Edit("mitral_plane", {"shift": 0.25}), Edit("affine", {"scale": 0.8, "move": "all"})]
    return replay(heart, edits)


def disc_of(radius):
    reach = np.hypot(*(np.indices((128, 128)) - 63.5))
    label_map = np.full((128, 128), SDM_SECTOR, dtype=np.uint8)
    label_map[reach < radius + 4] = SDM_MYOCARDIUM
    label_map[reach < radius] = SDM_LV
    return label_map


def test_the_ends_are_the_two_maps_to_the_bit(heart, other):
    for pair in ((heart, other), (other, heart), (heart, heart)):
        maps = morph(*pair, frames=5)
        assert maps.shape == (5, 96, 96)
        np.testing.assert_array_equal(maps[0], pair[0])
        np.testing.assert_array_equal(maps[-1], pair[1])


def test_half_way_between_two_discs_is_the_disc_half_way():
    middle = morph(disc_of(20), disc_of(40), frames=3)[1]
    assert (middle == SDM_LV).sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    assert (middle == SDM_MYOCARDIUM).sum() == pytest.approx(np.pi * (34**2 - 30**2), rel=0.03)


def test_a_structure_that_one_map_lacks_shrinks_to_nothing(heart):
    without = apply(heart, Edit("missing_atrium"))
    maps = morph(heart, without, frames=6)
    sizes = [(label_map == SDM_LA).sum() for label_map in maps]
    assert sizes[0] == 320
    assert sizes[-1] == 0
    assert all(after < before for before, after in itertools.pairwise(sizes))
    np.testing.assert_array_equal(maps[-1], without)
    np.testing.assert_array_equal(maps[2] == SDM_LV, heart == SDM_LV)


def test_maps_of_two_sizes_are_refused(heart):
    with pytest.raises(ValueError, match="two maps of one size"):
        morph(heart, heart[:90], frames=3)
    with pytest.raises(ValueError, match="2 frames or more"):
        morph(heart, heart, frames=1)


def test_signed_distance_runs_between_the_pixels():
    mask = np.zeros((5, 7), dtype=bool)
    mask[:, :3] = True
    np.testing.assert_array_equal(signed_distance(mask)[0], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    assert np.isposinf(signed_distance(np.zeros_like(mask))).all()
    assert np.isneginf(signed_distance(np.ones_like(mask))).all()


def test_an_animation_runs_there_and_back(tmp_path):
    pictures = np.stack([np.full((8, 12), grey, np.uint8) for grey in (0, 100, 200)])
    save_animation(tmp_path / "film.gif", pictures, seconds_per_frame=0.2)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.size == (12, 8)
        assert film.n_frames == 4
        greys = []
        for number in range(4):
            film.seek(number)
            assert film.info["duration"] == 200
            greys.append(np.array(film.convert("L"))[0, 0])
    assert greys == [0, 100, 200, 100]
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
