import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_LV, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.studio.brush import stroke
from echo_lib.studio.label_map import Document, Edit, apply


def test_a_dab_is_a_disc_and_a_stroke_a_capsule():
    assert stroke((200, 200), [[0.5, 0.5]], 0.1).sum() == pytest.approx(np.pi * 20**2, rel=0.01)
    capsule = stroke((200, 200), [[0.3, 0.3], [0.3, 0.6], [0.6, 0.6]], 0.05)
    # Two legs of 60 px, 20 px wide, that share a corner disc: legs and ends, less the overlap.
    area = 2 * 60 * 20 + np.pi * 100 - (100 - np.pi * 100 / 4)
    assert capsule.sum() == pytest.approx(area, rel=0.01)
    assert not stroke((20, 20), [], 0.5).any()


def test_paint_gives_the_label_and_erase_gives_the_sector_back(heart):
    painted = apply(heart, Edit("paint", {"path": [[0.8, 0.8]], "label": "left atrium"}))
    under = stroke(heart.shape, [[0.8, 0.8]], 0.03)
    assert (painted[under] == SDM_LA).all()
    np.testing.assert_array_equal(painted[~under], heart[~under])
    erased = apply(painted, Edit("erase", {"path": [[0.8, 0.8]], "radius": 0.1}))
    np.testing.assert_array_equal(erased, heart)


def test_paint_beyond_the_sector_is_told_and_erased_to_outside(heart):
    document = Document(heart, [Edit("paint", {"path": [[0.01, 0.5]], "radius": 0.02})])
    assert any("LV cavity outside the sector" in finding for finding in document.findings())
    document.apply(Edit("erase", {"path": [[0.01, 0.5]], "radius": 0.1}))
    np.testing.assert_array_equal(document.current, heart)


def test_painting_the_sector_changes_the_sector(heart):
    dab = {"path": [[0.3, 0.9]], "radius": 0.05}
    document = Document(heart, [Edit("paint", {**dab, "label": "outside"})])
    under = stroke(heart.shape, dab["path"], dab["radius"])
    assert (document.current[under] == SDM_OUTSIDE).all()
    assert not document.sector[under].any()
    # What moves there is cut off, what is uncovered there is outside.
    document.apply(Edit("affine", {"right": 0.3}))
    assert (document.current[under] == SDM_OUTSIDE).all()
    document.apply(Edit("paint", {**dab, "label": "sector"}))
    assert (document.current[under] == SDM_SECTOR).all()
    assert document.sector[under].all()


def test_a_stroke_may_leave_the_image(heart):
    after = apply(heart, Edit("paint", {"path": [[0.5, -0.2], [0.5, 1.2]], "radius": 0.01}))
    assert (after[48] == SDM_LV).all()
