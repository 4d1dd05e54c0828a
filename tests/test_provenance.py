"""Stages refuse what is not theirs, keep what was, and go on where they were."""

import json

import pytest
import torch

from echo_lib import provenance
from echo_lib.config import load_profile
from echo_lib.provenance import Run, Stage, StageError, atomic_path, environment, require

PROFILE = load_profile("paper")
SHA_OF_RESULT = "f6a214f7a5fcda0c2cee9660b7fc29f5649e3c68aad48e20e950137c98913a68"  # of b"result"


@pytest.fixture
def run(tmp_path):
    return Run(PROFILE, 0, None, tmp_path)


def open_stage(run, name="prepared", *, epochs=1, inputs=()):
    return Stage.open(run, name, config={"segmentation": {"epochs": epochs}}, inputs=inputs)


def finish(stage, text="result"):
    (stage.folder / "a").mkdir(exist_ok=True)
    (stage.folder / "a" / "result.txt").write_text(text)
    return stage.finish([stage.folder / "a" / "result.txt"], facts={"n": 3})


@pytest.fixture(autouse=True)
def plain_configs(monkeypatch):
    monkeypatch.setattr(provenance, "as_dict", lambda value: value)


def test_manifest_holds_hashes_environment_and_facts(run):
    manifest = finish(open_stage(run))
    assert manifest["outputs"] == {"a/result.txt": SHA_OF_RESULT}
    assert manifest["facts"] == {"n": 3}
    assert manifest["seconds"] >= 0
    assert set(manifest) >= {"commit", "dirty", "python", "versions", "device", "finished"}
    assert json.loads((run.folder / "prepared" / "manifest.json").read_text()) == manifest


def test_environment_names_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert environment(torch.device("cuda", 1))["device"] == "cuda:1 (GPU of cuda:1)"
    assert environment(torch.device("cpu"))["device"] == "cpu"


def test_missing_stage_is_refused_and_named(run):
    with pytest.raises(StageError, match=r"'prepared' is not finished.*manifest\.json is missing"):
        open_stage(run, "sdm/4CH", inputs=("prepared",))


@pytest.mark.parametrize(("harm", "state"), [("write_text", "altered"), ("unlink", "missing")])
def test_harmed_input_is_refused_and_named(run, harm, state):
    finish(open_stage(run))
    file = run.folder / "prepared" / "a" / "result.txt"
    file.unlink() if harm == "unlink" else file.write_text("other")
    with pytest.raises(StageError, match=rf"result\.txt: {state} since stage 'prepared' finished"):
        open_stage(run, "sdm/4CH", inputs=("prepared",))


def test_input_of_another_seed_or_profile_is_refused(run, tmp_path):
    finish(open_stage(run))
    with pytest.raises(StageError, match="made with seed 0, expected 1"):
        require(Run(PROFILE, 1, None, tmp_path), "prepared")
    path = run.folder / "prepared" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "profile": "demo"}))
    with pytest.raises(StageError, match="made with profile 'demo', expected 'paper'"):
        require(run, "prepared")


def test_equal_identity_resumes_and_returns_the_finished_manifest(run):
    stage = open_stage(run)
    (stage.folder / "half").write_text("1")
    again = open_stage(run)
    assert again.finished() is None
    assert (again.folder / "half").read_text() == "1"
    manifest = finish(again)
    assert open_stage(run).finished() == manifest


def test_changed_identity_sets_the_old_result_aside(run, capsys):
    finish(open_stage(run), "first")
    stage = open_stage(run, epochs=2)
    assert stage.finished() is None
    assert not (stage.folder / "a").exists()
    aside = list(run.folder.glob("prepared.superseded-*"))
    assert [(path / "a" / "result.txt").read_text() for path in aside] == ["first"]
    assert "config changed" in capsys.readouterr().out


def test_changed_input_changes_the_identity_of_what_reads_it(run):
    finish(open_stage(run), "first")
    before = open_stage(run, "sdm/4CH", inputs=("prepared",)).identity
    (run.folder / "prepared" / "manifest.json").unlink()
    finish(open_stage(run), "second")
    after = open_stage(run, "sdm/4CH", inputs=("prepared",)).identity
    assert [key for key in before if before[key] != after[key]] == ["inputs"]


def test_outputs_digest_depends_on_names_and_content_only(run, tmp_path):
    one = finish(open_stage(run))
    two = finish(open_stage(Run(PROFILE, 0, None, tmp_path / "other")))
    three = finish(open_stage(Run(PROFILE, 0, None, tmp_path / "third")), "other")
    assert one["outputs_digest"] == two["outputs_digest"] != three["outputs_digest"]


def fail_while_writing(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk")


def test_atomic_path_leaves_nothing_on_failure_and_keeps_what_was(tmp_path):
    path = tmp_path / "deep" / "file.csv"
    with pytest.raises(RuntimeError, match="disk"):
        fail_while_writing(path)
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".csv"
        assert not path.exists()
    with pytest.raises(RuntimeError, match="disk"):
        fail_while_writing(path)
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("file.csv", "whole")]


def code_digest_of(monkeypatch, folder, text):
    (folder / "one.py").write_text(text)
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    monkeypatch.setitem(provenance.STAGE_CODE, "stub", ("one.py",))
    provenance.code_digest.cache_clear()
    try:
        return provenance.code_digest("stub")
    finally:
        provenance.code_digest.cache_clear()


def test_code_digest_is_blind_to_comments_but_not_to_code(monkeypatch, tmp_path):
    code = "def f(x):\n    return x + 1\n"
    before = code_digest_of(monkeypatch, tmp_path, code)
    dressed = '"""Module."""\n# why\ndef f(x):\n    """What."""\n\n    return (x + 1)  # so\n'
    assert code_digest_of(monkeypatch, tmp_path, dressed) == before
    assert code_digest_of(monkeypatch, tmp_path, code.replace("1", "2")) != before
    assert code_digest_of(monkeypatch, tmp_path, code + "g = f\n") != before
