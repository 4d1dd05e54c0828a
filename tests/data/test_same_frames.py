"""One patient under two numbers, in two formats and at two sizes."""

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from echo_lib import labels
from echo_lib.data import camus, doctor

FRAMES = [(view, phase) for view in labels.VIEWS for phase in labels.PHASES]


def picture(person, number):
    """A frame of 96 rows x 48 columns: 0.154 mm deep, 0.308 mm wide, as in the first release."""
    noise = np.random.default_rng([person, number]).normal(size=(96, 48))
    smooth = scipy.ndimage.gaussian_filter(noise, (6, 3))
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)


def mask(shape):
    """Ventricle, its wall and the atrium, in a frame of any size."""
    rows, columns = (np.linspace(0, 1, size) for size in shape)
    inside = (np.abs(columns - 0.5) < 0.2)[None]
    found = np.zeros(shape, np.uint8)
    found[inside & (rows < 0.6)[:, None]] = labels.CAMUS_MYOCARDIUM
    found[inside & ((rows > 0.1) & (rows < 0.5))[:, None]] = labels.CAMUS_LV
    found[inside & (rows > 0.7)[:, None]] = labels.CAMUS_LA
    return found


def write_first(root, people):
    """The first release: patient's folder to the person, in full depth, .mhd and .raw."""
    for folder, person in people.items():
        patient = root / folder
        patient.mkdir(parents=True)
        for number, (view, phase) in enumerate(FRAMES):
            image = picture(person, number)
            for array, ending in ((image, ""), (mask(image.shape), "_gt")):
                path = patient / f"{patient.name}_{view}_{phase}{ending}.mhd"
                path.with_suffix(".raw").write_bytes(array.tobytes())
                path.write_text(
                    "ObjectType = Image\nNDims = 3\nElementSpacing = 0.308 0.154 1.54\n"
                    "DimSize = 48 96 1\nElementType = MET_UCHAR\n"
                    f"ElementDataFile = {path.stem}.raw\n"
                )
    return root


def write_current(root, splits):
    """The current release: split to patient to the person, at half the rows, .nii.gz."""
    for split, people in splits.items():
        listed = root / "database_split" / camus.SPLIT_LISTS[split]
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(people))
        for patient, person in people.items():
            for number, (view, phase) in enumerate(FRAMES):
                image = Image.fromarray(picture(person, number))
                image = np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR))
                stem = root / "database_nifti" / patient / f"{patient}_{view}_{phase}"
                camus.write_image(f"{stem}.nii.gz", image, (0.308, 0.308))
                camus.write_image(f"{stem}_gt.nii.gz", mask(image.shape), (0.308, 0.308))
    return root


@pytest.fixture
def first(tmp_path):
    people = {"training/patient0001": 1, "training/patient0051": 51, "testing/patient0001": 101}
    return write_first(tmp_path / "first", people)


def test_a_leak_between_the_two_numberings_is_found(first, tmp_path):
    current = write_current(
        tmp_path / "current",
        {
            "training": {"patient0001": 7, "patient0002": 51},
            "validation": {"patient0003": 101},
        },
    )
    found = doctor.diagnose(current, against=first)
    assert found.kind == "CAMUS, current release"
    assert "12 images compared with 12 of" in found.remarks[-9]
    assert found.remarks[-9].endswith("8 of them are there")
    # Number 1 is another person in either; 2 was 51, both in training; 3 was tested on.
    assert "patient0002_2CH_ED here is patient0051_2CH_ED there" in found.remarks
    assert not any("patient0001_2CH_ED here" in remark for remark in found.remarks)
    assert found.problems == [
        f"patient0003_{view}_{phase} (validation) here is testing_patient0001_{view}_{phase} "
        "(test) there: never train on one and test on the other"
        for view, phase in FRAMES
    ]
    assert not found.usable


def test_renumbered_patients_of_equal_splits_are_no_leak(first, tmp_path):
    current = write_current(
        tmp_path / "current", {"training": {"patient0009": 51}, "validation": {"patient0008": 1}}
    )
    found = doctor.diagnose(first, against=current)
    assert found.usable
    assert "patient0051_4CH_ES here is patient0009_4CH_ES there" in found.remarks


def test_a_black_frame_is_like_no_other(tmp_path):
    root = write_current(
        tmp_path / "a", {"training": {"patient0001": 1}, "validation": {"patient0002": 2}}
    )
    black = np.zeros((48, 48), np.uint8)
    camus.write_image(
        root / "database_nifti/patient0001/patient0001_2CH_ED.nii.gz", black, (0.308, 0.308)
    )
    found = doctor.diagnose(root, against=root)
    assert any(remark.endswith("7 of them are there") for remark in found.remarks)


def test_what_is_not_camus_is_said_not_compared(first, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "FileList.csv").write_text("FileName\n")
    for path, against, wrong in ((first, other, other), (other, first, other)):
        with pytest.raises(SystemExit) as status:
            doctor.main([str(path), "--against", str(against)])
        assert status.value.code == 1
        said = capsys.readouterr().out
        assert f"not compared with {against}: {wrong}: neither CAMUS release found" in said
    found = doctor.diagnose(first, against=tmp_path / "absent")
    assert "no such folder" in found.problems[0]
