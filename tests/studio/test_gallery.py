import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from echo_lib.checkpoints import save_weights
from echo_lib.config import load_profile
from echo_lib.evaluation.fidelity import INDEX_COLUMNS
from echo_lib.provenance import Run
from echo_lib.sdm.diffusion import GaussianDiffusion
from echo_lib.sdm.sampling import Denoiser
from echo_lib.sdm.unet import SemanticUNet
from echo_lib.studio import gallery
from echo_lib.studio.label_map import Edit, replay
from echo_lib.studio.parameters import EditError
from echo_lib.studio.validity import findings


@pytest.fixture
def run(tmp_path):
    return Run(load_profile("demo"), 0, None, tmp_path)


@pytest.fixture
def tiny():
    """An untrained SDM, and sampling of two images at a time in two steps."""
    profile = load_profile("smoke").sdm
    network = dataclasses.replace(
        profile.network, width=8, head_width=8, spade_hidden_width=8, norm_groups=4
    )
    model = SemanticUNet(network).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # the last layer of a new one is 0, blind to the map
        parameter.normal_(std=0.1, generator=generator)
    process = GaussianDiffusion.from_config(profile.diffusion)
    sampling = dataclasses.replace(
        profile.sampling, steps=2, batch_size=2, precision="float32", compile=False
    )
    return Denoiser(model, process, {}), sampling


def test_the_columns_of_fig4_are_the_papers():
    columns = gallery.columns()
    assert list(columns) == ["Swirl", "Shear", "Septal defect", "Missing left atrium"]
    assert columns["Missing left atrium"] == [Edit("missing_atrium")]
    assert columns["Swirl"][0].parameters["move"] == "all"


def test_columns_of_your_own_from_a_notebooks_parameter():
    text = json.dumps([{"name": "shear", "parameters": {"angle_degrees": 9}}, {"name": "swirl"}])
    assert gallery.columns(text) == {
        "1. Shear": [Edit("shear", {"angle_degrees": 9})],
        "2. Swirl": [Edit("swirl")],
    }
    chain = {"Both": [{"name": "shear"}, {"name": "swirl"}]}
    assert gallery.columns(json.dumps(chain)) == {"Both": [Edit("shear"), Edit("swirl")]}
    with pytest.raises(EditError, match="did you mean 'shear'"):
        gallery.columns('[{"name": "shera"}]')
    with pytest.raises(EditError, match="not JSON"):
        gallery.columns("shear")


def test_every_column_and_every_grade_changes_the_map(heart):
    for edits in gallery.columns().values():
        assert (replay(heart, edits) != heart).any()
    graded = gallery.grades(seed=0)
    maps = gallery.maps_of(heart, [[edit] for _, _, edit in graded])
    changed = (maps != heart).sum(axis=(1, 2))
    assert (changed > 0).all()
    # The sector stays where it is in all of them.
    assert ((maps > 0) == (heart > 0)).all()
    by_row = pd.Series(changed).groupby([title for title, _, _ in graded], sort=False)
    assert (by_row.size() == 4).all()
    assert graded[0][:2] == ("Turn", "15°")
    through_nothing = ["Mitral plane", "Wall thickness", "Dilated ventricle"]
    through_nothing += ["Left atrium grown", "Left atrium enlarged"]
    one_way = by_row.agg(list).drop(through_nothing)
    assert all(values == sorted(values) for values in one_way)


def test_a_frame_is_chosen_by_name_or_for_its_soundness(heart):
    odd = replay(heart, [Edit("septal_defect"), Edit("missing_atrium")])
    assert findings(odd)
    maps = np.stack([odd, heart, heart])
    assert gallery.choose(["a", "b", "c"], maps) == 1
    assert gallery.choose(["a", "b", "c"], maps, name="c") == 2
    with pytest.raises(ValueError, match="did you mean 'patient1'"):
        gallery.choose(["patient1"], maps[:1], name="patient7")


def test_the_other_anatomy_is_sound_and_the_most_different(heart):
    moved = [replay(heart, [Edit("affine", {"right": shift})]) for shift in (0.05, 0.1)]
    odd = replay(heart, [Edit("affine", {"right": 0.15}), Edit("missing_atrium")])
    maps = np.stack([heart, moved[0], moved[1], odd])
    assert gallery.most_different(0, maps) == 2
    assert gallery.most_different(0, maps[[0, 3]]) == 1
    assert gallery.most_different(0, maps[:1]) == 0


