import dataclasses

import pandas
import pytest
import torch

from echo_lib.checkpoints import load_weights
from echo_lib.config import as_yaml
from echo_lib.provenance import StageError
from echo_lib.segmentation import frames as frames_module
from echo_lib.segmentation import training
from echo_lib.segmentation.frames import grey_statistics
from echo_lib.segmentation.training import train, train_epoch

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


def test_grey_statistics_by_hand():
    images = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    assert grey_statistics(images) == (0.5, 0.5)
    with pytest.raises(StageError, match="one grey value, 0"):
        grey_statistics(images * 0)


def test_two_epochs_lower_the_loss_by_the_numbers_known(tiny_run):
    train(tiny_run, ROW)
    table = log(tiny_run)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table["loss"].tolist()[:2] == pytest.approx([2.2900, 2.2800], abs=1e-3)
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
        training, "validate", lambda *args, key: {"validation_dice": next(scores)} | columns
    )
    assert train(tiny_run, ROW)["facts"]["best_epoch"] == 2
    assert weights(tiny_run)[1]["epoch"] == 2


@pytest.mark.parametrize(
    ("row", "stage"), [("cyclegan_all", "translated"), ("sdm_4ch_ed", "synthetic")]
)
def test_a_missing_source_is_named(tiny_run, row, stage):
    with pytest.raises(StageError, match=f"stage '{stage}' is not finished"):
        train(tiny_run, row)


def test_a_loss_that_is_not_finite_names_its_pairs(tiny_run, monkeypatch):
    monkeypatch.setitem(
        training.LOSSES, "dice_cross_entropy", lambda logits, target: logits.sum() * torch.nan
    )
    with pytest.raises(
        StageError, match=r"row 'real_all', epoch 1, batch 1: loss nan on patient\d+_"
    ):
        train(tiny_run, ROW)


def test_an_image_too_small_for_the_layers_is_refused(new_run, tmp_path):
    run = new_run(tmp_path, **{"segmentation.layers": 8})
    with pytest.raises(ValueError, match="to 5 or less"):
        train(run, ROW)


def batches_of_an_epoch(run, frames):
    """The sizes of the batches that a network is given in an epoch of every image."""
    sizes = []

    class Recorder(torch.nn.Conv2d):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    model = Recorder(1, 4, 1)
    state = training.Training(model, torch.optim.Adam(model.parameters()), {}, -1.0, [])
    config = dataclasses.replace(run.profile.segmentation, images_per_epoch=0, batch_size=3)
    train_epoch(state, frames, config, (0.0, 1.0), epoch=1, key=(0, 0, ROW))
    return sizes


def test_an_epoch_sees_every_frame_once_and_labels_are_camus_ids(tiny_run):
    row = training.find_row(ROW)
    frames = frames_module.load_frames(tiny_run, row, "fit", "cpu")
    assert sorted(frames.label_maps.unique().tolist()) == [0, 1, 2, 3]
    assert batches_of_an_epoch(tiny_run, frames) == [3, 3, 2]


def test_an_epoch_of_some_patients_is_as_long_as_one_of_all(tiny_run):
    row = dataclasses.replace(training.find_row(ROW), real_fraction=0.25)
    frames = frames_module.load_frames(tiny_run, row, "fit", "cpu")
    assert len(frames.names) == 2
    assert batches_of_an_epoch(tiny_run, frames) == [3, 3, 2]


def test_command_line_trains_every_table_seed(tiny_run, tmp_path, capsys):
    profile = tmp_path / "tiny.yaml"
    profile.write_text(as_yaml(tiny_run.profile), encoding="utf-8")
    arguments = ["--profile", str(profile), "--run-root", str(tmp_path), "--device", "cpu"]
    training.main([*arguments, "--row", ROW])
    assert "segmentation/real_all-1: best validation Dice" in capsys.readouterr().out
    with pytest.raises(StageError, match="stage 'synthetic' is not finished"):
        training.main([*arguments, "--row", "sdm_all", "--table-seed", "1"])


def test_the_first_batch_that_is_not_finite_is_named(tiny_run, monkeypatch):
    calls = []

    def breaks_at_the_second(logits, target):
        calls.append(len(logits))
        return logits.mean() if len(calls) < 2 else logits.sum() * torch.nan

    monkeypatch.setitem(training.LOSSES, "dice_cross_entropy", breaks_at_the_second)
    with pytest.raises(StageError, match=r"epoch 1, batch 2: loss nan on (patient\S+ ?){4};"):
        train(tiny_run, ROW)


def test_as_released_trains_one_epoch_more_and_says_so(new_run, tmp_path):
    released = {"variant": "as_released", "loss": "cross_entropy", "epochs": 3}
    run = new_run(tmp_path, **{f"segmentation.{key}": v for key, v in released.items()})
    train(run, ROW)
    table = log(run)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    # Two batches an epoch, the rate's period is 2 x 3 batches: batch 0, 2, 4 and 6.
    assert table["learning_rate"].tolist() == pytest.approx([1e-3, 3.25e-4, 3.25e-4, 1e-3])
    assert weights(run)[1]["variant"] == "as_released"


def test_a_row_starts_from_the_network_of_another(tiny_run, generate, monkeypatch):
    with pytest.raises(StageError, match="stage 'segmentation/sdm_all-0' is not finished"):
        train(tiny_run, "sdm_then_real")
    generate(tiny_run, "synthetic")
    train(tiny_run, "sdm_all")
    started = []
    monkeypatch.setattr(
        training, "train_epoch",
        lambda state, *args, **kwargs: started.append(
            {name: w.clone() for name, w in state.model.state_dict().items()}
        ) or {"loss": 0.0, "learning_rate": 0.0},
    )  # fmt: skip
    manifest = train(tiny_run, "sdm_then_real")
    assert set(manifest["inputs"]) == {"prepared", "segmentation/sdm_all-0"}
    before = load_weights(tiny_run.folder / "segmentation/sdm_all-0/weights.safetensors")[0]
    assert_same(before, started[0])


def test_a_row_of_two_sources_rests_on_both(tiny_run, generate):
    generate(tiny_run, "synthetic")
    manifest = train(tiny_run, "sdm_and_real")
    assert set(manifest["inputs"]) == {"prepared", "synthetic"}
    assert manifest["facts"]["training_pairs"] == 16 + 8
    assert manifest["facts"]["choosing_pairs"] == 4


def test_other_rows_and_a_filter_of_others_keep_a_finished_network(tiny_run, monkeypatch):
    train(tiny_run, ROW)
    changed = dataclasses.replace(
        tiny_run.profile.segmentation, extra_rows=(), fidelity_threshold=0.5
    )
    other = dataclasses.replace(
        tiny_run, profile=dataclasses.replace(tiny_run.profile, segmentation=changed)
    )
    monkeypatch.setattr(training, "train_epoch", None)
    assert train(other, ROW)["facts"]["left_out_by_fidelity"] == 0
