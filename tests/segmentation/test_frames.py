import dataclasses
import itertools

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.labels import SDM_OUTSIDE
from echo_lib.provenance import StageError
from echo_lib.rows import ROWS, find_row
from echo_lib.segmentation import frames as frames_module
from echo_lib.segmentation.augmentation import apply, draw_batch
from echo_lib.segmentation.frames import draw_epoch, load_frames, part_of, share_of_patients

PATIENTS = [f"patient{n:04d}" for n in range(1, 401)]


def row_of(run, **changed):
    return dataclasses.replace(find_row("sdm_and_real"), **changed)


def test_the_split_that_is_reported_never_chooses_the_weights():
    index = pandas.DataFrame(
        {
            "patient": [f"patient{n:04d}" for n in range(24)],
            "split": ["training"] * 20 + ["validation"] * 4,
        }
    )
    for split, fit, choose in (("test", 20, index[20:]), ("validation", 18, index[9:20:10])):
        part = part_of(index, split)
        assert (part == "fit").sum() == fit
        assert index[part == "choose"].equals(choose)


def test_fractions_of_patients_are_nested_and_of_the_right_size():
    fractions = sorted({row.real_fraction for row in ROWS})
    assert fractions == [0.05, 0.1, 0.25, 0.5, 1.0]
    shares = [share_of_patients(PATIENTS * 4, f, key=(0, 0)) for f in fractions]
    assert [len(share) for share in shares] == [20, 40, 100, 200, 400]
    for smaller, larger in itertools.pairwise(shares):
        assert set(smaller) < set(larger)


def test_a_share_is_drawn_by_name_and_seed():
    share = share_of_patients(PATIENTS, 0.05, key=(0, 0))
    assert share_of_patients(reversed(PATIENTS), 0.05, key=(0, 0)) == share
    assert share != share_of_patients(PATIENTS, 0.05, key=(0, 1))
    assert share != share_of_patients(PATIENTS, 0.05, key=(1, 0))
    assert share != sorted(share)
    # A patient more does not reshuffle the rest.
    more = share_of_patients([*PATIENTS, "patient0999"], 0.05, key=(0, 0))
    assert len(set(more) - set(share)) <= 1
    assert len(share_of_patients(PATIENTS[:3], 0.05, key=(0, 0))) == 1


def test_a_fraction_is_of_the_real_part_and_of_the_pairs_that_choose(tiny_run, generate):
    generate(tiny_run, "synthetic")
    quarter = row_of(tiny_run, real_fraction=0.25)
    frames = load_frames(tiny_run, quarter, "fit", "cpu")
    names = frames.names
    whole = load_frames(tiny_run, row_of(tiny_run), "fit", "cpu")
    assert len(whole.names) == whole.of_all_patients == frames.of_all_patients > len(names)
    assert len([name for name in names if name.startswith("synthetic/")]) == 16
    assert len([name for name in names if name.startswith("real/")]) == 2
    assert len(set(names)) == len(names)
    chosen = load_frames(tiny_run, quarter, "choose", "cpu").names
    assert len(chosen) == 1
    assert chosen[0].startswith("real/")
    alone = dataclasses.replace(find_row("real_all"), real_fraction=0.25)
    real = {name.removeprefix("real/") for name in names}
    assert set(load_frames(tiny_run, alone, "fit", "cpu").names) <= real


def test_sources_are_joined_with_names_of_their_own(tiny_run, generate):
    generate(tiny_run, "synthetic")
    generate(tiny_run, "translated")
    row = row_of(tiny_run, sources=("synthetic", "cyclegan"))
    frames = load_frames(tiny_run, row, "fit", "cpu")
    assert len(frames.names) == len(set(frames.names)) == 32
    assert frames.images.shape == (32, 1, 32, 32)
    chosen = load_frames(tiny_run, row, "choose", "cpu").names
    assert {name.partition("/")[0] for name in chosen} == {"synthetic", "cyclegan"}


def test_a_source_without_pairs_of_the_row_is_named(tiny_run, generate):
    generate(tiny_run, "synthetic")
    with pytest.raises(StageError, match=r"no pairs to fit from: .*'ES'.*synthetic"):
        load_frames(tiny_run, find_row("sdm_4ch_es"), "fit", "cpu")


def with_threshold(run, threshold):
    config = dataclasses.replace(run.profile.segmentation, fidelity_threshold=threshold)
    profile = dataclasses.replace(run.profile, segmentation=config)
    return dataclasses.replace(run, profile=profile)


@pytest.fixture
def scored_run(tiny_run, generate):
    """Half of the synthetic pairs, every second, follow their map badly."""
    generate(tiny_run, "synthetic")
    index = pandas.read_csv(tiny_run.folder / "synthetic/pairs.csv")
    scores = np.where(np.arange(len(index)) % 2 == 0, 0.9, 0.6)
    sdm = pandas.DataFrame({"generator": "sdm", "name": index["name"], "mean_dice": scores})
    (tiny_run.folder / "fidelity").mkdir()
    pandas.concat([sdm, sdm.assign(generator="cyclegan", mean_dice=0.0)]).to_csv(
        tiny_run.folder / "fidelity/images.csv", index=False
    )
    return tiny_run


