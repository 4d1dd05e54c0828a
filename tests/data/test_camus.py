import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from echo_lib import labels
from echo_lib.data import camus

HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1  0  0  0  1  0  0  0  1
CenterOfRotation = 0  0  0
AnatomicalOrientation = RAI
Offset = 0  0  0
ElementSpacing = 0.308       0.154        1.54
DimSize = {columns}  {rows}    1
ElementNumberOfChannels = 1
ElementType = MET_UCHAR
ElementDataFile = {raw}
"""
INFO = "ED: 1\nES: 18\nNbFrame: 18\nSex: F\nAge: 56\nImageQuality: Good\nLVedv: 94.0\n"


def image_and_mask(seed=0):
    """40 rows x 24 columns: a probe at the top, and the atrium below the ventricle."""
    image = np.random.default_rng(seed).integers(1, 200, size=(40, 24), dtype=np.uint8)
    image[:2] = 0
    image[0, 11] = 255
    mask = np.zeros((40, 24), dtype=np.uint8)
    mask[6:24, 5:19] = labels.CAMUS_MYOCARDIUM
    mask[9:24, 8:16] = labels.CAMUS_LV
    mask[24:34, 7:17] = labels.CAMUS_LA
    return image, mask


def write_mhd(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw")
    path.write_text(HEADER.format(rows=array.shape[0], columns=array.shape[1], raw=raw.name))
    raw.write_bytes(array.tobytes())


def write_patient(folder, suffix):
    for number, (view, phase) in enumerate((v, p) for v in labels.VIEWS for p in labels.PHASES):
        image, mask = image_and_mask(number)
        for array, ending in ((image, ""), (mask, "_gt")):
            path = folder / f"{folder.name}_{view}_{phase}{ending}{suffix}"
            if suffix == ".mhd":
                write_mhd(path, array)
            else:
                camus.write_image(path, array, (0.308, 0.308))


@pytest.fixture
def first(tmp_path):
    for folder in ("training/patient0001", "training/patient0051", "testing/patient0001"):
        write_patient(tmp_path / "first" / folder, ".mhd")
    return tmp_path / "first"


@pytest.fixture
def current(tmp_path):
    root = tmp_path / "current"
    for patient in ("patient0001", "patient0002"):
        write_patient(root / "database_nifti" / patient, ".nii.gz")
    write_list(root, "training", ["patient0002"])
    write_list(root, "validation", ["patient0001"])
    return root


def write_list(root, split, patients):
    folder = root / "database_split"
    folder.mkdir(exist_ok=True)
    (folder / f"subgroup_{split}.txt").write_text("".join(f"{p}\n" for p in patients))


def one_frame(root, split="training"):
    release = camus.open_release(root)
    return camus.frames(release, split, views=("4CH",), phases=("ED",))[0]


def replace_mask(frame, mask):
    camus.write_image(frame.label_path, mask, (0.308, 0.308))


def test_first_release_splits_by_folder_and_number(first):
    release = camus.open_release(first)
    assert release.kind == "first"
    assert release.splits == {
        "training": ("patient0051",),
        "validation": ("patient0001",),
        "test": ("testing_patient0001",),
    }


def test_testing_patients_of_the_first_release_do_not_collide(first):
    release = camus.open_release(first)
    validation, test = (camus.frames(release, split)[0] for split in ("validation", "test"))
    assert (validation.name, test.name) == ("patient0001_2CH_ED", "testing_patient0001_2CH_ED")
    assert test.image_path == first / "testing/patient0001/patient0001_2CH_ED.mhd"
    assert validation.image_path != test.image_path


def test_current_release_splits_by_lists(current):
    release = camus.open_release(current)
    assert release.kind == "current"
    assert release.splits == {"training": ("patient0002",), "validation": ("patient0001",)}


@pytest.mark.parametrize("kind", ["first", "current"])
def test_the_folder_above_a_release_is_recognised(kind, request):
    root = request.getfixturevalue(kind)
    assert camus.open_release(root.parent).root == root


def test_both_releases_below_one_folder_are_ambiguous(first, current):
    with pytest.raises(camus.CamusError, match=r"several CAMUS releases found \(current, first\)"):
        camus.open_release(first.parent)


@pytest.mark.parametrize(
    ("kind", "spacing"), [("first", (0.154, 0.308)), ("current", (0.308,) * 2)]
)
def test_arrays_are_depth_by_lateral_with_spacing_of_rows_then_columns(kind, spacing, request):
    frame = one_frame(request.getfixturevalue(kind))
    image, mask, spacing_mm = camus.read_frame(frame)
    expected_image, expected_mask = image_and_mask(2)
    assert image.dtype == mask.dtype == np.uint8
    np.testing.assert_array_equal(image, expected_image)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(spacing_mm, spacing, atol=1e-7)
    assert spacing_mm.dtype == np.float64


def test_nifti_axis_0_is_lateral(tmp_path):
    array = np.zeros((7, 3), dtype=np.uint8)
    camus.write_image(tmp_path / "a.nii.gz", array, (0.2, 0.3))
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    assert image.GetSize() == (3, 7)
    np.testing.assert_allclose(image.GetSpacing(), (0.3, 0.2), atol=1e-7)


def test_nifti_with_a_third_axis_of_one_is_squeezed(tmp_path):
    array = image_and_mask()[0]
    volume = SimpleITK.GetImageFromArray(array[None])
    volume.SetSpacing((0.3, 0.2, 1.5))
    SimpleITK.WriteImage(volume, str(tmp_path / "a.nii.gz"))
    read, spacing_mm = camus.read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read, array)
    np.testing.assert_allclose(spacing_mm, (0.2, 0.3), atol=1e-7)


def test_a_sequence_is_not_a_frame(tmp_path):
    sequence = SimpleITK.GetImageFromArray(np.zeros((4, 6, 5), dtype=np.uint8))
    SimpleITK.WriteImage(sequence, str(tmp_path / "a.nii.gz"))
    with pytest.raises(camus.CamusError, match=r"shape \(4, 6, 5\), expected one frame"):
        camus.read_image(tmp_path / "a.nii.gz")


def test_equal_images_are_written_as_equal_bytes(tmp_path):
    array = image_and_mask()[0]
    for name in ("a", "b"):
        camus.write_image(tmp_path / name / f"{name}.nii.gz", array, (0.308, 0.308))
    written = [(tmp_path / n / f"{n}.nii.gz").read_bytes() for n in ("a", "b")]
    assert written[0] == written[1]
    assert written[0][4:8] == bytes(4)  # gzip's time stamp
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["a.nii.gz"]


def test_info_numbers_are_typed(tmp_path):
    path = tmp_path / "Info_4CH.cfg"
    path.write_text(INFO + "EF: 63\nFrameRate: 47.5\n")
    assert camus.read_info(path) == {
        "ED": 1, "ES": 18, "NbFrame": 18, "Sex": "F", "Age": 56, "ImageQuality": "Good",
        "LVedv": 94.0, "EF": 63, "FrameRate": 47.5,
    }  # fmt: skip
    assert camus.read_info(tmp_path / "Info_2CH.cfg") == {}


def test_info_line_without_colon(tmp_path):
    (tmp_path / "Info_4CH.cfg").write_text("ED 1\n")
    with pytest.raises(camus.CamusError, match="line 1 is 'ED 1'"):
        camus.read_info(tmp_path / "Info_4CH.cfg")


def test_views_phases_and_limit_select(current):
    write_patient(current / "database_nifti" / "patient0003", ".nii.gz")
    write_list(current, "training", ["patient0003", "patient0002"])
    release = camus.open_release(current)
    names = [f.name for f in camus.frames(release, "training", views=("2CH",), limit=1)]
    assert names == ["patient0003_2CH_ED", "patient0003_2CH_ES"]
    with pytest.raises(camus.CamusError, match="has 2 patients, but 3 were asked for"):
        camus.frames(release, "training", limit=3)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*_4CH_ED_gt.nii.gz", "patient0002_4CH_ED lacks its mask"),
        ("*_4CH_*", "patient0002 lacks view 4CH"),
        ("*_4CH_ED*", "patient0002 lacks phase ED of view 4CH"),
    ],
)
def test_missing_files_are_named(current, pattern, message):
    for path in (current / "database_nifti/patient0002").glob(pattern):
        path.unlink()
    with pytest.raises(camus.CamusFileMissing, match=message) as caught:
        camus.frames(camus.open_release(current), "training")
    assert isinstance(caught.value, FileNotFoundError)


def test_sizes_that_differ(current):
    frame = one_frame(current)
    replace_mask(frame, image_and_mask()[1][:, :-1])
    with pytest.raises(camus.CamusError, match=r"mask of 40 x 23 px, but .* has 40 x 24 px"):
        camus.read_frame(frame)


def test_label_values_beyond_3(current):
    frame = one_frame(current)
    mask = image_and_mask()[1]
    mask[0, 0] = 4
    replace_mask(frame, mask)
    with pytest.raises(camus.CamusError, match=r"4CH_ED_gt.nii.gz: label values \[4\] found"):
        camus.read_frame(frame)


@pytest.mark.parametrize("structure", [1, 2, 3])
def test_empty_structures(current, structure):
    frame = one_frame(current)
    mask = image_and_mask()[1]
    mask[mask == structure] = 0
    replace_mask(frame, mask)
    with pytest.raises(camus.CamusError, match=f"mask without {labels.CAMUS_NAMES[structure]}"):
        camus.read_frame(frame)


def test_truncated_raw(first):
    frame = one_frame(first)
    raw = frame.image_path.with_suffix(".raw")
    raw.write_bytes(raw.read_bytes()[:100])
    with pytest.raises(camus.CamusError, match=r"\.raw: 100 bytes, but .* announces 960"):
        camus.read_frame(frame)


def test_missing_raw(first):
    frame = one_frame(first)
    frame.image_path.with_suffix(".raw").unlink()
    with pytest.raises(camus.CamusFileMissing, match=r"\.raw: no such file"):
        camus.read_frame(frame)


def test_header_without_size(first):
    frame = one_frame(first)
    frame.image_path.write_text("ObjectType = Image\n")
    with pytest.raises(camus.CamusError, match="DimSize, ElementType, ElementDataFile missing"):
        camus.read_frame(frame)


def test_truncated_nifti(current):
    frame = one_frame(current)
    frame.image_path.write_bytes(frame.image_path.read_bytes()[:-20])
    with pytest.raises(camus.CamusError, match="truncated or damaged"):
        camus.read_frame(frame)


@pytest.mark.parametrize("content", [b"not a gzip file", gzip.compress(b"not an image")])
def test_unreadable_nifti(current, content):
    frame = one_frame(current)
    frame.image_path.write_bytes(content)
    with pytest.raises(camus.CamusError, match=r"4CH_ED.nii.gz: cannot be read"):
        camus.read_frame(frame)


def test_pixels_that_are_no_bytes(tmp_path):
    image = SimpleITK.GetImageFromArray(np.full((4, 5), 0.5, dtype=np.float32))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(camus.CamusError, match=r"float32 values from 0.5 to 0.5"):
        camus.read_image(tmp_path / "a.nii.gz")


def test_a_patient_in_two_splits(current):
    write_list(current, "validation", ["patient0002"])
    with pytest.raises(
        camus.CamusError, match="patient0002 is listed in training and in validation"
    ):
        camus.open_release(current)


def test_patients_of_a_list_that_are_not_on_disk_matter_when_asked_for(current):
    write_list(current, "testing", ["patient0009"])
    release = camus.open_release(current)
    assert len(camus.frames(release, "validation")) == 4
    with pytest.raises(camus.CamusFileMissing, match=r"names 1 patients .* \(patient0009\)"):
        camus.frames(release, "test")


def test_a_split_without_list(current):
    with pytest.raises(camus.CamusFileMissing, match=r"database_split/subgroup_testing\.txt"):
        camus.frames(camus.open_release(current), "test")


def test_neither_release(tmp_path):
    (tmp_path / "somewhere").mkdir()
    with pytest.raises(camus.CamusFileMissing, match="neither CAMUS release found"):
        camus.open_release(tmp_path)
    with pytest.raises(camus.CamusFileMissing, match="no such folder"):
        camus.open_release(tmp_path / "nowhere")


def test_duplicates_are_found_by_content(current):
    frames = camus.frames(camus.open_release(current), "training")
    assert camus.find_duplicates(frames) == []
    frames[3].image_path.write_bytes(frames[0].image_path.read_bytes())
    assert camus.find_duplicates(frames) == [("patient0002_2CH_ED", "patient0002_4CH_ES")]


def test_real_camus():
    root = os.environ.get("ECHO_CAMUS_ROOT")
    if not root:
        pytest.skip("ECHO_CAMUS_ROOT is not set: no CAMUS data to read")
    release = camus.open_release(Path(root))
    sizes = {split: len(release.splits[split]) for split in ("training", "validation")}
    assert sizes == {"training": 400, "validation": 50}
    frames = camus.frames(release, "training", views=("4CH",), phases=("ED",))
    assert len(frames) == 400
    image, mask, _ = camus.read_frame(frames[0])
    # The probe is at the top and its sector opens downwards; the atrium lies below the ventricle.
    assert (image[10] > 0).sum() < (image[image.shape[0] // 2] > 0).sum() / 3
    depth = [np.argwhere(mask == label)[:, 0].mean() for label in (1, 3)]
    assert depth[0] < depth[1]
    if release.kind == "current":
        pair = ("patient0033_4CH_ED", "patient0068_4CH_ED")
        assert pair in camus.find_duplicates([f for f in frames if f.name in pair])


def test_both_releases_in_one_folder_are_refused(tmp_path):
    for name in ("database_nifti", "database_split", "training/patient0001"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(camus.CamusError, match="both CAMUS releases lie in this folder"):
        camus.open_release(tmp_path)


def test_pixels_beside_a_header_belong_to_its_files(tmp_path):
    header = tmp_path / "a.mhd"
    header.write_text("DimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n")
    assert camus.files_of(header) == (header, tmp_path / "a.raw")
    assert camus.files_of(tmp_path / "a.nii.gz") == (tmp_path / "a.nii.gz",)
