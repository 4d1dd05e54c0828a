"""The phantom cohort: what is drawn, that it is drawn again, and how it lies on disk."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from echo_lib.data import anatomy, phantom, speckle
from echo_lib.labels import CAMUS_LA, CAMUS_LV, CAMUS_MYOCARDIUM, PHASES, VIEWS

SEED = 7
COUNTS = {"training": 2, "validation": 1, "test": 1}
FRAMES = [(view, phase) for view in VIEWS for phase in PHASES]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    splits = phantom.write_cohort(root, **COUNTS, seed=SEED)
    return root, splits


@pytest.fixture(scope="module")
def label_maps():
    """Label maps of 12 patients: {(patient, view, phase): (Geometry, label map)}."""
    drawn = {}
    for number in range(1, 13):
        patient = anatomy.draw_patient(f"patient{number:04d}", seed=SEED)
        for view, phase in FRAMES:
            frame = anatomy.geometry(patient, view, phase)
            drawn[patient.name, view, phase] = frame, anatomy.draw_label_map(frame)
    return drawn


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read(path):
    return np.squeeze(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


def test_every_structure_is_one_piece_inside_the_sector(label_maps):
    for key, (frame, label_map) in label_maps.items():
        assert not label_map[~frame.sector()].any(), key
        for structure in (CAMUS_LV, CAMUS_MYOCARDIUM, CAMUS_LA):
            assert ndimage.label(label_map == structure)[1] == 1, (key, structure)


def test_atrium_lies_below_the_ventricle_and_the_wall_around_it(label_maps):
    for key, (_, label_map) in label_maps.items():
        lv, wall, la = (np.argwhere(label_map == k) for k in (1, 2, 3))
        assert la[:, 0].mean() > lv[:, 0].max() - 12, key
        assert wall[:, 0].min() < lv[:, 0].min(), key  # over the apex
        assert wall[:, 1].min() < lv[:, 1].min(), key
        assert wall[:, 1].max() > lv[:, 1].max(), key


def test_systole_shrinks_the_cavity_and_thickens_the_wall(label_maps):
    for patient, view, phase in label_maps:
        if phase == "ES":
            continue
        (ed, ed_map), (es, es_map) = (label_maps[patient, view, name] for name in PHASES)
        assert (es_map == CAMUS_LV).sum() < 0.9 * (ed_map == CAMUS_LV).sum()
        assert es.shape.wall > 1.1 * ed.shape.wall
        assert (es_map == CAMUS_LA).sum() > (ed_map == CAMUS_LA).sum()
        assert 8.0 <= ed.shape.wall <= 12.0  # mm


def test_class_areas_are_those_of_camus(label_maps):
    """CAMUS at ED, mean fractions of the image: LV 0.109, myocardium 0.085-0.10, LA 0.043."""
    at_ed = [label_map for (_, _, phase), (_, label_map) in label_maps.items() if phase == "ED"]
    lv, wall, la = (np.mean([(m == k).mean() for m in at_ed]) for k in (1, 2, 3))
    assert 0.09 < lv < 0.13
    assert 0.055 < wall < 0.10
    assert 0.03 < la < 0.055


def test_image_is_zero_outside_the_sector_only(cohort):
    patient = anatomy.draw_patient("patient0001", seed=SEED)
    image, label_map, spacing_mm = phantom.render(patient, "4CH", "ED", seed=SEED)
    sector = anatomy.geometry(patient, "4CH", "ED").sector()
    assert image.dtype == label_map.dtype == np.uint8
    assert image.shape == label_map.shape
    np.testing.assert_array_equal(image > 0, sector)
    np.testing.assert_array_equal(spacing_mm, [0.5, 0.5])


def test_blood_is_darker_than_muscle(cohort):
    root, splits = cohort
    for name in sum(splits.values(), ()):
        for view, phase in FRAMES:
            stem = root / "database_nifti" / name / f"{name}_{view}_{phase}"
            image, label_map = read(f"{stem}.nii.gz"), read(f"{stem}_gt.nii.gz")
            blood, muscle = image[label_map == CAMUS_LV], image[label_map == CAMUS_MYOCARDIUM]
            assert 20 < blood.mean() < muscle.mean() - 10 < 190, stem.name


def test_a_frame_depends_on_seed_and_name_alone():
    patient = anatomy.draw_patient("patient0003", seed=SEED)
    again = anatomy.draw_patient("patient0003", seed=SEED)
    other = anatomy.draw_patient("patient0003", seed=SEED + 1)
    assert patient == again
    assert patient.shapes != other.shapes
    first = phantom.render(patient, "2CH", "ES", seed=SEED)[0]
    np.testing.assert_array_equal(first, phantom.render(again, "2CH", "ES", seed=SEED)[0])
    other_speckle = phantom.render(patient, "2CH", "ES", seed=SEED + 1)[0]
    assert np.mean(first != other_speckle) > 0.3


def test_the_release_layout(cohort):
    root, splits = cohort
    assert splits == {
        "training": ("patient0001", "patient0002"),
        "validation": ("patient0003",),
        "test": ("patient0004",),
    }
    lists = root / "database_split"
    assert (lists / "subgroup_training.txt").read_text() == "patient0001\npatient0002\n"
    assert (lists / "subgroup_testing.txt").read_text() == "patient0004\n"
    names = {path.name for path in (root / "database_nifti" / "patient0002").iterdir()}
    frames = {f"patient0002_{view}_{phase}" for view, phase in FRAMES}
    expected = {f"{frame}{end}.nii.gz" for frame in frames for end in ("", "_gt")}
    assert names == expected | {"Info_2CH.cfg", "Info_4CH.cfg"}


def test_files_hold_depth_on_axis_1_and_the_spacing(cohort):
    root, _ = cohort
    path = root / "database_nifti" / "patient0001" / "patient0001_4CH_ED.nii.gz"
    file = SimpleITK.ReadImage(str(path))
    patient = anatomy.draw_patient("patient0001", seed=SEED)
    image, _, _ = phantom.render(patient, "4CH", "ED", seed=SEED)
    assert file.GetSize()[:2] == image.shape[::-1]
    assert file.GetSpacing()[:2] == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(read(path), image)


def test_info_holds_the_keys_of_the_release(cohort):
    root, _ = cohort
    lines = (root / "database_nifti" / "patient0001" / "Info_4CH.cfg").read_text().splitlines()
    info = dict(line.split(": ") for line in lines)
    keys = ["ED", "ES", "NbFrame", "Sex", "Age", "ImageQuality", "EF", "FrameRate"]
    assert list(info) == keys
    patient = anatomy.draw_patient("patient0001", seed=SEED)
    assert float(info["EF"]) == pytest.approx(phantom.ejection_fraction(patient), abs=0.05)
    assert 15 < float(info["EF"]) < 80


def test_discs_give_the_volume_of_an_ellipsoid():
    rows, columns = np.mgrid[:240, :200] * 0.5
    ellipse = ((rows - 60) / 40) ** 2 + ((columns - 50) / 20) ** 2 <= 1  # semi-axes in mm
    volume = 4 / 3 * np.pi * 40 * 20 * 20 / 1000
    assert phantom.biplane_volume([ellipse, ellipse]) == pytest.approx(volume, rel=0.02)


def test_worker_count_does_not_change_a_byte(cohort, tmp_path):
    root, _ = cohort
    phantom.write_cohort(tmp_path, **COUNTS, seed=SEED, workers=2)
    assert digests(tmp_path) == digests(root)


def test_resume_writes_what_is_missing_and_nothing_else(cohort):
    root, _ = cohort
    before = digests(root)
    folder = root / "database_nifti" / "patient0001"
    kept = folder / "patient0001_2CH_ES.nii.gz"
    time = kept.stat().st_mtime_ns
    (folder / "patient0001_4CH_ED_gt.nii.gz").unlink()
    (folder / "Info_2CH.cfg").unlink()
    phantom.write_cohort(root, **COUNTS, seed=SEED)
    assert digests(root) == before
    assert kept.stat().st_mtime_ns == time


def test_wrong_arguments_are_named(cohort, tmp_path):
    root, _ = cohort
    with pytest.raises(ValueError, match="phantoms of seed 7, not 8"):
        phantom.write_cohort(root, **COUNTS, seed=8)
    with pytest.raises(ValueError, match="workers=0"):
        phantom.write_cohort(tmp_path, **COUNTS, seed=1, workers=0)
    with pytest.raises(ValueError, match="one at least"):
        phantom.write_cohort(tmp_path, training=0, validation=0, test=0, seed=1)
    with pytest.raises(ValueError, match="unknown view '3CH'"):
        phantom.render(anatomy.draw_patient("patient0001", seed=1), "3CH", "ED", seed=1)


def test_speckle_is_fully_developed_and_blurs_along_the_beam_least():
    """One look of a uniform medium: amplitude mean / std of a Rayleigh variable, 1.91."""
    level = np.zeros((speckle.N_DEPTHS, speckle.N_BEAMS))
    decibels = speckle.speckle_image(level, np.random.default_rng(0), looks=1, floor_db=-90.0)
    amplitude = 10.0 ** (decibels / 20.0)
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, rel=0.05)
    assert np.mean(amplitude**2) == pytest.approx(1.0, rel=0.05)


def test_scan_conversion_undoes_the_sampling_of_beams():
    patient = replace(anatomy.draw_patient("patient0001", seed=SEED), apex_x=0.0)
    frame = anatomy.geometry(patient, "4CH", "ED")
    x, z = frame.grid()
    place = (x, z, frame.depth_mm, frame.half_angle)
    smooth = np.sin(x / 20.0) + np.cos(z / 25.0)
    back = speckle.from_beams(speckle.to_beams(smooth, *place), *place)
    inside = ndimage.binary_erosion(frame.sector(), iterations=3)
    assert np.abs(back - smooth)[inside].max() < 0.02