def test_images_that_do_not_follow_their_map_are_left_out(scored_run):
    run = with_threshold(scored_run, 0.7)
    frames = load_frames(run, find_row("sdm_all"), "fit", "cpu")
    assert (len(frames.names), frames.left_out) == (8, 8)
    assert all(name.endswith("_0") for name in frames.names)
    frames = load_frames(run, find_row("sdm_and_real"), "fit", "cpu")
    assert (len(frames.names), frames.left_out) == (8 + 8, 8)
    assert load_frames(scored_run, find_row("sdm_all"), "fit", "cpu").left_out == 0
    faithful = load_frames(scored_run, find_row("sdm_all_faithful"), "fit", "cpu")
    assert (len(faithful.names), faithful.left_out) == (8, 8)


def test_scores_of_further_images_lie_in_a_file_of_their_own(scored_run):
    path = scored_run.folder / "fidelity/images.csv"
    scores = pandas.read_csv(path)
    scores.iloc[:4].to_csv(path, index=False)
    scores.iloc[4:].to_csv(path.with_name("also.csv"), index=False)
    frames = load_frames(with_threshold(scored_run, 0.7), find_row("sdm_all"), "fit", "cpu")
    assert (len(frames.names), frames.left_out) == (8, 8)


def test_a_row_may_see_one_map_of_each_frame(tiny_run, generate):
    generate(tiny_run, "synthetic")
    every = load_frames(tiny_run, find_row("sdm_all"), "fit", "cpu").names
    some = load_frames(tiny_run, find_row("sdm_all_one_map"), "fit", "cpu").names
    assert set(some) == {name for name in every if name.endswith("_0")}
    assert 0 < len(some) < len(every)


def test_a_clipped_rows_images_are_black_outside_the_sector_of_their_maps(tiny_run, generate):
    generate(tiny_run, "synthetic")
    index = read_index(tiny_run.folder, "synthetic")
    for path in index["label_map"].unique():
        label_map = np.array(Image.open(tiny_run.folder / path))
        label_map[:, :8] = SDM_OUTSIDE
        Image.fromarray(label_map).save(tiny_run.folder / path)
    plain = load_frames(tiny_run, find_row("sdm_all"), "fit", "cpu")
    clipped = load_frames(tiny_run, find_row("sdm_all_clipped"), "fit", "cpu")
    assert clipped.names == plain.names
    index = index.set_index("name").loc[list(plain.names)].reset_index()
    outside = load_pairs(tiny_run.folder, index).label_maps[:, None] == SDM_OUTSIDE
    assert plain.images[outside].any()
    assert not clipped.images[outside].any()
    assert torch.equal(clipped.images[~outside], plain.images[~outside])


def test_a_threshold_that_nothing_reaches_or_pairs_without_a_score_are_refused(scored_run):
    row = find_row("sdm_all")
    with pytest.raises(StageError, match=r"none of 16 .* the best has 0.900: lower it"):
        load_frames(with_threshold(scored_run, 0.95), row, "fit", "cpu")
    path = scored_run.folder / "fidelity/images.csv"
    pandas.read_csv(path).iloc[1:].to_csv(path, index=False)
    with pytest.raises(StageError, match=r"no score of 1 synthetic pairs \(patient0001_4CH_ED_0"):
        load_frames(with_threshold(scored_run, 0.7), row, "fit", "cpu")


def test_an_epoch_is_one_pass_where_the_number_of_images_is_left_open():
    places, passes = draw_epoch(7, 0, 3, key=(0,))
    assert sorted(places.tolist()) == list(range(7))
    assert passes.tolist() == [3] * 7


@pytest.mark.parametrize("size", [3, 10, 25])
def test_over_epochs_every_pair_is_seen_equally_often(size):
    drawn = [draw_epoch(10, size, epoch, key=(0,)) for epoch in range(1, 9)]
    seen = np.zeros(10, int)
    for places, _ in drawn:
        assert len(places) == size
        np.add.at(seen, places, 1)
        assert seen.max() - seen.min() <= 1
    # Within a pass nothing comes twice, so that no pair is transformed twice alike.
    both = [pair for places, passes in drawn for pair in zip(passes, places, strict=True)]
    assert len(set(both)) == len(both) == 8 * size


@pytest.mark.parametrize("together", [1, 3 * 32 * 32, 2**18])
def test_batches_are_the_same_however_many_are_transformed_together(
    tiny_run, monkeypatch, together
):
    frames = load_frames(tiny_run, find_row("real_all"), "fit", "cpu")
    places = torch.tensor([5, 0, 7, 7, 2, 1, 3])
    drawn = draw_batch(tiny_run.profile.segmentation, [(n,) for n in places.tolist()], key=(0,))
    expected = apply(
        frames.images[places], frames.label_maps[places], drawn, normalisation=(0.3, 0.2)
    )
    monkeypatch.setattr(frames_module, "TRANSFORMED_TOGETHER", together)
    batches = list(
        frames_module.transformed_batches(frames, places, drawn, 3, normalisation=(0.3, 0.2))
    )
    assert [len(images) for images, _ in batches] == [3, 3, 1]
    for found, whole in zip(zip(*batches, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(found), whole)


def test_passes_are_in_orders_of_their_own():
    orders = [draw_epoch(50, 0, epoch, key=(0,))[0].tolist() for epoch in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    whole = draw_epoch(50, 100, 1, key=(0,))[0].tolist()
    assert whole == orders[0] + orders[2]
