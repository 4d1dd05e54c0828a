import numpy as np
import pytest
import torch

from echo_lib.segmentation.prediction import Network, features
from echo_lib.segmentation.unet import build_unet


@pytest.fixture
def network(tiny_run):
    return Network(4, build_unet(tiny_run.profile.segmentation).eval(), mean=0.25, std=0.2)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 1, 32, 32), generator=generator, dtype=torch.uint8)


def test_are_the_deepest_convolution_by_hand(network, images):
    # The way down: four convolutions of 2, 4, 8, 16 channels, the last of them without a stride.
    down = [m for m in network.model.modules() if isinstance(m, torch.nn.Conv2d)][:4]
    assert [layer.out_channels for layer in down] == [2, 4, 8, 16]
    with torch.no_grad():
        x = (images.float() / 255 - 0.25) / 0.2
        for layer in down[:3]:
            x = torch.nn.functional.leaky_relu(torch.nn.functional.instance_norm(layer(x)), 0.1)
        expected = down[3](x).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(features(network, images), expected, atol=1e-6)


def test_batch_size_does_not_matter(network, images):
    whole = features(network, images)
    assert whole.shape == (5, 16)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(features(network, images, batch_size=2), whole, atol=1e-6)
    assert features(network, images[:0]).shape == (0, 16)


def test_the_network_is_left_as_it_was(network, images):
    before = [len(module._forward_hooks) for module in network.model.modules()]
    features(network, images)
    with pytest.raises(ValueError, match="expected"):
        features(network, images.float())
    assert [len(module._forward_hooks) for module in network.model.modules()] == before
