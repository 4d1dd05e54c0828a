"""The doctor on data beside CAMUS: EchoNet-Dynamic, the released archive."""

import csv

import av
import numpy as np
import pytest
from PIL import Image

from echo_lib import labels
from echo_lib.data import doctor, echonet, released_archive


def write_echonet(root, videos, *, untraced=()):
    """A set of EchoNet-Dynamic: name to (split, grey value of the video's six frames).

    Frames 1 and 4 are traced, the LV is 10 x 20 and 20 x 40 of 112 x 112 px.
    """
    lines = [(n, 60, 40, 100, 112, 112, 30, 6, split) for n, (split, _) in videos.items()]
    traces = [
        (f"{name}.avi", *line, frame)
        for name in videos
        if name not in untraced
        for frame, (left, right, top, bottom) in ((1, (25, 35, 30, 50)), (4, (20, 40, 20, 60)))
        for line in [(30, top, 30, bottom), *((left, y, right, y) for y in (top, 40, bottom))]
    ]
    root.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        ("FileList.csv", echonet.FILE_LIST, lines),
        ("VolumeTracings.csv", echonet.TRACINGS, traces),
    ):
        with open(root / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    for name, (_, grey) in videos.items():
        write_video(root / "Videos" / f"{name}.avi", grey)
    return root


def write_video(path, grey, n_frames=6):
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((112, 112), grey, np.uint8), format="gray")
        for _ in range(n_frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


VIDEOS = {"0XA": ("TEST", 40), "0XB": ("TEST", 80), "0XC": ("TRAIN", 120), "0XD": ("VAL", 160)}


def test_a_usable_echonet_set_is_counted(tmp_path):
    found = doctor.diagnose(write_echonet(tmp_path, VIDEOS, untraced=("0XB",)))
    assert found.kind == "EchoNet-Dynamic"
    assert found.usable
    videos = found.tables["Videos"]
    assert videos.loc[list(echonet.SPLITS)].to_numpy().tolist() == [[1, 1, 0], [1, 1, 0], [2, 1, 0]]
    values = found.tables["Sizes, grey values of first frames, area of the LV at ED"]
    assert values.loc["rows (px)"].tolist() == [112, 112, 112]
    assert values.loc["mean grey"].tolist() == pytest.approx([40, 100, 160], abs=2)
    assert values.loc["LV cavity at ED (%)", "max"] == round(100 * 20 * 40 / 112**2, 2)
    assert "1 videos of split TEST are not traced: left out" in found.remarks
    assert found.next_command == (
        f"make figures PROFILE=reduced-cpu DATA_ROOT=/path/to/CAMUS ECHONET_ROOT={tmp_path}"
    )


def test_one_video_in_two_splits_of_echonet_is_a_leak(tmp_path):
    (problem,) = doctor.diagnose(write_echonet(tmp_path, VIDEOS | {"0XE": ("VAL", 120)})).problems
    assert problem.startswith("0XC (TRAIN) = 0XE (VAL): one image in several splits")


def test_echonet_with_missing_and_damaged_videos(tmp_path):
    write_echonet(tmp_path, VIDEOS)
    (tmp_path / "Videos" / "0XA.avi").unlink()
    write_video(tmp_path / "Videos" / "0XB.avi", 80, n_frames=3)
    (tmp_path / "Videos" / "0XD.avi").write_bytes(b"no video")
    found = doctor.diagnose(tmp_path)
    assert found.tables["Videos"].loc["TEST"].tolist() == [2, 2, 1]
    damaged, missing, short = found.problems  # splits in the order of echonet.SPLITS
    assert missing == "Videos/0XA.avi: missing; download it again"
    assert "0XD.avi: not a readable video" in damaged
    assert "0XB.avi: 3 frames, but frame 4 is traced" in short


def test_echonet_without_a_traced_test_video_is_not_usable(tmp_path):
    found = doctor.diagnose(write_echonet(tmp_path, VIDEOS, untraced=("0XA", "0XB")))
    assert "no traced video of split TEST" in found.problems[0]


def write_archive(root):
    """A pair of 32 x 32 px per dataset and split, of CAMUS ids, no two alike."""
    map_ = np.zeros((32, 32), dtype=np.uint8)
    map_[4:28, 4:28] = labels.CAMUS_MYOCARDIUM
    map_[8:20, 8:20] = labels.CAMUS_LV
    map_[20:26, 8:20] = labels.CAMUS_LA
    grey = 40
    for dataset, (view, phase) in released_archive.DATASETS.items():
        for split, patient in (("training", "patient0051"), ("validation", "patient0001")):
            for folder, array in (("images", map_ * grey), ("annotations", map_)):
                name = f"{patient}_{view}_{phase}_{split}_0.png"
                path = root / "SDM_generated_data" / dataset / folder / split / name
                path.parent.mkdir(parents=True)
                Image.fromarray(array).save(path)
            grey += 1
    return root / "SDM_generated_data"


def test_the_released_archive_is_counted_and_its_numbering_told(tmp_path):
    write_archive(tmp_path)
    found = doctor.diagnose(tmp_path)
    assert found.kind == "the released archive of synthetic images"
    assert found.usable
    for split in released_archive.SPLITS:
        assert found.tables["Pairs"].loc[split].tolist() == [1, 1, 1, 1]
    assert found.tables["Patients"]["patients"].tolist() == [1, 1]
    values = found.tables["Sizes, spacing, grey values"]["median"]
    assert values["rows (px)"] == 32
    shares = [100 * n / 1024 for n in (1024 - 576, 144, 576 - 144 - 72, 72, 0)]
    assert values[[f"label {i} (%)" for i in range(5)]].tolist() == pytest.approx(shares, abs=0.01)
    assert set(found.tables["Label maps"]["kind"]) == {released_archive.CAMUS_MAPS}
    assert any("first release" in remark for remark in found.remarks)
    assert found.next_command == (
        f"make figures PROFILE=reduced-cpu DATA_ROOT=/path/to/CAMUS ARCHIVE={tmp_path}"
    )


def test_what_is_wrong_with_an_archive(tmp_path):
    root = write_archive(tmp_path)
    source = "2_chamber_end_diastole/images/training/patient0051_2CH_ED_training_0.png"
    copy = "2_chamber_end_systole/images/validation/patient0001_2CH_ES_validation_0.png"
    (root / copy).write_bytes((root / source).read_bytes())
    damaged = root / "4_chamber_end_diastole/annotations/training/patient0051_4CH_ED_training_0.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    for folder in ("images", "annotations"):
        name = "patient0051_4CH_ES_training_0.png"
        (root / "4_chamber_end_systole" / folder / "training" / name).unlink()
    found = doctor.diagnose(tmp_path)
    unreadable, leak, missing = found.problems
    assert unreadable.startswith(f"{damaged}: cannot be read")
    assert leak.startswith(
        "patient0001_2CH_ES_validation_0 (validation) = patient0051_2CH_ED_training_0 (training)"
    )
    assert missing == f"{root}: no training pairs of 4CH ES; unpack the archive again"
    (root / source).unlink()
    assert "without a partner" in doctor.diagnose(tmp_path).problems[0]
