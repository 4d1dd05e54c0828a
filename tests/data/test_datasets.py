import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from echo_lib.data import datasets


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def index(tmp_path):
    """Two pairs, listed against the order of their names."""
    rows = []
    for value, name in ((7, "b"), (200, "a")):
        row = {"name": name, "image": f"prepared/{name}.png", "label_map": f"prepared/{name}_m.png"}
        write_png(tmp_path / row["image"], np.full((4, 6), value, dtype=np.uint8))
        write_png(tmp_path / row["label_map"], np.full((4, 6), value % 5, dtype=np.uint8))
        rows.append(row)
    return pandas.DataFrame(rows)


def test_pairs_follow_the_index(tmp_path, index):
    pairs = datasets.load_pairs(tmp_path, index)
    assert pairs.names == ("b", "a")
    assert len(pairs) == 2
    assert pairs.images.shape == (2, 1, 4, 6)
    assert pairs.label_maps.shape == (2, 4, 6)
    assert pairs.images.dtype == pairs.label_maps.dtype == torch.uint8
    assert pairs.images[:, 0, 0, 0].tolist() == [7, 200]
    assert pairs.label_maps[:, 0, 0].tolist() == [2, 0]


def test_label_maps_alone(tmp_path, index):
    maps = datasets.load_label_maps(tmp_path, index.drop(columns="image"))
    assert maps[:, 3, 5].tolist() == [2, 0]


def test_an_index_is_read_from_the_run_folder(tmp_path, index):
    index.assign(patient="0001").to_csv(tmp_path / "prepared/frames.csv", index=False)
    read = datasets.read_index(tmp_path, "real")
    assert read["name"].tolist() == ["b", "a"]
    assert read["patient"].tolist() == ["0001", "0001"]


def test_an_index_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"maps\.csv: no such file; run stage 'prepared'"):
        datasets.read_index(tmp_path, "maps")
    with pytest.raises(ValueError, match="index 'images'; expected one of"):
        datasets.read_index(tmp_path, "images")


def test_an_empty_index(tmp_path, index):
    with pytest.raises(ValueError, match="empty index"):
        datasets.load_pairs(tmp_path, index[:0])


def test_images_of_two_sizes(tmp_path, index):
    write_png(tmp_path / "prepared/a.png", np.zeros((4, 5), dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"prepared/a\.png: 4 x 5 px, but prepared/b\.png has 4 x 6"
    ):
        datasets.load_pairs(tmp_path, index)


def test_an_image_and_a_label_map_of_two_sizes(tmp_path, index):
    write_png(tmp_path / "prepared/b.png", np.zeros((8, 6), dtype=np.uint8))
    with pytest.raises(ValueError, match="images of 8 x 6, but their label maps have 4 x 6"):
        datasets.load_pairs(tmp_path, index[:1])


def test_unknown_labels_name_the_file(tmp_path, index):
    write_png(tmp_path / "prepared/a_m.png", np.full((4, 6), 5, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a_m\.png: label values \[5\] found, expected 0\.\.4"):
        datasets.load_label_maps(tmp_path, index)


def test_colour_images_are_refused(tmp_path, index):
    write_png(tmp_path / "prepared/a.png", np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="mode 'RGB'"):
        datasets.load_pairs(tmp_path, index)


def test_to_unit_spans_minus_one_to_one():
    unit = datasets.to_unit(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(unit, torch.tensor([-1.0, -0.6, 1.0]))


def test_one_hot_worked_by_hand():
    label_map = torch.tensor([[[0, 2], [1, 2]]], dtype=torch.uint8)
    expected = torch.tensor([[[[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 1]]]])
    assert torch.equal(datasets.one_hot(label_map, 3), expected.float())
    with pytest.raises(ValueError, match=r"label value 2 in a label map, expected 0\.\.1"):
        datasets.one_hot(label_map, 2)
