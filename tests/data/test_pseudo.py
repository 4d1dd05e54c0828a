"""Pseudo-images and their stage, on a few hearts and maps."""

import hashlib
import json

import numpy as np
import pandas
import pytest
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.data import heart_shapes, meshes, pseudo
from echo_lib.data.datasets import INDEX_FILES, load_pairs, read_index
from echo_lib.data.pseudo import make_pseudo, render, split_hearts
from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_OUTSIDE, SDM_SECTOR, SPLITS
from echo_lib.provenance import Run, Stage, StageError
from echo_lib.seeding import numpy_generator

pytest.importorskip("pyvista")
SIZE = 48
OVERRIDES = {
    "data.image_size_px": SIZE,
    "data.workers": 1,
    "cyclegan.meshes.hearts": 4,
    "cyclegan.meshes.slices_per_view": 1,
}


def drawn_map(size=SIZE):
    """A sector with a wall about a cavity, and an atrium below."""
    rows, columns = np.mgrid[:size, :size] / size
    label_map = np.full((size, size), SDM_OUTSIDE, dtype=np.uint8)
    label_map[np.abs(columns - 0.5) < 0.6 * rows] = SDM_SECTOR
    label_map[np.hypot((rows - 0.5) / 0.28, (columns - 0.5) / 0.2) < 1] = SDM_MYOCARDIUM
    label_map[np.hypot((rows - 0.5) / 0.2, (columns - 0.5) / 0.12) < 1] = SDM_LV
    label_map[np.hypot((rows - 0.85) / 0.1, (columns - 0.5) / 0.1) < 1] = SDM_LA
    return label_map


def test_blood_is_darker_than_tissue_and_the_outside_is_0():
    label_map = drawn_map(128)
    image = render(label_map, rng=np.random.default_rng(0))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image == 0, label_map == SDM_OUTSIDE)
    mean = {k: image[label_map == k].mean() for k in range(1, 5)}
    assert mean[SDM_LV] + 30 < mean[SDM_SECTOR] < mean[SDM_MYOCARDIUM] - 10
    assert mean[SDM_LA] + 30 < mean[SDM_SECTOR]
    for k in (SDM_SECTOR, SDM_MYOCARDIUM):  # speckle, not a flat tone
        assert 5 < image[label_map == k].std() < 40


def test_an_image_is_its_generators():
    label_map = drawn_map()
    one, again, other = (
        render(label_map, rng=numpy_generator("pseudo", 0, name)) for name in ("a", "a", "b")
    )
    np.testing.assert_array_equal(one, again)
    assert np.mean(one[label_map > 0] != other[label_map > 0]) > 0.9


def test_speckle_has_the_same_grain_at_any_size():
    """Neighbours a fixed part of the image apart are equally alike."""

    def likeness(size):
        label_map = np.full((size, size), SDM_SECTOR, dtype=np.uint8)
        image = render(label_map, rng=np.random.default_rng(1)).astype(float)
        low = image[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4]
        step = size // 64
        return np.corrcoef(low[:, :-step].ravel(), low[:, step:].ravel())[0, 1]

    assert likeness(128) == pytest.approx(likeness(256), abs=0.08)


def test_wrong_ids_are_refused():
    with pytest.raises(ValueError, match=r"label values \[7\] found, expected 0..4"):
        render(np.full((8, 8), 7, dtype=np.uint8), rng=np.random.default_rng(0))


def test_hearts_are_split_70_15_15():
    names = [f"heart{number}" for number in range(1000)]
    splits = split_hearts(names, seed=0)
    assert list(splits) == names
    counts = [list(splits.values()).count(split) for split in SPLITS]
    assert counts == [700, 150, 150]
    assert split_hearts(names[::-1], seed=0) == splits
    assert split_hearts(names, seed=1) != splits
    first = [splits[name] for name in names[:100]]
    assert 50 < first.count("training") < 90  # shuffled, not cut off in order
    twenty = split_hearts(names[:20], seed=0).values()
    assert [list(twenty).count(split) for split in SPLITS] == [14, 3, 3]
    assert split_hearts(["only"], seed=0) == {"only": "training"}


