import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.studio import landmarks
from echo_lib.studio.parameters import EditError

MITRAL_ROW, APEX_ROW, MIDDLE = 59, 21, 47.5  # of the heart in conftest.py
THICKNESS = 16 * np.sqrt(1 - (20 / 46) ** 2) - 10 * np.sqrt(1 - (20 / 40) ** 2)  # half-way up


def test_landmarks_of_an_upright_heart(heart):
    marks = landmarks.find(heart)
    np.testing.assert_allclose(marks.apex, (APEX_ROW, MIDDLE))
    np.testing.assert_allclose(marks.annulus_left, (MITRAL_ROW, 39))
    np.testing.assert_allclose(marks.annulus_right, (MITRAL_ROW, 56))
    assert marks.length_px == pytest.approx(38)
    np.testing.assert_allclose(marks.axis, (-1, 0), atol=1e-12)
    np.testing.assert_allclose(marks.to_right, (0, 1), atol=1e-12)
    # Half an ellipse of 40 x 10 px, over twice the length.
    assert marks.half_width_px == pytest.approx(np.pi * 40 * 10 / 2 / (2 * 38), rel=0.02)
    assert marks.wall_px == pytest.approx(THICKNESS, abs=0.5)


def test_coordinates_run_from_the_mitral_plane_to_the_apex(heart):
    marks = landmarks.find(heart)
    along, across = marks.coordinates(heart.shape)
    assert along[MITRAL_ROW, 10] == pytest.approx(0)
    assert along[APEX_ROW, 80] == pytest.approx(1)
    assert across[30, 57] == pytest.approx(9.5 / 38)
    assert across[30, 38] == pytest.approx(-9.5 / 38)
    np.testing.assert_allclose(marks.place(0.5, 0.25), (40, MIDDLE + 9.5))


def test_the_septum_stays_on_the_left_of_a_leaning_heart(heart):
    turned = np.rot90(heart, -1)  # a quarter turn clockwise: the apex to the right
    marks = landmarks.find(turned)
    np.testing.assert_allclose(marks.axis, (0, 1), atol=1e-12)
    # What was on the left of the upright heart is above now.
    np.testing.assert_allclose(marks.to_right, (1, 0), atol=1e-12)


def test_without_an_atrium_the_plane_is_where_the_wall_is_open(heart):
    heart[heart == SDM_LA] = SDM_SECTOR
    marks = landmarks.find(heart)
    assert marks.annulus_left[0] == marks.annulus_right[0] == MITRAL_ROW
    assert marks.annulus[1] == pytest.approx(MIDDLE)
    assert landmarks.is_open(heart)


def test_a_map_without_a_ventricle_or_without_an_opening_is_refused(heart):
    closed = np.full_like(heart, SDM_MYOCARDIUM)
    closed[20:40, 20:40] = SDM_LV
    assert not landmarks.is_open(closed)
    with pytest.raises(EditError, match="neither an atrium beside it nor an opening"):
        landmarks.find(closed)
    heart[heart == SDM_LV] = SDM_SECTOR
    with pytest.raises(EditError, match="0 pixels of LV cavity"):
        landmarks.find(heart)


def test_points_to_drag_are_fractions_of_the_image(heart):
    points = landmarks.control_points(heart)
    assert points["apex"] == pytest.approx((21.5 / 96, 0.5))
    assert points["atrium"][0] == pytest.approx(79.5 / 96)
    # At half the length, row 40, the ellipses are 10 and 16 px wide times sqrt(1 - (20 / 40)^2)
    # and sqrt(1 - (20 / 46)^2).
    for name, half in (
        ("inside", 10 * np.sqrt(0.75)),
        ("outside", 16 * np.sqrt(1 - (20 / 46) ** 2)),
    ):
        left, right = points[f"septum {name}"], points[f"lateral wall {name}"]
        assert left[0] == right[0] == pytest.approx(40.5 / 96)
        assert (right[1] - left[1]) * 96 / 2 == pytest.approx(half, abs=1)
    heart[heart == SDM_LA] = SDM_SECTOR
    assert "atrium" not in landmarks.control_points(heart)
