import numpy as np

from echo_lib.figures import wall


def test_pictures_stand_in_rows_with_white_between():
    images = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    picture = wall.tiled(images, 2)
    assert picture.shape == (9, 9)
    assert [picture[0, 0], picture[0, 8], picture[8, 0]] == [10, 20, 30]
    assert (picture[4] == 255).all()
    assert (picture[5:, 5:] == 255).all()  # no fourth picture


def test_a_square_for_each_set(images, texts):
    figure = wall.draw({"synthetic": images, "real": images[:3]}, stamp_text="profile x")
    assert sum(bool(axes.images) for axes in figure.axes) == 2
    assert {"synthetic (4)", "real (3)", "profile x"} <= set(texts(figure))
