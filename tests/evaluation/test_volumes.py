import numpy as np
import pandas as pd
import pytest

from echo_lib.evaluation.volumes import (
    N_DISKS,
    biplane_volume,
    disks,
    ejection_fraction,
    mitral_plane,
    network_volumes,
    patient_volumes,
)
from echo_lib.labels import PHASES, VIEWS

SMALL = np.array(
    [
        [0, 2, 2, 2, 2, 0],
        [0, 2, 1, 1, 2, 0],
        [0, 2, 1, 1, 2, 0],
        [0, 2, 1, 1, 2, 0],
        [0, 3, 3, 3, 3, 0],
    ]
)


def heart(half_width, half_length, base, spacing, *, angle=0.0):
    """An ellipse cut at ``base`` mm below its centre, walled by 8 mm, over an atrium; turned."""
    shape = [int(140 / step) for step in spacing]
    row, column = np.mgrid[: shape[0], : shape[1]]
    z, x = (row - 0.45 * shape[0]) * spacing[0], (column - 0.5 * shape[1]) * spacing[1]
    z, x = z * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - z * np.sin(angle)
    label_map = np.zeros(shape, np.uint8)
    label_map[np.hypot(x / (half_width + 8), z / (half_length + 8)) <= 1] = 2
    label_map[np.hypot(x / half_width, z / half_length) <= 1] = 1
    label_map[z > base] = 0
    label_map[(z > base) & (np.hypot(x / 20, (z - base - 18) / 20) <= 1)] = 3
    return label_map


def cut_ellipsoid_ml(a, b, c, base):
    """pi a b times the integral of 1 - z^2 / c^2 from -c to base, in ml."""
    return np.pi * a * b * (base + c - (base**3 + c**3) / (3 * c**2)) / 1000


def test_mitral_plane_by_hand():
    assert mitral_plane(SMALL).tolist() == [[3, 2], [3, 3]]
    closed = np.where(SMALL == 3, 2, SMALL)
    assert mitral_plane(closed).tolist() == []


def test_the_largest_opening_is_the_valve():
    leaking = SMALL.copy()
    leaking[1, 1] = 0  # a hole in the wall
    assert mitral_plane(leaking).tolist() == [[3, 2], [3, 3]]


def test_disks_by_hand():
    # Foot (3, 2.5); the farthest pixel is (1, 2) or (1, 3): 2 rows, half a column away.
    diameters, length = disks(SMALL, (1, 1))
    reach = np.hypot(2, 0.5)
    assert length == pytest.approx(reach + 2 / reach)
    assert diameters.sum() * length / N_DISKS == pytest.approx(6)


def test_biplane_rule_by_hand():
    # Cylinders: pi / 4 x 20 x 30 x 100 mm3, and the longer axis counts.
    two, four = (np.full(N_DISKS, 20.0), 100.0), (np.full(N_DISKS, 30.0), 80.0)
    assert biplane_volume(two, four) == pytest.approx(np.pi / 4 * 20 * 30 * 100 / 1000)
    assert ejection_fraction(120, 48) == 60
    assert np.isnan(ejection_fraction(0, 0))


@pytest.mark.parametrize(
    ("spacing", "allowed"), [((1, 1), 0.02), ((0.6, 0.9), 0.015), ((0.5, 0.5), 0.01)]
)
@pytest.mark.parametrize("angle", [0.0, 0.35, -0.5])
def test_ellipsoid_cut_at_the_valve(spacing, allowed, angle):
    views = heart(22, 45, 20, spacing, angle=angle), heart(26, 45, 20, spacing, angle=-angle)
    two, four = (disks(view, spacing) for view in views)
    assert two[1] == pytest.approx(65, rel=0.02)
    assert biplane_volume(two, four) == pytest.approx(cut_ellipsoid_ml(22, 26, 45, 20), rel=allowed)


def test_specks_beside_the_cavity_do_not_count():
    view = heart(22, 45, 20, (1, 1))
    speckled = view.copy()
    speckled[3:6, 3:6] = 1
    assert biplane_volume(*[disks(speckled, (1, 1))] * 2) == biplane_volume(
        *[disks(view, (1, 1))] * 2
    )


@pytest.mark.parametrize("label_map", [np.zeros((6, 6), int), np.full((6, 6), 2)])
def test_no_cavity_or_no_valve_has_no_volume(label_map):
    diameters, length = disks(label_map, (1, 1))
    assert np.isnan(diameters).all()
    assert np.isnan(length)
    assert np.isnan(biplane_volume((diameters, length), disks(SMALL, (1, 1))))


def test_a_cavity_of_one_pixel_has_no_axis():
    single = np.where((SMALL == 1) & (np.arange(5)[:, None] < 3), 2, SMALL)
    single[3, 2] = 2
    assert (single == 1).sum() == 1
    assert np.isnan(disks(single, (1, 1))[1])


@pytest.fixture
def frames():
    """Both views and phases of one patient, ES half as wide as ED, and their index."""
    index = pd.DataFrame(
        [("patient0001", view, phase) for view in VIEWS for phase in PHASES],
        columns=["patient", "view", "phase"],
    )
    widths = {("2CH", "ED"): 22, ("2CH", "ES"): 15.6, ("4CH", "ED"): 26, ("4CH", "ES"): 18.4}
    maps = [
        heart(widths[view, phase], 45, 20, (1, 1))
        for view, phase in zip(index["view"], index["phase"], strict=True)
    ]
    return maps, index


def test_volumes_of_a_patient(frames):
    (line,) = patient_volumes(frames[0], np.ones((4, 2)), frames[1]).to_dict("records")
    assert line["edv_ml"] == pytest.approx(cut_ellipsoid_ml(22, 26, 45, 20), rel=0.02)
    assert line["ef_percent"] == pytest.approx(100 * (1 - 15.6 * 18.4 / (22 * 26)), abs=1)
    assert line["unit"] == "mm"


def test_unknown_spacing_gives_a_fraction_but_no_volumes(frames):
    spacing = np.full((4, 2), np.nan)
    (line,) = patient_volumes(frames[0], spacing, frames[1]).to_dict("records")
    assert np.isnan([line["edv_ml"], line["esv_ml"]]).all()
    assert line["ef_percent"] == pytest.approx(49.8, abs=1)
    assert line["unit"] == "px"


def test_a_patient_with_a_view_missing_is_left_out(frames):
    maps, index = frames
    assert patient_volumes(maps[:3], np.ones((3, 2)), index[:3]).empty


def test_networks_stand_beside_masks_and_info(frames):
    maps, index = frames
    maps, originals = np.stack(maps), [np.repeat(x, 2, axis=0) for x in maps]
    table = network_volumes(
        {("real_all", 0): maps, ("sdm_all", 1): maps * 0},
        index,
        originals=(originals, np.tile([0.5, 1.0], (4, 1))),
        info={"patient0001": 55},
    )
    same, none = table.to_dict("records")
    assert (same["row"], same["seed"]) == ("real_all", 0)
    assert (none["row"], none["seed"]) == ("sdm_all", 1)
    # The prediction, enlarged, is the original mask itself.
    assert same["edv_ml"] == pytest.approx(same["mask_edv_ml"])
    assert same["ef_percent"] == pytest.approx(same["mask_ef_percent"])
    assert np.isnan(none["ef_percent"])
    assert none["mask_ef_percent"] == same["mask_ef_percent"]
    assert table["info_ef_percent"].tolist() == [55, 55]
