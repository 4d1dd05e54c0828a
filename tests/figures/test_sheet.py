import pytest

from echo_lib.figures import sheet


def test_a_row_for_each_mode_and_a_column_for_each_title(images, label_maps, texts):
    rows = {
        "frame": ("images", images, None),
        "labels": ("overlays", images, label_maps),
        "outline": ("contours", images, label_maps),
        "map": ("label maps", None, label_maps),
    }
    figure = sheet.draw(rows, ["a", "b", "c", "d"], stamp_text="profile x")
    assert sum(bool(axes.images) for axes in figure.axes) == 16
    assert {"frame", "labels", "outline", "map", "a", "d", "profile x"} <= set(texts(figure))


def test_an_unknown_mode_is_refused(images):
    with pytest.raises(ValueError, match="mode 'outlines', expected one of"):
        sheet.draw({"x": ("outlines", images, None)}, ["a"], stamp_text="")
