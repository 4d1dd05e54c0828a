import numpy as np
import pytest
import torch

from echo_lib.checkpoints import save_weights
from echo_lib.provenance import StageError
from echo_lib.segmentation.prediction import Network, load_network, predict, predict_rows
from echo_lib.segmentation.training import train
from echo_lib.segmentation.unet import build_unet


@pytest.fixture
def network(tiny_run):
    model = build_unet(tiny_run.profile.segmentation).eval()
    return Network(4, model, mean=0.25, std=0.2)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 1, 32, 32), generator=generator, dtype=torch.uint8)


def test_label_maps_are_the_largest_logits_of_normalised_images(network, images):
    with torch.no_grad():
        logits = network.model((images.float() / 255 - 0.25) / 0.2)
    label_maps = predict(network, images, batch_size=5)
    assert label_maps.dtype == np.uint8
    np.testing.assert_array_equal(label_maps, logits.argmax(1).numpy())


def test_as_released_leaves_the_normalisation_out(network, images, tmp_path):
    with torch.no_grad():
        plain = network.model(images.float() / 255).argmax(1).numpy()
    path = tmp_path / "weights.safetensors"
    metadata = {"layers": 4, "mean": 0.25, "std": 0.2, "variant": "as_released"}
    save_weights(path, network.model.state_dict(), metadata=metadata)
    np.testing.assert_array_equal(predict(path, images, batch_size=5), plain)
    assert (plain != predict(network, images)).any()


def test_batch_size_does_not_matter(network, images):
    np.testing.assert_array_equal(predict(network, images, batch_size=2), predict(network, images))
    assert predict(network, images[:0]).shape == (0, 32, 32)


def test_images_of_another_type_are_refused(network, images):
    with pytest.raises(ValueError, match=r"float32, expected \(N, 1, H, W\) uint8"):
        predict(network, images.float())
    with pytest.raises(ValueError, match="image of 20 x 20 px"):
        predict(network, images[..., :20, :20])


def test_network_comes_back_from_its_file(network, images, tmp_path):
    path = tmp_path / "weights.safetensors"
    metadata = {"layers": 4, "mean": 0.25, "std": 0.2, "variant": "as_written"}
    save_weights(path, network.model.state_dict(), metadata=metadata)
    np.testing.assert_array_equal(predict(load_network(path), images), predict(network, images))
    np.testing.assert_array_equal(predict(path, images), predict(network, images))


def test_weights_without_normalisation_are_refused(network, tmp_path):
    save_weights(tmp_path / "w.safetensors", network.model.state_dict(), metadata={"layers": 4})
    with pytest.raises(ValueError, match="header lacks mean, std, variant"):
        load_network(tmp_path / "w.safetensors")


def test_rows_that_were_not_trained_are_left_out(new_run, tmp_path):
    tiny_run = new_run(tmp_path, **{"data.evaluation_split": "validation"})
    assert predict_rows(tiny_run).label_maps == {}
    train(tiny_run, "real_all", seed=1)
    found = predict_rows(tiny_run)
    assert list(found.label_maps) == [("real_all", 1)]
    assert found.label_maps["real_all", 1].shape == found.truths.shape == (4, 32, 32)
    assert set(np.unique(found.truths)) == {0, 1, 2, 3}
    assert found.index["split"].unique().tolist() == ["validation"]


def test_altered_weights_are_refused(new_run, tmp_path):
    tiny_run = new_run(tmp_path, **{"data.evaluation_split": "validation"})
    train(tiny_run, "real_all", seed=0)
    path = tiny_run.folder / "segmentation" / "real_all-0" / "weights.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StageError, match="altered"):
        predict_rows(tiny_run)
