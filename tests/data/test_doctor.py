import shlex
import subprocess

import numpy as np
import pytest

from echo_lib import labels
from echo_lib.config import load_profile
from echo_lib.data import camus, doctor, heart_shapes, meshes

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
    assert found.next_command == f"make figures PROFILE=reduced-cpu DATA_ROOT={tmp_path}"
    assert any("with a GPU take PROFILE=reduced" in remark for remark in found.remarks)
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


def test_the_first_release_is_examined(tmp_path):
    for patient in ("training/patient0001", "training/patient0051", "testing/patient0001"):
        write_first_patient(tmp_path / patient, seed=len(patient) + int(patient[-4:]))
    found = doctor.diagnose(tmp_path)
    assert found.kind == "CAMUS, first release"
    assert found.usable
    for split in labels.SPLITS:
        assert found.tables["Frames"].loc[split].tolist() == [1, 1, 1, 1]
        assert found.tables["Patients"].loc[split, "patients"] == 1
    ranges = found.tables["Sizes, spacing, grey values"]["median"]
    assert ranges[["rows (px)", "columns (px)"]].tolist() == [40, 24]
    assert ranges[["row spacing (mm)", "column spacing (mm)"]].tolist() == [0.15, 0.31]
    assert not any("no test split" in remark for remark in found.remarks)
    raw = tmp_path / "testing" / "patient0001" / "patient0001_4CH_ES.raw"
    raw.write_bytes(raw.read_bytes()[:-1])
    (problem,) = doctor.diagnose(tmp_path).problems
    assert "patient0001_4CH_ES.raw: 959 bytes" in problem


def write_first_patient(folder, *, seed):
    """Four frames of 40 x 24 px, all different, as the first release stores them."""
    mask = np.zeros((40, 24), dtype=np.uint8)
    mask[6:24, 5:19] = labels.CAMUS_MYOCARDIUM
    mask[9:24, 8:16] = labels.CAMUS_LV
    mask[24:34, 7:17] = labels.CAMUS_LA
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for view, phase in ((v, p) for v in labels.VIEWS for p in labels.PHASES):
        image = rng.integers(1, 200, size=mask.shape, dtype=np.uint8)
        for array, ending in ((image, ""), (mask, "_gt")):
            path = folder / f"{folder.name}_{view}_{phase}{ending}.mhd"
            path.with_suffix(".raw").write_bytes(array.tobytes())
            path.write_text(
                "ObjectType = Image\nNDims = 3\nElementSpacing = 0.308 0.154 1.54\n"
                "DimSize = 24 40 1\nElementType = MET_UCHAR\n"
                f"ElementDataFile = {path.stem}.raw\n"
            )


def test_a_release_without_training_patients_is_not_usable(tmp_path):
    found = doctor.diagnose(write_release(tmp_path, {"validation": ("patient0001",)}))
    assert not found.usable
    assert found.problems == [f"{tmp_path}: no training split, which every profile needs"]


def test_a_path_with_a_space_is_quoted(tmp_path):
    found = doctor.diagnose(write_release(tmp_path / "my data"))
    assert shlex.split(found.next_command)[3] == f"DATA_ROOT={tmp_path / 'my data'}"
    said = subprocess.run(
        f"sh -c 'echo \"$3\"' - {found.next_command.removeprefix('make ')}",
        shell=True, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == f"DATA_ROOT={tmp_path / 'my data'}\n"


def test_two_releases_in_one_folder_are_refused(tmp_path):
    write_release(tmp_path)
    (tmp_path / "training" / "patient0001").mkdir(parents=True)
    found = doctor.diagnose(tmp_path)
    assert not found.usable
    assert "both CAMUS releases" in found.problems[0]


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
    assert (
        f"Next: make figures PROFILE=reduced-cpu DATA_ROOT={tmp_path}\n" in capsys.readouterr().out
    )
