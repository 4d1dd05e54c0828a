import dataclasses

import pandas
import pytest
import torch

from echo_lib.checkpoints import load_weights
from echo_lib.config import as_yaml, load_profile
from echo_lib.provenance import StageError
from echo_lib.segmentation import frames as frames_module
from echo_lib.segmentation import training
from echo_lib.segmentation.frames import grey_statistics
from echo_lib.segmentation.training import (
    learning_rate,
    train,
    train_epoch,
    validate,
)

ROW = "real_all"


def weights(run, seed=0):
    return load_weights(run.folder / "segmentation" / f"{ROW}-{seed}" / "weights.safetensors")


def log(run, seed=0):
    return pandas.read_csv(run.folder / "segmentation" / f"{ROW}-{seed}" / "log.csv")


class Killed(Exception):
    pass


def kill_after(monkeypatch, epochs):
    """Make training stop as if killed, after the log of that many epochs was written."""
    write, calls = training._write_log, []

    def write_then_die(path, lines):
        write(path, lines)
        calls.append(path)
        if len(calls) == epochs:
            raise Killed

    monkeypatch.setattr(training, "_write_log", write_then_die)


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_learning_rate_is_annealed_per_epoch():
    config = load_profile("paper", {"segmentation.epochs": 4}).segmentation
    rates = [learning_rate(config, epoch) for epoch in (1, 3, 5)]
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4])


def test_grey_statistics_by_hand():
    images = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    assert grey_statistics(images) == (0.5, 0.5)
    with pytest.raises(StageError, match="one grey value, 0"):
        grey_statistics(images * 0)


def test_two_epochs_lower_the_loss_by_the_numbers_known(tiny_run):
    train(tiny_run, ROW)
    table = log(tiny_run)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["loss"].tolist()[:2] == pytest.approx([2.2531, 2.2464], abs=1e-3)
    assert table["loss"].iloc[-1] < table["loss"].iloc[0]
    structures = [column for column in table if column.startswith("validation_dice_")]
    assert table[structures].mean(axis=1).tolist() == pytest.approx(
        table["validation_dice"].tolist(), abs=1e-5
    )


def test_it_learns(new_run, tmp_path):
    still = {"gamma": [1, 1], "degrees": [0, 0], "translate": [0, 0], "scale": [1, 1]}
    fast = {
        "layers": 4,
        "epochs": 40,
        "learning_rate": 0.02,
        "batch_size": 2,
        "flip_probability": 0,
    }
    run = new_run(tmp_path, **{f"segmentation.{key}": v for key, v in (still | fast).items()})
    assert train(run, ROW)["facts"]["validation_dice"] > 0.5  # at the start: 0.2


def test_a_killed_training_gives_the_same_weights_to_the_bit(new_run, tmp_path, monkeypatch):
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    train(whole, ROW)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            train(killed, ROW)
    assert log(killed)["epoch"].tolist() == [1, 2, 3]  # the checkpoint is of epoch 2
    train(killed, ROW)
    assert_same(weights(whole)[0], weights(killed)[0])
    columns = ["epoch", "loss", "validation_dice", "learning_rate"]
    pandas.testing.assert_frame_equal(log(whole)[columns], log(killed)[columns], check_exact=True)
    assert not list(killed.folder.glob("segmentation/*/state.pt"))


def test_a_training_killed_before_its_end_was_written_still_ends(tiny_run, monkeypatch):
    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_weights", die)
        with pytest.raises(Killed):
            train(tiny_run, ROW)
    assert train(tiny_run, ROW)["facts"]["training_pairs"] == 8


def test_a_finished_training_returns_at_once(tiny_run, monkeypatch):
    manifest = train(tiny_run, ROW)
    monkeypatch.setattr(training, "train_epoch", None)
    assert train(tiny_run, ROW) == manifest


def test_more_table_seeds_keep_the_finished_ones(tiny_run, monkeypatch):
    train(tiny_run, ROW)
    config = dataclasses.replace(tiny_run.profile.segmentation, table_seeds=(0, 1, 2))
    more = dataclasses.replace(
        tiny_run, profile=dataclasses.replace(tiny_run.profile, segmentation=config)
    )
    monkeypatch.setattr(training, "train_epoch", None)
    assert train(more, ROW)["facts"]["training_pairs"] == 8


