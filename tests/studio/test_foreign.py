import gzip
import io

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR
from echo_lib.studio import foreign
from echo_lib.studio.foreign import ForeignMapError

MAP = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 0, 0]], dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def nifti(array, tmp_path, suffix=".nii"):
    path = tmp_path / f"map{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return path.read_bytes()


def test_png_and_nifti_give_the_same_map(tmp_path):
    assert (foreign.read(png(MAP), "mine.PNG") == MAP).all()
    assert (foreign.read(nifti(MAP, tmp_path), "mine.nii") == MAP).all()
    packed = gzip.compress(nifti(MAP[None], tmp_path))
    assert (foreign.read(packed, "mine.nii.gz") == MAP).all()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"x", "map.jpg", r"expected a \.png, \.nii or \.nii\.gz file"),
        (b"no png", "map.png", "unreadable"),
        (b"no nifti", "map.nii", "unreadable"),
        (png(np.zeros((4, 4, 3), np.uint8)), "map.png", "PNG of mode 'RGB', expected one channel"),
        (png(np.arange(100, dtype=np.uint8)[None].repeat(4, 0)), "m.png", "100 different values"),
    ],
)
def test_other_files_are_refused(content, name, message):
    with pytest.raises(ForeignMapError, match=message):
        foreign.read(content, name)


def test_a_volume_and_fractions_are_refused(tmp_path):
    with pytest.raises(ForeignMapError, match=r"shape \(2, 3, 4\), expected one 2D"):
        foreign.read(nifti(np.stack([MAP, MAP]), tmp_path), "map.nii")
    with pytest.raises(ForeignMapError, match="values with fractions"):
        foreign.read(nifti(MAP + np.float32(0.5), tmp_path), "map.nii")


def test_the_first_guess_is_camus_or_the_sdm():
    assert foreign.suggest([0, 1, 2, 3]) == {
        0: "background", 1: "LV cavity", 2: "myocardium", 3: "left atrium",
    }  # fmt: skip
    assert foreign.suggest([0, 2, 4])[2] == "sector"
    assert foreign.suggest([0, 255])[255] == "background"


def test_background_is_divided_by_the_present_sector():
    like = np.full((3, 4), SDM_SECTOR, dtype=np.uint8)
    like[0, 0] = SDM_OUTSIDE
    meanings = {0: "background", 1: "LV cavity", 2: "myocardium", 3: "left atrium"}
    expected = [
        [SDM_OUTSIDE, SDM_SECTOR, SDM_LV, SDM_LV],
        [SDM_SECTOR, SDM_MYOCARDIUM, SDM_MYOCARDIUM, SDM_LV],
        [SDM_LA, SDM_LA, SDM_SECTOR, SDM_SECTOR],
    ]
    assert foreign.convert(MAP, meanings, like=like).tolist() == expected


def test_the_map_takes_the_size_of_the_present_one():
    like = np.full((6, 8), SDM_SECTOR, dtype=np.uint8)
    converted = foreign.convert(
        MAP, {0: "sector", 1: "LV cavity", 2: "sector", 3: "sector"}, like=like
    )
    assert converted.shape == (6, 8)
    assert (converted == SDM_LV).sum() == 4 * (MAP == 1).sum()


def test_every_value_needs_a_meaning():
    with pytest.raises(ForeignMapError, match=r"values \[3\] have no meaning and \['heart'\]"):
        foreign.convert(MAP, {0: "sector", 1: "heart", 2: "sector"}, like=MAP)
