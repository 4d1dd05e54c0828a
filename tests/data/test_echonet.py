import csv

import av
import numpy as np
import pytest

from echo_lib.data import echonet

# A square ventricle: the long axis from (30, 20) to (30, 60), chords from x = 20 to x = 40.
AXIS = (30.0, 20.0, 30.0, 60.0)


def box(x1, x2, top, bottom, chords=5):
    return [AXIS] + [(x1, y, x2, y) for y in np.linspace(top, bottom, chords)]


def write_video(path, n_frames=6, size=112):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = size
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for number in range(n_frames):
            grey = np.full((size, size), 20 + 30 * number, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_csv(path, header, lines):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)


@pytest.fixture
def folder(tmp_path):
    """Three test videos, of which one is untraced, and a training one."""
    splits = {"0XA": "TEST", "0XB": "TEST", "0XC": "TEST", "0XD": "TRAIN"}
    lines = [(n, 60, 40, 100, 112, 112, 30, 6, s) for n, s in splits.items()]
    write_csv(tmp_path / "FileList.csv", echonet.FILE_LIST, lines)
    traces = []
    for name, small, large in (("0XA", 1, 4), ("0XB", 3, 0), ("0XD", 1, 2)):
        traces += [(f"{name}.avi", *line, small) for line in box(25, 35, 30, 50)]
        traces += [(f"{name}.avi", *line, large) for line in box(20, 40, 20, 60)]
    write_csv(tmp_path / "VolumeTracings.csv", echonet.TRACINGS, traces)
    for name in splits:
        write_video(tmp_path / "Videos" / f"{name}.avi")
    return tmp_path


def test_end_diastole_is_the_traced_frame_with_the_larger_area(folder):
    data = echonet.load(folder, size_px=112)
    assert data.index[["name", "frame"]].values.tolist() == [["0XA", 4], ["0XB", 0]]
    assert data.untraced == ("0XC",)
    assert set(data.index["view"] + data.index["phase"]) == {"4CHED"}
    # 20 + 30 k is the grey value of frame k.
    assert np.median(data.images[0]) == pytest.approx(140, abs=3)
    assert np.median(data.images[1]) == pytest.approx(20, abs=3)


def test_the_polygon_fills_its_rectangle(folder):
    mask = echonet.load(folder, size_px=112).masks[0]
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1) == (20, 60)
    assert (columns.min(), columns.max() + 1) == (20, 40)
    assert mask.sum() == 40 * 20


def test_masks_grow_with_the_frame(folder):
    data = echonet.load(folder, size_px=256)
    assert data.images.shape == (2, 1, 256, 256)
    assert data.images.dtype == np.uint8
    assert data.masks.shape == (2, 256, 256)
    assert data.masks[0].sum() == pytest.approx(800 * (256 / 112) ** 2, rel=0.03)


def test_area_of_a_triangle_and_its_mask():
    triangle = np.array([(0, 0), (8, 0), (0, 6)], dtype=float)
    assert echonet.polygon_area(triangle) == 24
    assert echonet.fill_polygon(triangle + 0.25, (10, 10)).sum() == pytest.approx(24, abs=4)


def test_the_outline_leaves_the_long_axis_out():
    lines = np.array([AXIS, (1, 2, 3, 4), (5, 6, 7, 8)])
    assert echonet.polygon_of(lines).tolist() == [[1, 2], [5, 6], [7, 8], [3, 4]]


@pytest.mark.parametrize("name", ["FileList.csv", "VolumeTracings.csv"])
def test_another_header_is_refused(folder, name):
    text = (folder / name).read_text(encoding="utf-8").replace("FileName", "File", 1)
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(echonet.EchoNetError, match=rf"{name}: columns \('File', .*expected"):
        echonet.load(folder, size_px=112)


def test_missing_videos_are_listed(folder):
    for name in ("0XA", "0XB"):
        (folder / "Videos" / f"{name}.avi").unlink()
    with pytest.raises(echonet.EchoNetError, match=r"0XA\.avi is missing; 0XB\.avi is missing"):
        echonet.load(folder, size_px=112)


def test_bad_rows_are_named(folder):
    with open(folder / "VolumeTracings.csv", "a", encoding="utf-8") as file:
        file.write("0XA.avi,1,nan,3,4,4\n0XB.avi,1,2,x,4,0\n0XC.avi,1,2,3,4,2\n")
    with pytest.raises(echonet.EchoNetError) as error:
        echonet.load(folder, size_px=112)
    assert "line 38 (0XA): ['0XA.avi', '1', 'nan', '3', '4', '4']" in str(error.value)
    assert "line 39 (0XB)" in str(error.value)
    assert "0XC, frame 2: 1 lines, expected a long axis and 2 or more chords" in str(error.value)


def test_a_frame_beyond_the_video_and_a_broken_video(folder):
    write_video(folder / "Videos" / "0XA.avi", n_frames=3)
    with pytest.raises(echonet.EchoNetError, match=r"0XA\.avi: 3 frames, but frame 4 is traced"):
        echonet.load(folder, size_px=112)
    (folder / "Videos" / "0XA.avi").write_bytes(b"not a video")
    with pytest.raises(echonet.EchoNetError, match=r"0XA\.avi: not a readable video"):
        echonet.load(folder, size_px=112)


def test_an_absent_folder_says_what_is_expected(tmp_path):
    with pytest.raises(echonet.EchoNetError, match=r"FileList\.csv: no such file; expected"):
        echonet.load(tmp_path, size_px=112)
    with pytest.raises(echonet.EchoNetError, match="split 'test', expected one of"):
        echonet.read_file_list(tmp_path, "test")


def test_limit_and_other_splits(folder):
    assert echonet.load(folder, size_px=32, limit=1).index["name"].tolist() == ["0XA"]
    assert echonet.load(folder, size_px=32, split="TRAIN").index["name"].tolist() == ["0XD"]
    with pytest.raises(echonet.EchoNetError, match="no traced video of split 'VAL'"):
        echonet.load(folder, size_px=32, split="VAL")