def test_seeds_give_different_networks(tiny_run):
    train(tiny_run, ROW, seed=0)
    train(tiny_run, ROW, seed=1)
    (a, facts), (b, _) = weights(tiny_run, 0), weights(tiny_run, 1)
    assert not torch.equal(a["model.0.conv.weight"], b["model.0.conv.weight"])
    assert facts["layers"] == 4
    with pytest.raises(ValueError, match=r"seed 2, expected one of table_seeds \(0, 1\)"):
        train(tiny_run, ROW, seed=2)


def test_the_best_epoch_is_kept(tiny_run, monkeypatch):
    scores = iter([0.2, 0.6, 0.6, 0.4])
    columns = dict.fromkeys(training.DICE_COLUMNS, 0.0)
    monkeypatch.setattr(
        training, "validate", lambda *args: {"validation_dice": next(scores)} | columns
    )
    assert train(tiny_run, ROW)["facts"]["best_epoch"] == 2
    assert weights(tiny_run)[1]["epoch"] == 2


@pytest.mark.parametrize(
    ("row", "stage"), [("cyclegan_all", "cyclegan"), ("sdm_4ch_ed", "synthetic")]
)
def test_a_missing_source_is_named(tiny_run, row, stage):
    with pytest.raises(StageError, match=f"stage '{stage}' is not finished"):
        train(tiny_run, row)


def test_a_loss_that_is_not_finite_names_its_pairs(tiny_run, monkeypatch):
    monkeypatch.setitem(
        training.LOSSES, "dice_cross_entropy", lambda logits, target: logits.sum() * torch.nan
    )
    with pytest.raises(StageError, match=r"row 'real_all', epoch 1: loss nan on patient\d+_"):
        train(tiny_run, ROW)


def test_an_image_too_small_for_the_layers_is_refused(new_run, tmp_path):
    run = new_run(tmp_path, **{"segmentation.layers": 8})
    with pytest.raises(ValueError, match="to 5 or less"):
        train(run, ROW)


def test_validation_leaves_the_frames_as_they_are():
    # A "network" that reads the class off the grey value: right only on untransformed frames.
    label_maps = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    frames = frames_module.Frames(label_maps[:, None] * 85, label_maps, tuple("abc"))

    class Reader(torch.nn.Module):
        def forward(self, images):
            return -(images - torch.arange(4).reshape(1, 4, 1, 1) / 3).abs()

    scores = validate(Reader(), frames, 2, (0.0, 1.0))
    assert scores == {"validation_dice": 1.0, **dict.fromkeys(training.DICE_COLUMNS, 1.0)}


def test_an_epoch_sees_every_frame_once_and_labels_are_camus_ids(tiny_run):
    row = training.find_row(ROW)
    frames = frames_module.load_frames(tiny_run, row, "fit", "cpu")
    assert sorted(frames.label_maps.unique().tolist()) == [0, 1, 2, 3]
    sizes = []

    class Recorder(torch.nn.Conv2d):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    model = Recorder(1, 4, 1)
    state = training.Training(model, torch.optim.Adam(model.parameters()), {}, -1.0, [])
    config = dataclasses.replace(tiny_run.profile.segmentation, batch_size=3)
    train_epoch(state, frames, config, {"learning_rate": 0.0}, (0.0, 1.0), key=(0, 0, ROW, 1))
    assert sizes == [3, 3, 2]


def test_command_line_trains_every_table_seed(tiny_run, tmp_path, capsys):
    profile = tmp_path / "tiny.yaml"
    profile.write_text(as_yaml(tiny_run.profile), encoding="utf-8")
    arguments = ["--profile", str(profile), "--run-root", str(tmp_path), "--device", "cpu"]
    training.main([*arguments, "--row", ROW])
    assert "segmentation/real_all-1: best validation Dice" in capsys.readouterr().out
    with pytest.raises(StageError, match="stage 'synthetic' is not finished"):
        training.main([*arguments, "--row", "sdm_all", "--table-seed", "1"])


def test_the_split_that_is_reported_never_chooses_the_weights():
    index = pandas.DataFrame(
        {
            "patient": [f"patient{n:04d}" for n in range(24)],
            "split": ["training"] * 20 + ["validation"] * 4,
        }
    )
    for split, fit, choose in (("test", 20, index[20:]), ("validation", 18, index[9:20:10])):
        part = frames_module.part_of(index, split)
        assert (part == "fit").sum() == fit
        assert index[part == "choose"].equals(choose)
