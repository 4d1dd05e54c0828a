"""Unpaired items and the pool of fakes, by hand."""

import numpy as np
import torch

from echo_lib.cyclegan.images import ImagePool, UnpairedImages, epoch_order, to_grey


class Draws:
    """A generator whose draws are written down."""

    def __init__(self, random=(), integers=()):
        self.uniform, self.whole = list(random), list(integers)

    def random(self):
        return self.uniform.pop(0)

    def integers(self, size):
        return self.whole.pop(0)


def fakes(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None]


def test_pool_keeps_and_returns_the_first_fakes():
    pool = ImagePool(3)
    assert pool.exchange(fakes(1, 2), Draws()).flatten().tolist() == [1, 2]
    assert [float(image) for image in pool.images] == [1, 2]


def test_full_pool_passes_a_fake_through_or_exchanges_it():
    pool = ImagePool(2, [torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]])])
    shown = pool.exchange(fakes(3, 4, 5), Draws([0.6, 0.4, 0.5], [1, 0]))
    # 3: 0.6 >= 1/2 takes place 1 (2 comes out); 4 passes; 5 takes place 0 (1 comes out).
    assert shown.flatten().tolist() == [2, 4, 1]
    assert [float(image) for image in pool.images] == [5, 3]


def test_pool_of_no_images_passes_all_through():
    assert ImagePool(0).exchange(fakes(1, 2), Draws()).flatten().tolist() == [1, 2]


def test_pool_holds_copies():
    pool, images = ImagePool(1), fakes(1)
    pool.exchange(images, Draws())
    images.fill_(9)
    assert float(pool.images[0]) == 1


def unpaired(pseudo=4, real=6, per_epoch=6):
    counts = {"pseudo": pseudo, "real": real}
    ramp = torch.arange(8, dtype=torch.uint8).expand(1, 8, 8)
    images = {k: torch.stack([ramp + 10 * i for i in range(n)]) for k, n in counts.items()}
    names = {k: tuple(f"{k}{i}" for i in range(n)) for k, n in counts.items()}
    return UnpairedImages(images, names, 0, per_epoch)


def test_an_epoch_shows_every_image_before_any_comes_twice():
    items = unpaired()
    for epoch in range(3):
        assert sorted(items.rows("real", epoch, range(6))) == list(range(6))
        assert sorted(items.rows("pseudo", epoch, range(4))) == list(range(4))


def test_pairing_is_drawn_afresh_each_epoch():
    items = unpaired(pseudo=6)
    pairings = {
        frozenset(
            zip(items.rows("pseudo", e, range(6)), items.rows("real", e, range(6)), strict=True)
        )
        for e in range(5)
    }
    assert len(pairings) == 5
    assert (epoch_order("real", 0, 1, 6, 6) == epoch_order("real", 0, 1, 6, 6)).all()


def test_items_are_the_named_images_some_of_them_flipped():
    items, flipped = unpaired(), []
    for epoch in range(8):
        batch = items.batch("real", epoch, range(6))
        for row, image in zip(items.rows("real", epoch, range(6)), batch, strict=True):
            straight = np.arange(8) + 10 * row
            flipped.append(int(image[0, 0, 0]) > int(image[0, 0, -1]))
            expected = straight[::-1] if flipped[-1] else straight
            np.testing.assert_array_equal(image[0, 0], expected)
    assert 0.3 < np.mean(flipped) < 0.7


def test_an_item_does_not_depend_on_its_batch():
    items = unpaired()
    together = items.batch("pseudo", 2, range(4))
    assert torch.equal(together, torch.cat([items.batch("pseudo", 2, [k]) for k in range(4)]))


def test_grey_values_are_rounded_and_channels_averaged():
    colours = torch.tensor([-1.0, 0.5, 2.0])[None, :, None, None].expand(1, 3, 1, 2)
    assert to_grey(colours).tolist() == [[[191, 191]]]  # mean 0.5: 1.5 * 127.5 = 191.25
    assert to_grey(torch.tensor([-1.5, -1, 0.0, 1.2])[None, None, None]).tolist() == [
        [[0, 0, 128, 255]]
    ]
