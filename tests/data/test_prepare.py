import argparse
import hashlib
import json
import os
import sys
import types
import warnings

import numpy as np
import pytest
from PIL import Image

from echo_lib import cli, labels, provenance
from echo_lib.config import load_profile
from echo_lib.data import augment, camus, datasets, prepare

SETTINGS = {
    "data.source": "camus",
    "data.training_patients": 0,
    "data.validation_patients": 0,
    "data.test_patients": 0,
    "data.evaluation_split": "validation",
    "data.image_size_px": 32,
    "data.workers": 1,
    "augmentation.maps_per_frame": 2,
}


def sector_image(seed, shape=(48, 40)):
    """A bright wedge that opens downwards, and a mask within it."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    wedge = np.abs(columns - shape[1] / 2 + 0.5) < 2 + 0.45 * rows
    noise = np.random.default_rng(seed).integers(1, 255, size=shape)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[14:30, 12:28] = labels.CAMUS_MYOCARDIUM
    mask[18:30, 16:24] = labels.CAMUS_LV
    mask[30:42, 14:26] = labels.CAMUS_LA
    return np.where(wedge, noise, 0).astype(np.uint8), mask


def write_release(root, counts):
    """A current release of tiny frames, written by the patient."""
    numbers = iter(range(1, 100))
    (root / "database_split").mkdir(parents=True)
    for split, count in counts.items():
        patients = [f"patient{next(numbers):04d}" for _ in range(count)]
        (root / "database_split" / camus.SPLIT_LISTS[split]).write_text("\n".join(patients) + "\n")
        for patient in patients:
            write_patient(root / "database_nifti" / patient)


def write_patient(folder):
    for number, (view, phase) in enumerate((v, p) for v in labels.VIEWS for p in labels.PHASES):
        image, mask = sector_image(int(folder.name[-4:]) * 4 + number)
        stem = f"{folder.name}_{view}_{phase}"
        camus.write_image(folder / f"{stem}.nii.gz", image, (0.2, 0.3))
        camus.write_image(folder / f"{stem}_gt.nii.gz", mask, (0.2, 0.3))


@pytest.fixture
def root(tmp_path):
    write_release(tmp_path / "camus", {"training": 2, "validation": 1})
    return tmp_path / "camus"


def make_run(root, where="runs", seed=0, **changes):
    settings = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return provenance.Run(load_profile("paper", settings), seed, root, root.parent / where)


def written(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".png", ".csv")]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def test_counts_and_columns(root):
    run = make_run(root)
    manifest = prepare.prepare(run)
    frames, maps = (datasets.read_index(run.folder, kind) for kind in ("real", "maps"))
    assert tuple(frames.columns) == prepare.FRAME_COLUMNS
    assert tuple(maps.columns) == prepare.MAP_COLUMNS
    assert frames.groupby("split").size().to_dict() == {"training": 8, "validation": 4}
    assert maps.groupby("split").size().to_dict() == {"training": 16, "validation": 8}
    assert manifest["facts"]["frames"]["training"]["4CH_ES"] == 2
    assert manifest["facts"]["maps"]["validation"]["2CH_ED"] == 2
    first = frames.iloc[0]
    assert first["image"] == "prepared/real/training/2CH_ED/images/patient0001_2CH_ED.png"
    assert (first["rows_px"], first["columns_px"]) == (48, 40)
    assert first["row_spacing_mm"] == pytest.approx(0.2)
    assert first["column_spacing_mm"] == pytest.approx(0.3)


def test_files_hold_images_and_sdm_ids(root):
    run = make_run(root)
    prepare.prepare(run)
    frames = datasets.read_index(run.folder, "real")
    pairs = datasets.load_pairs(run.folder, frames)
    assert pairs.images.shape == (12, 1, 32, 32)
    assert set(np.unique(pairs.label_maps)) == set(range(5))
    image, mask = sector_image(4)
    expected = prepare.resize_label_map(mask, 32)
    np.testing.assert_array_equal(labels.remove_sector(pairs.label_maps[0].numpy()), expected)
    np.testing.assert_array_equal(pairs.images[0, 0].numpy(), prepare.resize_image(image, 32))


def test_augmented_maps_replay_from_their_stored_parameters(root):
    run = make_run(root)
    prepare.prepare(run)
    row = datasets.read_index(run.folder, "maps").iloc[3]
    assert (row["name"], row["source"]) == ("patient0001_2CH_ES_1", "patient0001_2CH_ES")
    image, mask = sector_image(5)
    sector = prepare.resize_label_map(prepare.sector_mask(image).astype(np.uint8), 32) > 0
    replayed = augment.apply(
        prepare.resize_label_map(mask, 32), json.loads(row["parameters"]), sector=sector
    )
    np.testing.assert_array_equal(np.asarray(Image.open(run.folder / row["label_map"])), replayed)


def test_equal_bytes_whatever_the_number_of_workers(root, monkeypatch):
    monkeypatch.setattr(prepare, "_FRAMES_PER_WORKER", 1)
    one, two = make_run(root, "one"), make_run(root, "two", data__workers=2)
    manifests = [prepare.prepare(run) for run in (one, two)]
    assert written(one.folder) == written(two.folder)
    assert manifests[0]["outputs_digest"] == manifests[1]["outputs_digest"]


def test_a_finished_stage_is_kept_also_with_other_workers(root, monkeypatch):
    first = prepare.prepare(make_run(root))
    monkeypatch.setattr(prepare, "_prepare_frame", None)
    again = prepare.prepare(make_run(root, data__workers=4))
    assert again["finished"] == first["finished"]
    assert again["outputs"] == first["outputs"]


def test_a_stopped_stage_keeps_what_it_made(root):
    run = make_run(root)
    prepare.prepare(run)
    before = written(run.folder)
    (run.folder / "prepared/manifest.json").unlink()
    kept = run.folder / "prepared/maps/training/2CH_ED/patient0001_2CH_ED_0.png"
    lost = kept.with_name("patient0001_2CH_ED_1.png")
    lost.unlink()
    stamp = kept.stat().st_mtime_ns
    prepare.prepare(run)
    assert kept.stat().st_mtime_ns == stamp
    assert written(run.folder) == before


def test_changed_raw_data_are_prepared_again(root):
    run = make_run(root)
    first = prepare.prepare(run)
    frame = camus.frames(camus.open_release(root), "training")[0]
    camus.write_image(frame.image_path, sector_image(99)[0], (0.2, 0.3))
    assert prepare.prepare(run)["outputs_digest"] != first["outputs_digest"]
    assert list(run.folder.glob("prepared.superseded-*"))


def test_another_seed_draws_other_maps_of_the_same_frames(root):
    runs = [make_run(root, f"seed{seed}", seed=seed) for seed in (0, 1)]
    for run in runs:
        prepare.prepare(run)
    first, second = (written(run.folder) for run in runs)
    real = [name for name in first if "/real/" in name]
    maps = [name for name in first if "/maps/" in name]
    assert all(first[name] == second[name] for name in real)
    assert sum(first[name] != second[name] for name in maps) == len(maps)


def test_the_test_split_is_read_only_where_it_is_evaluated(root):
    (root / "database_split/subgroup_testing.txt").write_text("patient0009\n")
    prepare.prepare(make_run(root))
    with pytest.raises(camus.CamusFileMissing, match="patient0009"):
        prepare.prepare(make_run(root, data__evaluation_split="test"))
    write_patient(root / "database_nifti/patient0009")
    run = make_run(root, data__evaluation_split="test")
    manifest = prepare.prepare(run)
    assert sum(manifest["facts"]["frames"]["test"].values()) == 4
    assert "test" not in manifest["facts"]["maps"]


def test_limits_take_the_first_patients(root):
    run = make_run(root, data__training_patients=1)
    prepare.prepare(run)
    frames = datasets.read_index(run.folder, "real")
    assert set(frames.loc[frames["split"] == "training", "patient"]) == {"patient0001"}


def test_duplicate_images_are_warned_of(root):
    frames = camus.frames(camus.open_release(root), "training")
    frames[4].image_path.write_bytes(frames[0].image_path.read_bytes())
    with pytest.warns(UserWarning, match=r"patient0001_2CH_ED \(training\) = patient0002_2CH_ED"):
        manifest = prepare.prepare(make_run(root))
    assert len(manifest["facts"]["duplicate_images"]) == 1


def test_no_warning_without_duplicates(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare.prepare(make_run(root))


def test_missing_data_root_says_where_to_get_camus(root):
    run = make_run(root)
    run = provenance.Run(run.profile, 0, None, run.run_root)
    with pytest.raises(camus.CamusError, match=r"data_root.*humanheart-project\.creatis"):
        prepare.prepare(run)


def test_sector_mask_ignores_specks_and_fills_holes():
    image, _ = sector_image(0)
    expected = image > 0
    image[20:24, 18:22] = 0  # black blood
    image[2, 3] = image[5, 37] = 4  # specks of compression
    image[0:2, 0:2] = 9
    np.testing.assert_array_equal(prepare.sector_mask(image), expected)


def test_sector_mask_of_a_black_image():
    with pytest.raises(ValueError, match="no sector"):
        prepare.sector_mask(np.zeros((8, 8), dtype=np.uint8))


def test_phantoms_go_through_a_cohort_of_their_own(root, monkeypatch):
    asked = {}

    def write_cohort(folder, *, training, validation, test, seed, workers):
        asked.update(training=training, validation=validation, test=test, seed=seed)
        write_release(folder, {"training": training, "validation": validation})

    stand_in = types.ModuleType("echo_lib.data.phantom")
    stand_in.write_cohort = write_cohort
    monkeypatch.setitem(sys.modules, "echo_lib.data.phantom", stand_in)
    monkeypatch.setattr("echo_lib.data.phantom", stand_in, raising=False)
    counts = {"data__training_patients": 2, "data__validation_patients": 1}
    run = make_run(root, data__source="phantom", seed=3, **counts)
    manifest = prepare.prepare(run)
    assert asked == {"training": 2, "validation": 1, "test": 0, "seed": 3}
    cohort = provenance.require(run, "cohort")
    assert manifest["inputs"] == {"cohort": cohort["outputs_digest"]}
    assert "database_split/subgroup_training.txt" in cohort["outputs"]
    asked.clear()
    assert prepare.prepare(run)["finished"] == manifest["finished"]
    assert asked == {}
    with pytest.raises(ValueError, match="phantoms have no 'all'"):
        prepare.prepare(make_run(root, data__source="phantom"))


def test_command_line(root, capsys):
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    where = ["--data-root", str(root), "--run-root", str(root.parent / "runs")]
    prepare.main(["--profile", "paper", "--seed", "0", *where, *settings])
    assert "prepared: 12/12 frames" in capsys.readouterr().out
    run = make_run(root)
    assert provenance.require(run, "prepared")["seed"] == 0


def test_arguments_name_a_run(tmp_path):
    parser = argparse.ArgumentParser()
    cli.add_run_arguments(parser)
    args = ["--profile", "paper", "--seed", "7", "--run-root", str(tmp_path)]
    run = cli.run_from(parser.parse_args([*args, "--set", "sdm.training.steps=10"]))
    assert (run.seed, run.data_root, run.folder) == (7, None, tmp_path / "paper")
    assert run.profile.sdm.training.steps == 10


def test_real_camus(tmp_path):
    data_root = os.environ.get("ECHO_CAMUS_ROOT")
    if not data_root:
        pytest.skip("ECHO_CAMUS_ROOT is not set: no CAMUS data to read")
    limits = {"data.training_patients": 1, "data.validation_patients": 1}
    profile = load_profile("paper", {**SETTINGS, **limits, "data.image_size_px": 64})
    run = provenance.Run(profile, 0, data_root, tmp_path)
    prepare.prepare(run)
    pairs = datasets.load_pairs(run.folder, datasets.read_index(run.folder, "real"))
    # An apical sector covers about half of the frame.
    covered = (pairs.label_maps != labels.SDM_OUTSIDE).float().mean(dim=(1, 2))
    assert ((covered > 0.4) & (covered < 0.7)).all()
