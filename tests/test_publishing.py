import dataclasses
import hashlib
import json

import matplotlib
import pytest
from matplotlib.figure import Figure

from echo_lib.config import CONFIG_FOLDER, load_profile
from echo_lib.provenance import Run, Stage, StageError
from echo_lib.publishing import PublishingError, figure_folder, publish, rank, save_figure


@pytest.fixture
def make_run(tmp_path):
    """A run of a shipped profile, or of the demo's under another name; one finished stage."""

    def make(name):
        shipped = (CONFIG_FOLDER / f"{name}.yaml").is_file()
        profile = dataclasses.replace(load_profile(name if shipped else "demo"), name=name)
        run = Run(profile, 0, None, tmp_path / "runs")
        stage = Stage.open(run, "prepared", config={})
        file = stage.folder / "frames.csv"
        file.write_text(name)
        stage.finish([file])
        return run

    return make


def draw(run, height=1.0):
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().bar([0, 1], [1, height])
    figure.text(0, 0, run.profile.stamp)
    return figure


def save(run, height=1.0):
    return save_figure(run, draw(run, height), "fig9", caption="Bars.", inputs=["prepared"])


def shown_profile(folder):
    return json.loads((folder / "fig9.json").read_text())["profile"]


def test_the_sidecar_says_what_the_figure_was_made_from(make_run):
    run = make_run("demo")
    sidecar = save(run)
    folder = figure_folder(run)
    assert sorted(path.name for path in folder.iterdir()) == ["fig9.json", "fig9.pdf", "fig9.png"]
    assert json.loads((folder / "fig9.json").read_text()) == sidecar
    assert sidecar["profile"] == "demo"
    assert sidecar["stamp"] == "profile demo · phantoms in place of CAMUS · test split"
    assert (sidecar["caption"], sidecar["seed"]) == ("Bars.", 0)
    manifest = json.loads((run.folder / "prepared" / "manifest.json").read_text())
    assert sidecar["inputs"] == {"prepared": manifest["outputs_digest"]}
    assert {"commit", "dirty", "versions"} <= set(sidecar)
    png = (folder / "fig9.png").read_bytes()
    assert sidecar["png_sha256"] == hashlib.sha256(png).hexdigest()


def test_the_same_figure_gives_the_same_bytes(make_run):
    run = make_run("demo")
    save(run)
    files = [figure_folder(run) / f"fig9.{kind}" for kind in ("png", "pdf")]
    first = [file.read_bytes() for file in files]
    with matplotlib.rc_context({"pdf.compression": 6}):
        save(run)
    assert [file.read_bytes() for file in files] == first
    assert b"CreationDate" not in first[1]


def test_a_figure_without_its_stamp_is_refused(make_run):
    run = make_run("demo")
    with pytest.raises(PublishingError, match="does not carry the stamp 'profile demo"):
        save_figure(run, Figure(), "fig9", caption="", inputs=[])
    assert not figure_folder(run).exists()


def test_a_figure_from_an_unfinished_stage_is_refused(make_run):
    run = make_run("demo")
    with pytest.raises(StageError, match="'synthetic' is not finished"):
        save_figure(run, draw(run), "fig9", caption="", inputs=["synthetic"])


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        ("demo", "reduced", "reduced"),
        ("demo", "paper", "paper"),
        ("reduced", "demo", "reduced"),
        ("reduced-cpu", "demo", "reduced-cpu"),
        ("paper", "demo", "paper"),
        ("paper", "reduced", "paper"),
        ("reduced", "paper", "paper"),
        ("demo", "smoke", "demo"),
        ("demo", "mine", "demo"),
    ],
)
def test_the_better_profile_stands_whatever_came_last(make_run, tmp_path, first, second, stands):
    folder = tmp_path / "figures"
    for name in (first, second):
        run = make_run(name)
        save(run)
        assert publish(run, "fig9", folder) == (name in (stands, first))
    assert shown_profile(folder) == stands
    source = tmp_path / "runs" / stands / "figures"
    for kind in ("png", "pdf", "json"):
        assert (folder / f"fig9.{kind}").read_bytes() == (source / f"fig9.{kind}").read_bytes()


def test_smoke_never_shows_not_even_where_nothing_is(make_run, tmp_path):
    run = make_run("smoke")
    save(run)
    assert not publish(run, "fig9", tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_later_figure_of_the_same_profile_replaces_the_earlier(make_run, tmp_path):
    run, folder = make_run("demo"), tmp_path / "figures"
    save(run)
    publish(run, "fig9", folder)
    digest = save(run, height=3.0)["png_sha256"]
    assert publish(run, "fig9", folder)
    assert json.loads((folder / "fig9.json").read_text())["png_sha256"] == digest


def test_an_altered_picture_is_not_shown(make_run, tmp_path):
    run = make_run("demo")
    save(run)
    (figure_folder(run) / "fig9.png").write_bytes(b"retouched")
    with pytest.raises(PublishingError, match="altered since it was saved"):
        publish(run, "fig9", tmp_path / "figures")


def test_a_figure_of_released_images_is_not_shown(make_run, tmp_path):
    run, manifest = make_run("paper"), {"facts": {"origin": "released data archive"}}
    save(run)
    path = run.folder / "synthetic/manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps(manifest))
    assert not publish(run, "fig9", tmp_path / "figures")
    path.write_text(json.dumps({"facts": {"images": 3}}))
    assert publish(run, "fig9", tmp_path / "figures")


def test_ranks():
    names = ("smoke", "demo", "reduced", "reduced-128", "paper", "")
    assert [rank(name) for name in names] == [0, 1, 2, 2, 3, 0]


def test_a_changed_profile_is_not_shown(make_run, tmp_path):
    run = make_run("demo")
    save(run)
    changed = load_profile("demo", {"sdm.training.steps": 1})
    assert "demo (changed)" in changed.stamp
    assert not publish(dataclasses.replace(run, profile=changed), "fig9", tmp_path / "figures")
    assert publish(run, "fig9", tmp_path / "figures")
