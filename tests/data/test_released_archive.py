import dataclasses

import numpy as np
import pandas
import pytest
from PIL import Image

from echo_lib import labels
from echo_lib.config import load_profile
from echo_lib.data import released_archive
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.data.released_archive import (
    CAMUS_MAPS,
    COMBINED,
    DATASETS,
    SECTOR_MAPS,
    ArchiveError,
    import_archive,
    kind_of_map,
)
from echo_lib.provenance import Run, Stage, require

SIZE = 64


def heart(seed, *, atrium=True):
    """A cavity in its wall over an atrium, CAMUS ids, and the sector around it."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    column = generator.uniform(26, 38)
    distance = np.hypot(y - 24, x - column)
    camus_map = np.zeros((SIZE, SIZE), np.uint8)
    camus_map[distance < 14] = labels.CAMUS_MYOCARDIUM
    camus_map[distance < 9] = labels.CAMUS_LV
    if atrium:
        camus_map[np.hypot(y - 42, x - column) < 7] = labels.CAMUS_LA
    return camus_map, np.abs(x - SIZE / 2) < y / 2 + 16


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_pair(root, dataset, split, name, *, kind, seed, atrium=True):
    camus_map, sector = heart(seed, atrium=atrium)
    sector_map = labels.add_sector(camus_map, sector)
    image = np.array([0, 30, 80, 190, 50], np.uint8)[sector_map]
    save(root / dataset / "images" / split / f"{name}.png", image)
    chosen = {CAMUS_MAPS: camus_map, SECTOR_MAPS: sector_map}[kind]
    save(root / dataset / "annotations" / split / f"{name}.png", chosen)
    if dataset == COMBINED:
        save(root / COMBINED / "sector_annotations" / split / f"{name}.png", sector_map)


def write_archive(root, *, combined=CAMUS_MAPS, single=SECTOR_MAPS):
    """Six patients in the archive's layout: four for training, two for validation."""
    seed = 0
    for dataset, (view, phase) in DATASETS.items():
        for number in range(1, 7):
            split = "training" if number > 2 else "validation"
            name = f"patient{number:04d}_{view}_{phase}_{split}_0"
            if single:
                write_pair(root, dataset, split, name, kind=single, seed=seed, atrium=number != 5)
            if combined:
                write_pair(root, COMBINED, split, name, kind=combined, seed=seed)
            seed += 1
    return root


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "SDM_generated_data")


@pytest.fixture
def run(tmp_path):
    overrides = {"name": "tiny", "data.image_size_px": 32}
    return Run(load_profile("paper", overrides), 0, None, tmp_path / "runs")


def quietly(archive, run):
    with pytest.warns(UserWarning, match="numbered as in the first release"):
        return import_archive(archive, run)


def test_the_archive_becomes_the_stage_synthetic(archive, run):
    manifest = quietly(archive.parent, run)
    assert require(run, "synthetic") == manifest
    assert manifest["extra"]["origin"] == "released data archive"
    index = read_index(run.folder, "synthetic")
    assert index["split"].value_counts().to_dict() == {"training": 16, "validation": 8}
    assert manifest["facts"]["counts"]["training 4CH ES"] == 4
    assert set(manifest["facts"]["label_maps"].values()) == {SECTOR_MAPS}
    pairs = load_pairs(run.folder, index)
    assert pairs.images.shape == (24, 1, 32, 32)
    assert set(np.unique(pairs.label_maps)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("single", "combined"),
    [(None, CAMUS_MAPS), (CAMUS_MAPS, None), (SECTOR_MAPS, None), (None, SECTOR_MAPS)],
)
def test_whatever_the_kind_the_networks_see_the_same_structures(tmp_path, run, single, combined):
    run = dataclasses.replace(run, profile=load_profile("paper", {"data.image_size_px": SIZE}))
    quietly(write_archive(tmp_path / "data", single=single, combined=combined), run)
    index = read_index(run.folder, "synthetic")
    pairs = load_pairs(run.folder, index[index["name"] == "patient0003_2CH_ED_training_0"])
    camus_map, sector = heart(2)
    np.testing.assert_array_equal(labels.remove_sector(pairs.label_maps[0].numpy()), camus_map)
    if combined or single == SECTOR_MAPS:  # else the archive holds no sector
        np.testing.assert_array_equal(pairs.label_maps[0] > 0, sector | (camus_map > 0))


