import numpy as np
import pytest

from echo_lib.figures import fig4_gallery

STAMP, NOTE = "profile x", "images by weights y"


def pictures_of(figure):
    return [axes for axes in figure.axes if axes.images]


def value_of(axes):
    return axes.images[0].get_array()[0, 0] * 255


def place_of(axes):
    """(column, row), both growing as one reads."""
    x, y, _, _ = axes.get_position().bounds
    return round(x, 4), round(-y, 4)


def test_fig4_has_images_above_and_their_contours_below(images, label_maps, texts):
    titles = ["original", "Swirl", "Shear", "Septal defect"]
    figure = fig4_gallery.draw(titles, images, label_maps, stamp_text=STAMP, note=NOTE)
    upper, lower = pictures_of(figure)[1::2], pictures_of(figure)[::2]
    for row in (upper, lower):
        assert [value_of(axes) for axes in row] == pytest.approx([10, 20, 30, 40])
    for above, below in zip(upper, lower, strict=True):
        assert len(above.collections) == 0
        assert len(below.collections) == 3
        assert above.get_position().y0 > below.get_position().y1
        assert place_of(above)[0] == place_of(below)[0]
    assert {*titles, STAMP, NOTE} <= set(texts(figure))


def test_the_graded_sheet_has_a_row_per_deformation_and_a_dice_per_image(images, label_maps, texts):
    figure = fig4_gallery.draw_grades(
        ["Swirl", "Shear", "Swirl", "Shear"], ["30°", "10°", "60°", "20°"], images, label_maps,
        [0.912, 0.5, 0.804, 1.0], stamp_text=STAMP, note=NOTE,
    )  # fmt: skip
    panels = sorted(pictures_of(figure), key=lambda axes: place_of(axes)[::-1])
    # Reading order: the swirls (10, 30), then the shears (20, 40).
    assert [value_of(axes) for axes in panels] == pytest.approx([10, 30, 20, 40])
    assert [axes.texts[0].get_text() for axes in panels] == ["91 %", "80 %", "50 %", "100 %"]
    assert {"Swirl", "Shear", "30°", "20°", STAMP, NOTE} <= set(texts(figure))


def test_many_deformations_stand_in_two_bands(images, label_maps):
    repeated = np.concatenate([images, images[:2]]), np.concatenate([label_maps, label_maps[:2]])
    figure = fig4_gallery.draw_grades(
        list("abcdef"), [""] * 6, *repeated, [0.5] * 6, stamp_text=STAMP
    )
    columns = {place_of(axes)[0] for axes in pictures_of(figure)}
    assert len(columns) == 2


def test_a_film_goes_on_below_and_numbers_its_frames(images, label_maps, texts):
    nine = np.concatenate([images, images, images[:1]])
    maps = np.concatenate([label_maps, label_maps, label_maps[:1]])
    figure = fig4_gallery.draw_film(nine, maps, stamp_text=STAMP, note=NOTE)
    assert [t for t in texts(figure) if t.isdigit()] == [str(n) for n in range(1, 10)]
    shown = [axes for axes in pictures_of(figure) if not axes.collections]
    assert sorted(shown, key=lambda axes: place_of(axes)[::-1]) == shown
    assert len({place_of(axes)[1] for axes in shown}) == 2
    assert len({place_of(axes)[0] for axes in shown}) == 5


def test_pictures_of_an_animation_stand_beside_their_labels(images, label_maps):
    film = fig4_gallery.film_pictures(images, label_maps)
    assert film.shape == (4, 32, 64, 3)
    assert film.dtype == np.uint8
    assert film[1, 10, 12].tolist() == [20, 20, 20]
    assert film[1, 10, 32 + 12].tolist() != [20, 20, 20]  # under the cavity's colour
    assert film[1, 0, 32].tolist() == [20, 20, 20]  # outside stays grey


def test_lists_that_do_not_fit_are_refused(images, label_maps):
    with pytest.raises(ValueError, match=r"lengths \[1, 4, 4\]"):
        fig4_gallery.draw(["one"], images, label_maps, stamp_text="")
    with pytest.raises(ValueError, match="one at least"):
        fig4_gallery.draw_film(images[:0], label_maps[:0], stamp_text="")
