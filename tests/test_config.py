"""Profiles: every file loads, every mistake is named with its remedy, the paper's numbers stand."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from echo_lib import config
from echo_lib.config import ConfigError, as_dict, as_yaml, load_profile, parse_overrides

PROFILES = sorted(path.stem for path in config.CONFIG_FOLDER.glob("*.yaml"))


MISSING = object()


def write(tmp_path, section, key, value):
    """The paper's profile with one value changed, as a file."""
    values = yaml.safe_load((config.CONFIG_FOLDER / "paper.yaml").read_text(encoding="utf-8"))
    place = values
    for name in filter(None, section.split(".")):
        place = place[name]
    place.pop(key, None)
    if value is not MISSING:
        place[key] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", PROFILES)
def test_profile_loads_and_survives_yaml(name, tmp_path):
    profile = load_profile(name)
    assert profile.name == name
    path = tmp_path / "again.yaml"
    path.write_text(as_yaml(profile), encoding="utf-8")
    assert load_profile(path) == profile


def test_paper_profile_holds_the_paper_s_numbers():
    paper = load_profile("paper")
    assert (paper.data.source, paper.data.evaluation_split) == ("camus", "test")
    assert paper.data.image_size_px == 256
    augmentation = paper.augmentation
    assert augmentation.maps_per_frame == 5
    assert augmentation.degrees == (-5.0, 5.0)
    assert augmentation.translate == (0.0, 0.05)
    assert augmentation.scale == (0.8, 1.05)
    assert augmentation.shear_degrees == 5.0
    assert augmentation.control_points == (10, 10, 4)
    assert augmentation.max_displacement_px == (0.0, 30.0, 30.0)
    sdm = paper.sdm
    assert (sdm.network.classes, sdm.network.learned_variance) == (5, True)
    assert (sdm.diffusion.timesteps, sdm.diffusion.schedule) == (1000, "cosine")
    assert (sdm.diffusion.prediction, sdm.diffusion.vlb_weight) == ("epsilon", 0.001)
    assert (sdm.training.steps, sdm.training.batch_size) == (50000, 12 * 8)
    assert sdm.sampling.guidance == 0.0
    segmentation = paper.segmentation
    assert (segmentation.layers, segmentation.epochs) == (8, 300)
    assert (segmentation.learning_rate, segmentation.betas) == (1e-3, (0.9, 0.999))


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("sdm.training", "step", 1, "unknown key sdm.training.step; did you mean 'steps'"),
        ("", "augmentations", {}, "unknown key augmentations; did you mean 'augmentation'"),
        ("sdm.training", "steps", MISSING, "missing sdm.training.steps"),
        ("", "data", MISSING, "missing data"),
        ("sdm.training", "steps", "ten", "sdm.training.steps: expected int, found 'ten'"),
        ("sdm.training", "steps", 1.5, "sdm.training.steps: expected int, found 1.5"),
        ("sdm.training", "steps", True, "sdm.training.steps: expected int, found True"),
        ("sdm.training", "phases", ["ED", "EDD"], "phases[1]: 'EDD'; did you mean 'ED'"),
        ("sdm.network", "learned_variance", 1, "expected bool, found 1"),
        ("segmentation", "scale", [1.0], "segmentation.scale: expected 2 values, found 1"),
        ("segmentation", "scale", 1.0, "segmentation.scale: expected a list, found 1.0"),
        ("data", "source", "camu", "data.source: 'camu'; did you mean 'camus'"),
        ("sdm", "training", 3, "sdm.training.: expected keys, found 3"),
    ],
)
def test_mistake_is_named_with_its_remedy(tmp_path, section, key, value, message):
    with pytest.raises(ConfigError) as raised:
        load_profile(write(tmp_path, section, key, value))
    assert message in str(raised.value)
    assert "mine.yaml" in str(raised.value)


def test_unknown_profile_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'papers' not found.*'paper'"):
        load_profile("papers")


def test_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping of keys, found list"):
        load_profile(tmp_path / "list.yaml")


def test_overrides_are_yaml_values_of_existing_keys():
    overrides = parse_overrides(["sdm.training.steps=10", "segmentation.scale=[1, 2]"])
    profile = load_profile("paper", overrides)
    assert profile.sdm.training.steps == 10
    assert profile.segmentation.scale == (1.0, 2.0)
    assert load_profile("paper").sdm.training.steps == 50000


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("sdm.training.step=1", "no such key; did you mean 'steps'"),
        ("sdm.trainin.steps=1", "no section 'trainin'; did you mean 'training'"),
        ("sdm.training.steps=x", "expected int, found 'x'"),
        ("sdm.training.steps", "expected KEY=VALUE"),
    ],
)
def test_wrong_override_is_named(assignment, message):
    with pytest.raises(ConfigError) as raised:
        load_profile("paper", parse_overrides([assignment]))
    assert message in str(raised.value)


def test_profile_is_frozen_and_plain():
    profile = load_profile("paper")
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.data.workers = 2
    assert as_dict(profile.segmentation)["betas"] == [0.9, 0.999]


def test_stamp_is_empty_only_for_the_paper_on_real_data():
    paper = load_profile("paper")
    assert paper.stamp == ""
    phantom = load_profile("paper", {"data.source": "phantom"})
    assert phantom.stamp == "profile paper (changed) · phantoms in place of CAMUS · test split"
    assert load_profile("paper", {"data.workers": 3}).stamp == ""
    assert "(changed)" in load_profile("paper", {"sdm.training.steps": 10}).stamp


def test_every_number_of_a_profile_file_has_a_comment():
    for name in PROFILES:
        text = Path(config.CONFIG_FOLDER, f"{name}.yaml").read_text(encoding="utf-8")
        keys = [line for line in text.splitlines() if re.match(r" +\w+: +[\d\[-]", line)]
        bare = [line.strip() for line in keys if "#" not in line]
        assert bare == [], f"{name}.yaml: no unit, reason or source"
        assert len(keys) > 40
