"""What the repository shows comes from files: the README's numbers, the cards of the weights."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from echo_lib.checkpoints import load_weights
from echo_lib.config import as_yaml, load_profile
from echo_lib.provenance import Run, Stage, sha256_file

REPOSITORY = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "workflow" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = load("publish")


def test_readme_shows_what_the_results_hold():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(publish.BLOCK.findall(readme)) == 5
    assert publish.updated(readme, REPOSITORY / "results") == readme


def test_readme_has_no_dice_outside_its_blocks():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\d+\.\d ±", publish.BLOCK.sub("", readme))


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "weights").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_weights_have_a_card_that_is_theirs(path):
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    header = load_weights(path)[1]
    assert sha256_file(path) in card
    assert f"{header['training']['steps']} steps of {header['training']['batch_size']}" in card
    assert ("CC BY-NC-SA 4.0" in card) == ("CAMUS" in card)
    assert path.stat().st_size < 30e6


def test_published_run_is_copied_with_its_times(tmp_path):
    run = Run(load_profile("smoke"), 0, None, tmp_path / "runs")
    stage = Stage.open(run, "evaluation", config={})
    for name in ("dice.csv", "table.csv", "table.md"):
        (stage.folder / name).write_text(f"**T**\n\n{name}\n\n**second**\n", encoding="utf-8")
    stage.finish([stage.folder / "table.md"])
    (run.folder / "profile.yaml").write_text(as_yaml(run.profile), encoding="utf-8")
    publish.publish(run.folder, tmp_path / "results/smoke")
    record = json.loads((tmp_path / "results/smoke/run.json").read_text())
    assert record["profile"] == "smoke"
    assert list(record["stage_seconds"]) == ["evaluation"]
    changed = load_profile("smoke", {"segmentation.epochs": 4})
    (run.folder / "profile.yaml").write_text(as_yaml(changed), encoding="utf-8")
    with pytest.raises(SystemExit, match="changed numbers"):
        publish.publish(run.folder, tmp_path / "results/smoke")
    text = "<!-- results:table:smoke -->\nold\n<!-- end -->"
    new = publish.updated(text, tmp_path / "results")
    assert new == "<!-- results:table:smoke -->\n**T**\n\ntable.md\n<!-- end -->"
