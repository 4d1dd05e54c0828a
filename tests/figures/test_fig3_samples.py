import pytest

from echo_lib.figures import fig3_samples


def test_columns_are_in_the_papers_order_whatever_the_tables(index, images, label_maps, texts):
    turned = index.iloc[::-1].reset_index(drop=True)
    figure = fig3_samples.draw(turned, images[::-1], label_maps, stamp_text="profile x")
    titles = [text for text in texts(figure) if "CH" in text]
    assert titles == ["2CH ED", "2CH ES", "4CH ED", "4CH ES"]
    # Panels are drawn column by column; row A of each shows its own image, of value 10, 20, 30, 40.
    panels = [axes for axes in figure.axes if axes.images]
    shown = [panels[3 * column].images[0].get_array()[0, 0] * 255 for column in range(4)]
    assert shown == pytest.approx([10, 20, 30, 40])


def test_rows_are_image_overlay_and_contours(index, images, label_maps):
    figure = fig3_samples.draw(index, images, label_maps, stamp_text="")
    image, overlay, contours = [axes for axes in figure.axes if axes.images][:3]
    assert image.images[0].get_array().shape == (32, 32)
    assert overlay.images[0].get_array().shape == (32, 32, 3)
    assert len(contours.collections) == 3


def test_a_missing_view_is_refused(index, images, label_maps):
    with pytest.raises(ValueError, match="expected one each"):
        fig3_samples.draw(index.iloc[:3], images, label_maps, stamp_text="")
