import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from echo_lib.figures import overlay
from echo_lib.labels import SDM_COLOURS, SDM_LA, SDM_LV, SDM_SECTOR


def test_grey_reads_8_bit_and_unit_images_alike():
    eight_bit = np.array([[0, 255]], dtype=np.uint8)
    unit = np.array([[-1.0, 1.0]])
    assert overlay.grey(eight_bit).tolist() == [[0.0, 1.0]]
    assert overlay.grey(unit).tolist() == [[0.0, 1.0]]


def test_grey_clips_noise_beyond_the_unit_range():
    assert overlay.grey(np.array([[-3.0, 0.0, 2.5]])).tolist() == [[0.0, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 4, 4), np.uint8), r"shape \(1, 4, 4\)"),
        (np.zeros((4, 4), np.int64), "int64, expected uint8"),
    ],
)
def test_grey_refuses_what_is_no_single_image(image, message):
    with pytest.raises(ValueError, match=message):
        overlay.grey(image)


def test_blend_tints_the_heart_and_leaves_sector_and_outside_grey(label_map):
    image = np.full((32, 32), 51, np.uint8)  # 51 / 255 = 0.2
    blended = overlay.blend(image, label_map, alpha=0.25)
    np.testing.assert_allclose(blended[0, 0], [0.2] * 3, atol=1e-6)
    np.testing.assert_allclose(blended[label_map == SDM_SECTOR], 0.2, atol=1e-6)
    expected = 0.75 * 0.2 + 0.25 * np.array(to_rgb(SDM_COLOURS[SDM_LV]))
    np.testing.assert_allclose(blended[10, 12], expected, atol=1e-6)


def test_blend_refuses_sizes_that_differ(label_map):
    with pytest.raises(ValueError, match=r"\(16, 16\) with a label map of \(32, 32\)"):
        overlay.blend(np.zeros((16, 16), np.uint8), label_map)


def test_colours_refuse_a_value_that_is_no_class():
    with pytest.raises(ValueError, match="7"):
        overlay.colours(np.full((2, 2), 7, np.uint8))


def test_contours_lie_half_a_pixel_beyond_the_structure(label_map):
    axes = Figure().add_subplot()
    overlay.draw_contours(axes, label_map)
    # LV epi, LA, LV endo, in drawing order; the cavity spans rows 8..17, columns 10..21.
    assert len(axes.collections) == 3
    cavity = axes.collections[2].get_paths()[0].vertices
    assert cavity.min(axis=0).tolist() == [9.5, 7.5]
    assert cavity.max(axis=0).tolist() == [21.5, 17.5]


def test_a_structure_that_is_absent_gets_no_contour(label_map):
    axes = Figure().add_subplot()
    overlay.draw_contours(axes, np.where(label_map == SDM_LA, SDM_SECTOR, label_map))
    assert len(axes.collections) == 2