def prepared_run(root, **changed):
    """A run with stage "prepared": two training maps and one for validation."""
    profile = load_profile(
        "smoke", OVERRIDES | {k.replace("__", "."): v for k, v in changed.items()}
    )
    run = Run(profile, 3, None, root)
    stage = Stage.open(run, "prepared", config={})
    if not stage.finished():
        rows = []
        for name, split in (("p1_2CH_ED_0", "training"), ("p1_4CH_ES_0", "training"),
                            ("p2_4CH_ED_0", "validation")):  # fmt: skip
            path = stage.folder / "maps" / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(drawn_map()).save(path)
            patient, view, phase, _ = name.split("_")
            rows.append(
                {
                    "name": name, "source": name[:-2], "patient": patient, "view": view,
                    "phase": phase, "split": split, "k": 0,
                    "label_map": f"prepared/maps/{name}.png", "parameters": "{}",
                }
            )  # fmt: skip
        pandas.DataFrame(rows).to_csv(stage.folder / "maps.csv", index=False)
        stage.finish([p for p in stage.folder.rglob("*") if p.suffix in (".png", ".csv")])
    return run


def digests(folder):
    files = [p for p in folder.rglob("*") if p.suffix in (".png", ".csv", ".vtk")]
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    run = prepared_run(tmp_path_factory.mktemp("pseudo"))
    return run, make_pseudo(run)


def test_stage_writes_slices_and_maps(done):
    run, manifest = done
    slices, maps = (read_index(run.folder, kind) for kind in ("pseudo", "pseudo_maps"))
    assert INDEX_FILES["pseudo"] == "pseudo/slices.csv"
    assert tuple(slices.columns) == pseudo.SLICE_COLUMNS
    assert tuple(maps.columns) == (
        "name",
        "patient",
        "view",
        "phase",
        "split",
        "image",
        "label_map",
    )
    assert len(slices) == 4 * 2 * 1
    assert manifest["facts"]["hearts"] == {"training": 3, "validation": 0, "test": 1}
    for index in (slices, maps):
        pairs = load_pairs(run.folder, index)
        assert pairs.images.shape == (len(index), 1, SIZE, SIZE)
        outside = pairs.label_maps == SDM_OUTSIDE
        assert (pairs.images[:, 0][outside] == 0).all()
        assert (pairs.images[:, 0][~outside] > 0).all()
    assert list(maps.label_map) == [f"prepared/maps/{name}.png" for name in maps.name]
    assert list(maps.split) == ["training", "training", "validation"]
    drawn = json.loads(slices.parameters[0])
    assert set(drawn) >= {"rotation_degrees", "depth", "lean_degrees"}


def test_a_hearts_slices_stay_in_one_split(done):
    run, _ = done
    slices = read_index(run.folder, "pseudo")
    assert (slices.groupby("patient").split.nunique() == 1).all()
    assert (slices.groupby("patient").view.nunique() == 2).all()
    assert set(slices.split) == {"training", "test"}


def test_meshes_of_the_built_in_cohort_are_kept(done):
    run, manifest = done
    names = [f"meshes/heart{number:04d}.vtk" for number in range(1, 5)]
    assert [name for name in sorted(manifest["outputs"]) if name.endswith(".vtk")] == names
    labels = run.profile.cyclegan.meshes.labels
    assert meshes.read_mesh(run.folder / "pseudo" / names[0], labels).unit == "mm"


def test_finished_stage_is_not_made_again(done):
    run, manifest = done
    assert make_pseudo(run) == manifest


def test_a_stopped_stage_goes_on_and_gives_the_same_bytes(done, tmp_path):
    finished, _ = done
    run = prepared_run(tmp_path)
    make_pseudo(run)
    folder = run.folder / "pseudo"
    assert digests(folder) == digests(finished.folder / "pseudo")
    slices = read_index(run.folder, "pseudo")
    kept = run.folder / slices.image[2]
    time = kept.stat().st_mtime_ns
    for path in (slices.image[0], slices.label_map[1], "pseudo/meshes/heart0001.vtk"):
        (run.folder / path).unlink()
    for path in ("manifest.json", "slices.csv", "maps.csv"):
        (folder / path).unlink()
    make_pseudo(run)
    assert digests(folder) == digests(finished.folder / "pseudo")
    assert kept.stat().st_mtime_ns == time


def test_workers_change_no_byte(done, tmp_path, monkeypatch):
    finished, _ = done
    monkeypatch.setattr(pseudo, "_HEARTS_FOR_A_POOL", 1)
    run = prepared_run(tmp_path, data__workers=2)
    make_pseudo(run)
    assert digests(run.folder / "pseudo") == digests(finished.folder / "pseudo")


