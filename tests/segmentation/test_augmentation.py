import math

import numpy as np
import pytest
import torch

from echo_lib.config import load_profile
from echo_lib.segmentation.augmentation import COLUMNS, apply, draw, draw_batch, source_pixels

IDENTITY = {
    "gamma": 1.0,
    "flip": 0.0,
    "degrees": 0.0,
    "translate_x": 0.0,
    "translate_y": 0.0,
    "scale": 1.0,
}


@pytest.fixture
def config():
    return load_profile("paper").segmentation


@pytest.fixture
def pair():
    """Two images, and label maps that are a function of the image's grey value."""
    label_maps = torch.randint(0, 4, (2, 16, 24), generator=torch.Generator().manual_seed(0)).byte()
    return label_maps[:, None] * 60, label_maps


def unit(images):
    return images.float() / 255


def transformed(pair, **changed):
    parameters = torch.tensor([[(IDENTITY | changed)[name] for name in COLUMNS]] * len(pair[0]))
    return apply(*pair, parameters)


def test_identity_changes_nothing(pair):
    images, label_maps = transformed(pair)
    assert torch.equal(images, unit(pair[0]))
    assert torch.equal(label_maps, pair[1])
    assert label_maps.dtype == torch.uint8


def test_flip_is_horizontal(pair):
    images, label_maps = transformed(pair, flip=1.0)
    assert torch.equal(images, unit(pair[0]).flip(-1))
    assert torch.equal(label_maps, pair[1].flip(-1))


def test_shift_is_a_fraction_of_width_and_height_and_fills_with_background(pair):
    _, label_maps = transformed(pair, translate_x=0.25, translate_y=-0.5)  # 6 columns, 8 rows up
    assert torch.equal(label_maps[:, :8, 6:], pair[1][:, 8:, :18])
    assert label_maps[:, 8:].sum() == 0
    assert label_maps[:, :, :6].sum() == 0


def test_quarter_turn_of_a_square(pair):
    square = pair[0][..., :16], pair[1][..., :16]
    _, label_maps = transformed(square, degrees=90.0)
    assert torch.equal(label_maps, torch.rot90(square[1], -1, (1, 2)))


def test_rotation_keeps_shapes_on_an_image_that_is_not_square():
    label_maps = torch.zeros(1, 40, 80, dtype=torch.uint8)
    label_maps[:, 15:25, 35:45] = 1
    _, turned = transformed((label_maps[:, None], label_maps), degrees=90.0)
    assert torch.equal(turned, label_maps)


def test_scale_enlarges(pair):
    label_maps = torch.zeros(1, 32, 32, dtype=torch.uint8)
    label_maps[:, 12:20, 12:20] = 1
    _, larger = transformed((label_maps[:, None], label_maps), scale=2.0)
    assert larger.sum() == 16 * 16


def test_gamma_is_the_exponent_of_the_image_alone(pair):
    images, label_maps = transformed(pair, gamma=3.0)
    torch.testing.assert_close(images, unit(pair[0]) ** 3)
    assert torch.equal(label_maps, pair[1])


def test_normalisation_comes_last_and_touches_the_image_alone(pair):
    parameters = torch.tensor([[(IDENTITY | {"gamma": 2.0})[name] for name in COLUMNS]] * 2)
    images, label_maps = apply(*pair, parameters, normalisation=(0.25, 0.5))
    torch.testing.assert_close(images, (unit(pair[0]) ** 2 - 0.25) / 0.5)
    assert torch.equal(label_maps, pair[1])


def test_image_and_label_map_move_together(pair, config):
    parameters = draw_batch(config, [("a",), ("b",)], key=(0,))
    parameters[:, 0] = 1.0
    images, label_maps = apply(*pair, parameters)
    assert torch.equal((images[:, 0] * 255 / 60).round().byte(), label_maps)
    assert not torch.equal(label_maps, pair[1])


def test_a_pair_is_transformed_alike_in_any_batch(pair, config):
    together = apply(*pair, draw_batch(config, [(7, "a"), (7, "b")], key=(0, "row")))
    alone = apply(pair[0][1:], pair[1][1:], draw_batch(config, [(7, "b")], key=(0, "row")))
    assert torch.equal(together[0][1:], alone[0])
    assert torch.equal(together[1][1:], alone[1])


def test_nearest_pixel_is_that_of_grid_sample(config):
    # Independent of ours: the same transform in torch's own convention of a sampling grid.
    label_maps = torch.randint(0, 4, (6, 40, 64), generator=torch.Generator().manual_seed(0)).byte()
    parameters = draw_batch(config, [(name,) for name in "abcdef"], key=(0,))
    _, ours = apply(label_maps[:, None], label_maps, parameters)
    theta = torch.stack([affine(line, height=40, width=64) for line in parameters.tolist()])
    grid = torch.nn.functional.affine_grid(theta, (6, 1, 40, 64), align_corners=False)
    theirs = torch.nn.functional.grid_sample(
        label_maps[:, None].float(), grid, mode="nearest", align_corners=False
    )
    assert (ours == theirs[:, 0].byte()).float().mean() > 0.9995  # but where a pixel is a tie


def affine(drawn, *, height, width):
    """Output to input, both in [-1, 1]: shift back, turn back, zoom back, mirror."""
    _, flip, degrees, shift_x, shift_y, scale = drawn
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    turn = torch.tensor([[cosine, sine * height / width], [-sine * width / height, cosine]])
    shift = turn @ torch.tensor([[2 * shift_x], [2 * shift_y]])
    mirror = torch.tensor([[1 - 2 * flip], [1.0]])
    return torch.cat([turn, -shift], dim=1) * mirror


def test_beyond_the_border_lies_the_black_pixel_of_the_border():
    # 2 x 2 pixels with a border are 4 x 4; shifted right by a whole width, all is border.
    parameters = torch.tensor([[1.0, 0, 0, 1.0, 0, 1.0]])
    assert source_pixels(parameters, (2, 2)).tolist() == [[[4, 4], [8, 8]]]
    parameters[0, 3] = 0
    assert source_pixels(parameters, (2, 2)).tolist() == [[[5, 6], [9, 10]]]


def test_passes_draw_anew(config):
    first, again, second = (draw_batch(config, [(number, "a")], key=(0,)) for number in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first != second).sum() >= 5


def test_draws_fill_the_ranges_of_the_config(config):
    drawn = np.array([draw(config, np.random.default_rng(i)) for i in range(2000)])
    low = [0.5, 0, -10, -0.2, -0.2, 0.8]
    high = [3.0, 1, 10, 0.2, 0.2, 1.2]
    np.testing.assert_allclose(drawn.min(axis=0), low, atol=0.05)
    np.testing.assert_allclose(drawn.max(axis=0), high, atol=0.05)
    assert drawn[:, 1].mean() == pytest.approx(0.5, abs=0.04)