def test_equal_maps_give_equal_echoes_in_whatever_batch(tiny):
    denoiser, sampling = tiny
    maps = np.zeros((5, 64, 64), dtype=np.uint8)
    maps[:, 8:56] = 2
    maps[1, 20:30, 20:30] = maps[3, 20:30, 20:30] = 1
    images = gallery.echoes(denoiser, maps, sampling, seed=3)
    assert images.shape == maps.shape
    assert images.dtype == np.uint8
    difference = np.abs(images.astype(int) - images[0])
    assert difference[[2, 4]].max() <= 1
    assert difference[[1, 3]].max() > 1
    assert np.abs(images[1].astype(int) - images[3]).max() <= 1
    other = gallery.echoes(denoiser, maps[:1], sampling, seed=4)
    assert np.abs(other.astype(int) - images[:1]).max() > 1


def write_header(path, profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, {"w": torch.zeros(1)}, metadata={"profile": profile})
    return path


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder in the place of the repository's, with shipped weights of one's choice."""
    folder = tmp_path / "repository" / "weights"
    monkeypatch.setattr(gallery, "PACKAGE", tmp_path / "repository" / "echo_lib")
    monkeypatch.setattr(gallery, "shipped_weights", lambda view: folder / f"camus_{view}.st")
    return folder


def test_phantom_runs_are_drawn_and_judged_by_shipped_weights(run, shipped):
    write_header(shipped / "camus_4CH.st", "reduced-cpu")
    weights = gallery.weights_for(run, "4CH")
    assert weights.path == shipped / "camus_4CH.st"
    assert weights.words == "images by the shipped weights camus_4CH.st, trained on CAMUS"
    own = gallery.judge_for(run, weights)
    assert own.path == run.folder / "segmentation/real_all-0/weights.safetensors"
    assert "phantoms alone" in own.words
    write_header(shipped / "segmentation_real_all.safetensors", "reduced-cpu")
    judge = gallery.judge_for(run, weights)
    assert judge.path == shipped / "segmentation_real_all.safetensors"
    assert gallery.stages_of(run, weights, own) == ["segmentation/real_all-0"]
    assert gallery.stages_of(run, weights, judge) == []


def test_weights_for_images_of_another_size_are_not_taken(run, shipped):
    write_header(shipped / "camus_4CH.st", "paper")  # 256 px, this run has 128
    weights = gallery.weights_for(run, "4CH")
    assert weights.path == run.folder / "sdm/4CH/weights.safetensors"
    judge = gallery.judge_for(run, weights)
    assert judge.words == "judged by this run's network"
    assert gallery.stages_of(run, weights, judge) == ["sdm/4CH", "segmentation/real_all-0"]


def test_a_run_on_camus_is_drawn_by_its_own(tmp_path, shipped):
    write_header(shipped / "camus_4CH.st", "reduced-cpu")
    run = Run(load_profile("reduced-cpu"), 0, None, tmp_path)
    assert gallery.stages_of(run, gallery.weights_for(run, "4CH")) == ["sdm/4CH"]


def test_the_index_is_what_fidelity_wants():
    frame = pd.Series({"patient": "p1", "view": "4CH", "phase": "ED", "split": "test", "x": 1})
    index = gallery.index_of(["a", "b"], frame)
    assert set(index.columns) == set(INDEX_COLUMNS)
    assert index["name"].tolist() == ["a", "b"]
    assert index["patient"].tolist() == ["p1", "p1"]


def test_echoes_of_a_run_are_drawn_by_view_each_from_the_noise_of_its_name(run, heart):
    sampling = dataclasses.replace(run.profile.sdm.sampling, steps=2)
    sdm = dataclasses.replace(run.profile.sdm, sampling=sampling)
    run = dataclasses.replace(run, profile=dataclasses.replace(run.profile, sdm=sdm))
    side = run.profile.data.image_size_px
    maps = np.stack([np.kron(heart, np.ones((2, 2), np.uint8))[:side, :side]] * 2)
    index = pd.DataFrame({"name": ["a_0", "b_0"], "view": ["2CH", "4CH"]})
    images, words = gallery.echoes_of(run, index, maps)
    assert (images.shape, images.dtype) == (maps.shape, np.uint8)
    assert "camus_2CH.safetensors" in words
    assert "camus_4CH.safetensors" in words
    alone, _ = gallery.echoes_of(run, index.iloc[1:], maps[1:])
    assert np.abs(alone[0].astype(int) - images[1]).max() <= 1
    other, _ = gallery.echoes_of(run, index.assign(name=["a_0", "c_0"]), maps)
    assert (other[0] == images[0]).all()
    assert (other[1] != images[1]).any()
