"""The recipe for one GPU goes through its stages: the rehearsal that its page documents."""

import re
from pathlib import Path

import pytest
from safetensors import safe_open

from echo_lib.config import load_profile, parse_overrides
from echo_lib.cyclegan.training import train as train_cyclegan
from echo_lib.cyclegan.translation import translate_dataset
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.data.prepare import prepare
from echo_lib.data.pseudo import make_pseudo
from echo_lib.labels import VIEWS
from echo_lib.provenance import Run
from echo_lib.sdm.sampling import sample_dataset
from echo_lib.sdm.training import train as train_sdm
from echo_lib.segmentation.training import train as train_segmentation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reduced_recipe.md"


@pytest.fixture(scope="module")
def profile():
    values = re.search(r'PROFILE=reduced RUN_ROOT=\S+ SET="([^"]+)"', PAGE.read_text("utf-8"))[1]
    overrides = parse_overrides(values.replace("\\\n", " ").split())
    # Previews would cost more than all the rest.
    return load_profile("reduced", overrides | {"sdm.training.preview_every": 0})


def test_rehearsal_keeps_the_network_and_the_size(profile):
    shipped = load_profile("reduced")
    assert profile.sdm.network == shipped.sdm.network
    assert profile.data.image_size_px == shipped.data.image_size_px == 256
    assert profile.segmentation.layers == shipped.segmentation.layers


def test_rehearsal_goes_through_every_stage(profile, tmp_path):
    run = Run(profile, 0, None, tmp_path)
    prepare(run)
    for view in VIEWS:
        train_sdm(run, view)
    with safe_open(run.folder / "sdm/4CH/weights.safetensors", "pt") as weights:
        assert sum(weights.get_tensor(name).numel() for name in weights.keys()) > 10e6  # noqa: SIM118
    assert sample_dataset(run)["facts"]["images"] == 16  # 4 patients, 2 views, 2 phases
    make_pseudo(run)
    train_cyclegan(run)
    assert translate_dataset(run)["facts"]["images"] == 16
    for kind in ("synthetic", "cyclegan"):
        pairs = load_pairs(run.folder, read_index(run.folder, kind))
        assert pairs.images.shape == (16, 1, 256, 256)
        assert pairs.images.float().std() > 1  # no blank images
    for row in ("sdm_2ch_ed", "sdm_and_real"):
        facts = train_segmentation(run, row)["facts"]
        assert 0 <= facts["validation_dice"] <= 1