def write_hearts(folder, names, labels):
    folder.mkdir(parents=True)
    for name in names:
        shape = heart_shapes.draw_shape(name, seed=9)
        meshes.write_mesh(folder / name, *heart_shapes.build(shape, labels))


def test_a_folder_of_meshes(tmp_path):
    run = prepared_run(tmp_path, cyclegan__meshes__folder=str(tmp_path / "hearts"))
    labels = run.profile.cyclegan.meshes.labels
    names = ["Mesh_1.vtk", "Mesh_2.vtu", "Mesh_10.vtk", "Mesh_11.vtk", "Mesh_12.vtk"]
    write_hearts(tmp_path / "hearts", names, labels)
    manifest = make_pseudo(run)
    slices = read_index(run.folder, "pseudo")
    # At most four, in natural order.
    assert list(slices.patient.unique()) == ["Mesh_1", "Mesh_2", "Mesh_10", "Mesh_11"]
    assert sorted(manifest["extra"]["meshes"]) == sorted(names[:4])
    assert not (run.folder / "pseudo" / "meshes").exists()
    before = (run.folder / slices.label_map[0]).read_bytes()
    write = heart_shapes.build(heart_shapes.mean_shape(), labels)
    meshes.write_mesh(tmp_path / "hearts" / "Mesh_1.vtk", *write)
    changed = make_pseudo(run)
    assert changed["extra"] != manifest["extra"]
    assert (run.folder / slices.label_map[0]).read_bytes() != before


def test_meshes_in_micrometres_are_told(tmp_path, capsys):
    folder = tmp_path / "hearts"
    run = prepared_run(tmp_path, cyclegan__meshes__folder=str(folder))
    points, cells, tissue = heart_shapes.build(
        heart_shapes.mean_shape(), run.profile.cyclegan.meshes.labels
    )
    folder.mkdir()
    meshes.write_mesh(folder / "mm.vtk", points, cells, tissue)
    meshes.write_mesh(folder / "um.vtk", 1000 * points, cells, tissue)
    make_pseudo(run)
    assert "1 of 2 meshes in um, by their size; scaled to mm" in capsys.readouterr().out


def test_bad_meshes_are_all_named_and_none_is_left_out(tmp_path):
    run = prepared_run(tmp_path, cyclegan__meshes__folder=str(tmp_path / "hearts"))
    labels = run.profile.cyclegan.meshes.labels
    write_hearts(tmp_path / "hearts", ["a.vtk", "b.vtk"], labels)
    (tmp_path / "hearts" / "bad.vtk").write_text("nothing\n")
    points, cells, tissue = heart_shapes.build(heart_shapes.mean_shape(), labels)
    keep = tissue != labels.mitral
    meshes.write_mesh(tmp_path / "hearts" / "open.vtk", points, cells[keep], tissue[keep])
    with pytest.raises(meshes.MeshError) as error:
        make_pseudo(run)
    assert "2 of 4 hearts cannot be used" in str(error.value)
    assert "bad.vtk: cannot be read" in str(error.value)
    assert "open.vtk: no cell of tissue mitral (7)" in str(error.value)
    assert not (run.folder / "pseudo" / "manifest.json").exists()


def test_empty_folder_and_no_hearts(tmp_path):
    (tmp_path / "hearts").mkdir()
    run = prepared_run(tmp_path, cyclegan__meshes__folder=str(tmp_path / "hearts"))
    with pytest.raises(meshes.MeshError, match="no heart mesh"):
        make_pseudo(run)
    run = prepared_run(tmp_path, cyclegan__meshes__hearts=0)
    with pytest.raises(ValueError, match=r"cyclegan\.meshes\.hearts is 0"):
        make_pseudo(run)


def test_prepared_comes_first(tmp_path):
    run = Run(load_profile("smoke", OVERRIDES), 3, None, tmp_path)
    with pytest.raises(StageError, match="stage 'prepared' is not finished"):
        make_pseudo(run)


def test_command_line(tmp_path, capsys):
    run = prepared_run(tmp_path, cyclegan__meshes__hearts=1)
    settings = OVERRIDES | {"cyclegan.meshes.hearts": 1}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    pseudo.main(["--profile", "smoke", "--seed", "3", "--run-root", str(tmp_path), *sets])
    assert (run.folder / "pseudo" / "manifest.json").is_file()
    assert "1/1 hearts" in capsys.readouterr().out
