import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from echo_lib.labels import SDM_COLOURS, SDM_LV, SDM_SECTOR
from echo_lib.studio.explorer import Explorer, compose


@pytest.fixture
def folder(tmp_path):
    """Fourteen grey images with scores 0.00 .. 0.13, ten of them of one view."""
    lines = []
    for number in range(14):
        for kind, value in (("image", 10 * number), ("map", SDM_SECTOR)):
            array = np.full((16, 16), value, dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / f"{number}_{kind}.png")
        view = "4CH" if number < 10 else "2CH"
        lines.append((f"f{number}", view, f"{number}_image.png", f"{number}_map.png", number / 100))
    columns = ["name", "view", "image", "label_map", "dice"]
    pd.DataFrame(lines, columns=columns).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def explorer(folder, **options):
    index = pd.read_csv(folder / "index.csv")
    return Explorer(folder, index, filters=("view",), score="dice", **options)


def pixel(widget, tile):
    picture = np.array(Image.open(io.BytesIO(widget.picture.value)).convert("L"))
    return int(picture[14 + 60 + tile // 6 * 158, tile % 6 * 144 + 60])


def test_drop_downs_pages_and_scores_choose(folder):
    widget = explorer(folder)
    widget.show.value = "image"
    assert (widget.page.max, widget.count.value) == (2, "14 of 14")
    assert [pixel(widget, tile) for tile in (0, 1, 11)] == [0, 10, 110]
    widget.page.value = 2
    assert pixel(widget, 1) == 130
    widget.filters["view"].value = "2CH"
    assert widget.selected["name"].tolist() == ["f10", "f11", "f12", "f13"]
    assert (widget.page.value, widget.page.max) == (1, 1)
    widget.order.value = "highest score first"
    assert [pixel(widget, tile) for tile in range(4)] == [130, 120, 110, 100]
    widget.least.value = 0.12
    assert widget.count.value == "2 of 14"


def test_other_maps_take_the_place_of_the_index_s(folder):
    maps = np.full((14, 16, 16), SDM_LV, dtype=np.uint8)
    widget = explorer(folder, label_maps=maps)
    widget.show.value = "label map"
    picture = Image.open(io.BytesIO(widget.picture.value))
    colour = tuple(int(SDM_COLOURS[SDM_LV][i : i + 2], 16) for i in (1, 3, 5))
    assert picture.getpixel((60, 74)) == colour


def test_composition_tints_the_heart_alone():
    image = np.full((2, 2), 100, dtype=np.uint8)
    label_map = np.array([[SDM_LV, SDM_SECTOR], [0, SDM_SECTOR]])
    shown = compose(image, label_map, "overlay")
    red = int(SDM_COLOURS[SDM_LV][1:3], 16)
    assert shown[0, 0, 0] == int(0.55 * 100 + 0.45 * red)
    assert (shown[[0, 1, 1], [1, 0, 1]] == 100).all()
    assert (compose(image, label_map, "image") == 100).all()
    with pytest.raises(ValueError, match="'contours', expected one of"):
        compose(image, label_map, "contours")


def test_an_index_that_cannot_be_shown_is_refused(folder):
    index = pd.read_csv(folder / "index.csv")
    with pytest.raises(ValueError, match="empty index"):
        Explorer(folder, index.head(0))
    with pytest.raises(ValueError, match=r"without \['phase'\]"):
        Explorer(folder, index)
