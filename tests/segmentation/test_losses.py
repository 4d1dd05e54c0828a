import math

import pandas
import pytest
import torch
import torch.nn.functional as F

from echo_lib.evaluation.metrics import dice
from echo_lib.segmentation.losses import case_dice, cross_entropy, dice_cross_entropy


def random_maps(seed, shape=(3, 8, 8)):
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_is_that_of_torch():
    logits = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    target = random_maps(1)
    torch.testing.assert_close(cross_entropy(logits, target), F.cross_entropy(logits, target))


def test_dice_term_by_hand():
    # Four pixels, one of each class, and a uniform prediction: CE = ln 4; per structure
    # overlap 1/4, extent 1 + 1, so (2/4 + 1) / (2 + 1) = 1/2.
    target = torch.arange(4).reshape(1, 2, 2)
    loss = dice_cross_entropy(torch.zeros(1, 4, 2, 2), target)
    assert loss.item() == pytest.approx(math.log(4) + 0.5)


def test_both_vanish_for_the_right_answer():
    target = random_maps(2)
    logits = 50.0 * F.one_hot(target, 4).movedim(-1, 1)
    assert cross_entropy(logits, target) < 1e-6
    assert dice_cross_entropy(logits, target) < 1e-6


def test_case_dice_agrees_with_the_evaluation():
    predicted, target = random_maps(3), random_maps(4)
    predicted[1, target[1] == 3], target[1, target[1] == 3] = 0, 0
    predicted[1][predicted[1] == 3] = 0  # case 1: no atrium in either
    index = pandas.DataFrame({"name": list("abc"), "patient": "p", "view": "2CH", "phase": "ED"})
    for absent, score in (("one", 1.0), ("zero", 0.0)):
        expected = dice(predicted.numpy(), target.numpy(), index, row="real_all", absent=absent)
        scores = case_dice(predicted, target, absent=absent)
        assert scores[1, 2] == score
        assert scores.flatten().tolist() == pytest.approx(expected["dice"].tolist())
