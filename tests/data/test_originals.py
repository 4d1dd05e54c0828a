import dataclasses

import numpy as np
import pandas as pd
import pytest

from echo_lib.config import load_profile
from echo_lib.data import camus, originals
from echo_lib.data.prepare import prepare
from echo_lib.evaluation.metrics import measure
from echo_lib.evaluation.volumes import patient_volumes
from echo_lib.provenance import Run

pytestmark = pytest.mark.filterwarnings("ignore:identical images")
SHAPE, SPACING = (60, 44), (0.5, 0.75)


def mask():
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[8:36, 8:36] = 2
    label_map[14:36, 14:30] = 1
    label_map[36:50, 12:32] = 3
    return label_map


def write_release(root, *, patients=3, spacing=SPACING, info="EF: 56\n"):
    image = np.full(SHAPE, 90, np.uint8)
    names = [f"patient{n:04d}" for n in range(1, patients + 1)]
    for name in names:
        folder = root / "database_nifti" / name
        for view in ("2CH", "4CH"):
            for phase in ("ED", "ES"):
                stem = f"{name}_{view}_{phase}"
                camus.write_image(folder / f"{stem}.nii.gz", image, spacing)
                camus.write_image(folder / f"{stem}_gt.nii.gz", mask(), spacing)
            (folder / f"Info_{view}.cfg").write_text(f"ED: 1\n{info}")
    lists = dict(zip(("training", "validation", "testing"), names, strict=True))
    (root / "database_split").mkdir(parents=True)
    for split, name in lists.items():
        (root / "database_split" / f"subgroup_{split}.txt").write_text(f"{name}\n")
    return root


def prepared(tmp_path, **options):
    overrides = {"name": "tiny", "data.image_size_px": 32, "data.workers": 1}
    profile = load_profile("paper", overrides | {"augmentation.maps_per_frame": 1})
    root = write_release(tmp_path / "camus", **options)
    run = Run(profile, 0, root, tmp_path / "runs")
    prepare(run)
    index = pd.read_csv(run.folder / "prepared/frames.csv")
    return run, index[index["split"] == "test"].reset_index(drop=True)


def test_quality_is_that_of_the_frames_own_view(tmp_path):
    run, index = prepared(tmp_path, info="ImageQuality: Medium\n")
    patient = index["patient"][0]
    (run.data_root / "database_nifti" / patient / "Info_4CH.cfg").write_text("ED: 1\n")
    by_view = dict(zip(index["view"], originals.load(run, index).quality, strict=True))
    assert by_view == {"2CH": "Medium", "4CH": ""}
    without = dataclasses.replace(run, data_root=None)
    assert originals.load(without, index).quality == ("",) * len(index)


def test_raw_masks_spacing_and_fraction(tmp_path):
    run, index = prepared(tmp_path)
    found = originals.load(run, index)
    assert found.are_raw
    assert len(found.label_maps) == 4
    assert all((label_map == mask()).all() for label_map in found.label_maps)
    assert found.spacing_mm == pytest.approx(np.tile(SPACING, (4, 1)))
    assert found.ejection_fraction == {"patient0003": 56}


def test_prepared_masks_stand_in_with_their_own_spacing(tmp_path):
    run, index = prepared(tmp_path)
    found = originals.load(dataclasses.replace(run, data_root=None), index)
    assert not found.are_raw
    assert found.ejection_fraction == {}
    assert found.label_maps[0].shape == (32, 32)
    assert set(np.unique(found.label_maps[0])) == {0, 1, 2, 3}
    assert found.spacing_mm[0] == pytest.approx((0.5 * 60 / 32, 0.75 * 44 / 32))
    # Either way the heart keeps its size.
    raw = originals.load(run, index)
    volumes = [patient_volumes(x.label_maps, x.spacing_mm, index) for x in (found, raw)]
    assert volumes[0]["edv_ml"].item() == pytest.approx(volumes[1]["edv_ml"].item(), rel=0.12)


def test_a_prepared_mask_is_close_to_its_original(tmp_path):
    run, index = prepared(tmp_path)
    small = originals.load(dataclasses.replace(run, data_root=None), index).label_maps
    raw = originals.load(run, index)
    table = measure(small, small, index, row="real_all", originals=(raw.label_maps, raw.spacing_mm))
    assert (table["dice"] == 1).all()
    assert table["dice_original"].between(0.93, 1).all()
    # At most a pixel of the small map, 0.94 by 1.03 mm, off.
    assert table["hd95"].max() <= 1.4


def test_a_header_without_spacing_is_not_a_millimetre(tmp_path):
    run, index = prepared(tmp_path, spacing=(1, 1))
    for where in (run, dataclasses.replace(run, data_root=None)):
        assert np.isnan(originals.load(where, index).spacing_mm).all()
    assert originals.known_spacing([[1, 1], [1, 0.5]]).tolist()[1] == [1, 0.5]


def test_the_first_release_names_the_fraction_otherwise(tmp_path):
    run, index = prepared(tmp_path, info="LVedv: 94.0\nLVef: 61.5\n")
    assert originals.load(run, index).ejection_fraction == {"patient0003": 61.5}


def test_fractions_that_differ_are_not_used(tmp_path):
    run, index = prepared(tmp_path)
    path = run.data_root / "database_nifti/patient0003/Info_4CH.cfg"
    path.write_text("EF: 40\n")
    with pytest.warns(UserWarning, match="patient0003"):
        assert originals.load(run, index).ejection_fraction == {}


def test_files_without_a_fraction(tmp_path):
    run, index = prepared(tmp_path, info="Sex: F\n")
    assert originals.load(run, index).ejection_fraction == {}


def test_other_data_than_was_prepared_is_refused(tmp_path):
    run, index = prepared(tmp_path)
    with pytest.raises(camus.CamusError, match="was prepared from"):
        originals.load(run, index.assign(rows_px=61))
    with pytest.raises(camus.CamusFileMissing, match="1 prepared frames are not there"):
        originals.load(run, index.assign(name=["patient9999_2CH_ED", *index["name"][1:]]))


def test_masks_come_in_the_order_of_the_index(tmp_path):
    run, index = prepared(tmp_path)
    path = run.data_root / "database_nifti/patient0003/patient0003_4CH_ES_gt.nii.gz"
    camus.write_image(path, mask()[:, ::-1].copy(), SPACING)
    backwards = index[::-1].reset_index(drop=True)
    assert backwards["name"][0] == "patient0003_4CH_ES"
    found = originals.load(run, backwards)
    assert (found.label_maps[0] == mask()[:, ::-1]).all()
    assert (found.label_maps[1] == mask()).all()
