import csv

import numpy as np
import pytest
from PIL import Image

from echo_lib import labels
from echo_lib.config import load_profile
from echo_lib.data import camus, doctor, echonet, heart_shapes, meshes
from echo_lib.provenance import write_json

SPLIT_PATIENTS = {"training": ("patient0003", "patient0004"), "validation": ("patient0001",)}


def write_release(root, splits=SPLIT_PATIENTS, *, seed=0):
    """A current release with frames of 40 x 24 px, all different."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 24), dtype=np.uint8)
    mask[6:24, 5:19] = labels.CAMUS_MYOCARDIUM
    mask[9:24, 8:16] = labels.CAMUS_LV
    mask[24:34, 7:17] = labels.CAMUS_LA
    for split, patients in splits.items():
        path = root / "database_split" / camus.SPLIT_LISTS[split]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(patients))
        for patient in patients:
            folder = root / "database_nifti" / patient
            for view, phase in ((v, p) for v in labels.VIEWS for p in labels.PHASES):
                image = rng.integers(1, 200, size=mask.shape, dtype=np.uint8)
                stem = folder / f"{patient}_{view}_{phase}"
                camus.write_image(f"{stem}.nii.gz", image, (0.3, 0.2))
                camus.write_image(f"{stem}_gt.nii.gz", mask, (0.3, 0.2))
    return root


def copy_image(root, source, target):
    """Give the frame ``target`` the image of ``source``."""
    source, target = (
        root / "database_nifti" / name.split("_")[0] / f"{name}.nii.gz" for name in (source, target)
    )
    target.write_bytes(source.read_bytes())


def test_a_sound_release_is_counted_and_usable(tmp_path):
    found = doctor.diagnose(write_release(tmp_path))
    assert found.kind == "CAMUS, current release"
    assert found.usable
    assert found.tables["Frames"].loc["training"].tolist() == [2, 2, 2, 2]
    assert found.tables["Frames"].loc["validation"].tolist() == [1, 1, 1, 1]
    ranges = found.tables["Sizes, spacing, grey values"]
    assert ranges.loc["rows (px)"].tolist() == [40, 40, 40]
    assert ranges.loc["row spacing (mm)", "median"] == 0.3
    assert ranges.loc["LV cavity (%)", "max"] == pytest.approx(100 * 15 * 8 / 960, abs=0.01)
    assert found.next_command == f"make figures PROFILE=reduced DATA_ROOT={tmp_path}"
    assert any("no test split" in remark for remark in found.remarks)


def test_one_image_in_two_splits_is_a_leak(tmp_path):
    write_release(tmp_path)
    copy_image(tmp_path, "patient0003_2CH_ED", "patient0001_4CH_ES")
    found = doctor.diagnose(tmp_path)
    assert not found.usable
    (problem,) = found.problems
    assert "patient0003_2CH_ED (training)" in problem
    assert "patient0001_4CH_ES (validation)" in problem


def test_one_image_under_two_names_of_a_split_is_a_remark(tmp_path):
    write_release(tmp_path)
    copy_image(tmp_path, "patient0003_2CH_ED", "patient0004_2CH_ED")
    found = doctor.diagnose(tmp_path)
    assert found.usable
    assert any("one image under several names" in remark for remark in found.remarks)


def test_every_fault_is_listed_not_the_first_alone(tmp_path):
    write_release(tmp_path)
    folder = tmp_path / "database_nifti"
    (folder / "patient0003" / "patient0003_2CH_ED_gt.nii.gz").unlink()
    (folder / "patient0001" / "patient0001_4CH_ES.nii.gz").write_bytes(b"\x1f\x8bcut")
    found = doctor.diagnose(tmp_path)
    assert len(found.problems) == 2
    assert "patient0003_2CH_ED_gt.nii.gz: no such file" in found.problems[0]
    assert "patient0001_4CH_ES.nii.gz" in found.problems[1]


def test_renumbered_patients_of_another_folder_are_found(tmp_path):
    ours = write_release(tmp_path / "ours")
    theirs = write_release(
        tmp_path / "theirs",
        {"training": ("patient0007", "patient0008"), "validation": ("patient0009",)},
    )
    found = doctor.diagnose(ours, against=theirs)
    assert found.usable
    assert any("patient0003_2CH_ED here is patient0007_2CH_ED there" in r for r in found.remarks)
    leaking = write_release(
        tmp_path / "leaking", {"validation": ("patient0007",), "training": ("patient0008",)}
    )
    found = doctor.diagnose(ours, against=leaking)
    assert "patient0003_2CH_ED (training) here is patient0007_2CH_ED (validation)" in " ".join(
        found.problems
    )


def test_two_releases_in_one_folder_are_refused(tmp_path):
    write_release(tmp_path)
    (tmp_path / "training" / "patient0001").mkdir(parents=True)
    found = doctor.diagnose(tmp_path)
    assert not found.usable
    assert "both CAMUS releases" in found.problems[0]


def test_echonet_with_missing_videos(tmp_path):
    lines = [("0XA", 60, 40, 100, 112, 112, 30, 6, "TEST"), ("0XB", 60, 40, 9, 9, 9, 9, 9, "VAL")]
    for name, header, rows in (
        ("FileList.csv", echonet.FILE_LIST, lines),
        ("VolumeTracings.csv", echonet.TRACINGS, []),
    ):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    found = doctor.diagnose(tmp_path)
    assert found.kind == "EchoNet-Dynamic"
    assert found.tables["Videos"].loc["TEST"].tolist() == [1, 0, 1]
    assert "Videos/0XA.avi: missing; download it again" in found.problems


def test_a_run_with_an_altered_file(tmp_path):
    folder = tmp_path / "demo" / "prepared"
    folder.mkdir(parents=True)
    (folder / "frames.csv").write_text("altered")
    manifest = {"stage": "prepared", "profile": "demo", "seed": 0, "finished": "2000-01-01"}
    write_json(folder / "manifest.json", manifest | {"outputs": {"frames.csv": "0" * 64}})
    found = doctor.diagnose(tmp_path / "demo")
    assert found.kind == "a run of echo_lib"
    assert "frames.csv: altered since stage 'prepared' finished" in found.problems[0]


def test_heart_meshes_are_read_one_by_one(tmp_path):
    shape = heart_shapes.mean_shape()
    labels = load_profile("demo").cyclegan.meshes.labels
    points, cells, tissue = heart_shapes.build(shape, labels)
    meshes.write_mesh(tmp_path / "heart_1.vtk", points, cells, tissue)
    found = doctor.diagnose(tmp_path)
    assert found.kind == "heart meshes"
    assert found.usable
    assert found.tables["Meshes"].loc["mm", "hearts"] == 1
    (tmp_path / "heart_2.vtk").write_text("no mesh")
    found = doctor.diagnose(tmp_path)
    assert not found.usable
    assert "heart_2.vtk" in found.problems[0]


def test_the_released_archive_is_counted_and_its_numbering_told(tmp_path):
    root = tmp_path / "SDM_generated_data" / "4_chamber_end_diastole"
    map_ = np.zeros((32, 32), dtype=np.uint8)
    map_[4:28, 4:28] = 1
    map_[8:20, 8:20] = 2
    map_[20:26, 8:20] = 3
    for split, name in (("training", "patient0051"), ("validation", "patient0001")):
        for folder, array in (("images", map_ * 60), ("annotations", map_)):
            path = root / folder / split / f"{name}_4CH_ED_{split}_0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(array).save(path)
    found = doctor.diagnose(tmp_path)
    assert found.kind == "the released archive of synthetic images"
    assert any("first release" in remark for remark in found.remarks)
    (root / "annotations/training/patient0051_4CH_ED_training_0.png").unlink()
    assert "without a partner" in doctor.diagnose(tmp_path).problems[0]


@pytest.mark.parametrize("make", [False, True], ids=["absent", "empty"])
def test_nothing_known(tmp_path, make, capsys):
    folder = tmp_path / "folder"
    if make:
        folder.mkdir()
    with pytest.raises(SystemExit) as status:
        doctor.main([str(folder)])
    assert status.value.code == 1
    printed = capsys.readouterr().out
    assert ("holds none of what is known here" if make else "no such folder") in printed
    assert "Not usable" in printed


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    with pytest.raises(SystemExit) as status:
        doctor.main([str(write_release(tmp_path))])
    assert status.value.code == 0
    assert f"Next: make figures PROFILE=reduced DATA_ROOT={tmp_path}" in capsys.readouterr().out
