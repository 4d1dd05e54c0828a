import dataclasses

import pytest

from echo_lib.config import load_profile
from echo_lib.segmentation.variants import VARIANTS, epochs_of, learning_rates


def config(**overrides):
    return load_profile(
        "paper", {f"segmentation.{key}": value for key, value in overrides.items()}
    ).segmentation


def test_as_written_anneals_once_by_the_epoch():
    four = config(epochs=4)
    rates = [learning_rates(four, epoch, 3) for epoch in (1, 3, 5)]
    assert rates[0] == [1e-3] * 3
    assert [rate[0] for rate in rates] == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert epochs_of(four) == 4


def test_as_released_swings_with_the_batches():
    # Half a period of 2 batches: 1, 1/2, 0, 1/2, 1, ... of the way from 1e-4 to 1e-3.
    two = config(variant="as_released", loss="cross_entropy", epochs=2)
    assert learning_rates(two, 1, 3) == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert learning_rates(two, 2, 3) == pytest.approx([5.5e-4, 1e-3, 5.5e-4])
    assert epochs_of(two) == 3


def test_as_released_is_the_schedule_of_torch_stepped_too_often():
    import torch

    three = config(variant="as_released", loss="cross_entropy", epochs=3)
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3, eta_min=1e-4)
    theirs = []
    for _ in range(16):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    ours = [rate for epoch in range(1, 5) for rate in learning_rates(three, epoch, 4)]
    assert ours == pytest.approx(theirs)


def test_as_released_has_the_loss_of_the_released_code():
    with pytest.raises(ValueError, match="trains with cross_entropy"):
        epochs_of(config(variant="as_released", loss="dice_cross_entropy"))


def test_the_variants_differ_in_every_habit():
    written, released = (dataclasses.asdict(VARIANTS[name]) for name in VARIANTS)
    assert all(written[key] != released[key] for key in written)