def test_five_classes_are_known_from_four_by_the_wall():
    for atrium in (True, False):
        camus_map, sector = heart(0, atrium=atrium)
        assert kind_of_map(camus_map, "a") == CAMUS_MAPS
        assert kind_of_map(labels.add_sector(camus_map, sector), "b") == SECTOR_MAPS
    assert kind_of_map(np.zeros((4, 4), np.uint8), "c") is None
    with pytest.raises(ArchiveError, match=r"d: label values \[0, 85, 170\].* is it an image"):
        kind_of_map(np.array([[0, 85, 170]], np.uint8), "d")


def test_a_dataset_of_both_kinds_is_refused_and_the_earlier_result_stays(archive, run):
    before = quietly(archive, run)
    name = "patient0004_4CH_ED_training_0"
    write_pair(archive, "4_chamber_end_diastole", "training", name, kind=CAMUS_MAPS, seed=1)
    with pytest.raises(ArchiveError, match=rf"4_chamber_end_diastole: .*{name}.png has 4 classes"):
        import_archive(archive, run)
    assert require(run, "synthetic") == before


def test_an_annotation_without_an_image_is_named(archive, run):
    (archive / "2_chamber_end_systole/images/training/patient0003_2CH_ES_training_0.png").unlink()
    with pytest.raises(
        ArchiveError, match=r"1 training files .*annotations/training/patient0003_2"
    ):
        import_archive(archive, run)


def test_a_name_in_the_wrong_folder_is_refused(archive, run):
    write_pair(archive, "2_chamber_end_diastole", "training", "patient0009_4CH_ED_training_0",
               kind=SECTOR_MAPS, seed=0)  # fmt: skip
    with pytest.raises(ArchiveError, match="its name says 4CH ED training, its folder 2_chamber"):
        import_archive(archive, run)


def test_a_name_without_its_split_is_taken_and_another_pattern_is_not(archive, run):
    folder = "2_chamber_end_diastole"
    write_pair(archive, folder, "training", "patient0009_2CH_ED_3", kind=SECTOR_MAPS, seed=0)
    assert quietly(archive, run)["facts"]["images"] == 25
    write_pair(archive, folder, "training", "image_7", kind=SECTOR_MAPS, seed=0)
    with pytest.raises(ArchiveError, match="expected a name like patient0001_2CH_ED_training_0"):
        import_archive(archive, run)


def test_an_import_that_was_killed_goes_on_and_a_finished_one_returns_at_once(
    archive, run, monkeypatch
):
    read, calls = released_archive._read, []

    def die_later(*args):
        calls.append(args)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return read(*args)

    monkeypatch.setattr(released_archive, "_read", die_later)
    with pytest.warns(UserWarning, match="number"), pytest.raises(KeyboardInterrupt):
        import_archive(archive, run)
    manifest = quietly(archive, run)
    assert len(calls) == 24 + 1
    assert quietly(archive, run) == manifest
    assert len(calls) == 24 + 1


def test_sampled_images_are_kept_aside(archive, run):
    stage = Stage.open(run, "synthetic", config={})
    stage.finish([])
    quietly(archive, run)
    assert len(list(run.folder.glob("synthetic.superseded-*"))) == 1


def test_another_folder_or_a_run_on_phantoms_is_refused(tmp_path, archive, run):
    with pytest.raises(ArchiveError, match="expected the released archive, unpacked"):
        import_archive(tmp_path / "nothing", run)
    phantoms = dataclasses.replace(run, profile=load_profile("demo"))
    with pytest.raises(ArchiveError, match="runs on phantoms"):
        import_archive(archive, phantoms)


def test_a_patient_of_both_splits_is_warned_of(archive, run):
    write_pair(archive, "2_chamber_end_diastole", "validation", "patient0003_2CH_ED_validation_0",
               kind=SECTOR_MAPS, seed=0)  # fmt: skip
    with pytest.warns(UserWarning, match="number") as warned:
        import_archive(archive, run)
    both = "patients in training and validation of the archive: patient0003"
    assert both in {str(warning.message) for warning in warned}


def test_command_line(archive, tmp_path, capsys):
    arguments = ["--profile", "paper", "--run-root", str(tmp_path / "runs")]
    with pytest.warns(UserWarning, match="numbered"):
        released_archive.main([str(archive), *arguments, "--set", "data.image_size_px=32"])
    printed = capsys.readouterr().out
    assert "synthetic: 24 pairs from the released data archive" in printed
    assert "  2_chamber_end_diastole: label maps of 5 classes with sector" in printed
    assert "  validation 2CH ED: 2" in printed
    pairs = pandas.read_csv(tmp_path / "runs/paper/synthetic/pairs.csv")
    assert pairs.columns.tolist() == released_archive.PAIR_COLUMNS
