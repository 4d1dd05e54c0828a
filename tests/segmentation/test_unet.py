from types import SimpleNamespace

import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.segmentation.unet import build_unet, require_image_size


def config(layers):
    return SimpleNamespace(layers=layers)


def test_paper_network_has_the_released_number_of_parameters():
    model = build_unet(load_profile("paper").segmentation)
    assert sum(p.numel() for p in model.parameters()) == 664_282


def test_logits_have_four_classes_and_the_image_size():
    model = build_unet(config(8))
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 256, 256)).shape == (1, 4, 256, 256)


def test_initial_weights_are_those_of_the_generator_and_global_state_is_untouched():
    before = torch.random.get_rng_state()
    a, b, c = (build_unet(config(3), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    first = [next(model.parameters()) for model in (a, b, c)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert first[0].abs().max() <= 1 / 3  # 1/sqrt(fan-in), 1 channel x 3 x 3


def test_an_image_does_not_see_the_others_of_its_batch():
    model = build_unet(config(4)).eval()
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "size"), [(8, (256, 256)), (7, (128, 128)), (4, (16, 8)), (2, (4, 6))]
)
def test_sizes_that_pass_also_train(layers, size):
    require_image_size(config(layers), size)
    logits = build_unet(config(layers)).train()(torch.zeros(1, 1, *size))
    assert logits.shape[-2:] == size


@pytest.mark.parametrize(
    ("layers", "size", "largest"),
    [(8, (128, 128), 7), (8, (224, 224), 6), (5, (16, 16), 4), (3, (6, 6), 2)],
)
def test_sizes_that_do_not_pass_name_the_largest_layers(layers, size, largest):
    with pytest.raises(ValueError, match=f"set segmentation.layers to {largest} or less"):
        require_image_size(config(layers), size)
    require_image_size(config(largest), size)


def test_odd_images_pass_no_network():
    with pytest.raises(ValueError, match="choose even sides"):
        require_image_size(config(2), (31, 32))
