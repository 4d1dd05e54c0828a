"""The workflow over stub stages: order, resume, and what a change of code or config redoes."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from echo_lib.config import load_profile
from echo_lib.rows import networks_of

REPOSITORY = Path(__file__).resolve().parents[2]
LEAVES = ("__init__", "labels", "config", "provenance", "rows", "seeding", "cli", "publishing")

STUB = '''
import os
from echo_lib.config import load_profile
from echo_lib.provenance import Run, Stage


def work(run, name, sections, inputs=()):
    """Stands for a stage: counts its calls, keeps a checkpoint, dies where it is told to."""
    config = {key: getattr_dotted(run.profile, key) for key in sections}
    stage = Stage.open(run, name, config=config, inputs=inputs)
    if stage.finished():
        return
    checkpoint = stage.folder / "checkpoint"
    resumed = checkpoint.exists()
    checkpoint.write_text("half")
    if os.environ.get("DIE") == name:
        os.kill(os.getpid(), 9)
    (stage.folder / "result").write_text(str(config))
    with open(run.run_root / "calls", "a") as calls:
        calls.write(f"{name}{' resumed' if resumed else ''}\\n")
    stage.finish([stage.folder / "result"])


def getattr_dotted(value, key):
    for name in key.split("."):
        value = getattr(value, name)
    return value


def notebook(profile, seed, run_root, figure, *stage):
    from pathlib import Path
    run = Run(load_profile(profile), seed, None, Path(run_root))
    if stage:
        work(run, *stage)
    (run.folder / "figures").mkdir(exist_ok=True)
    (run.folder / "figures" / f"{figure}.png").write_bytes(b"png")
'''

COMMAND = """
import argparse
from echo_lib.cli import add_run_arguments, run_from
from echo_lib.stub import work

parser = argparse.ArgumentParser()
add_run_arguments(parser)
parser.add_argument("--view")
parser.add_argument("--shard")
parser.add_argument("--row")
parser.add_argument("--table-seed")
args = parser.parse_args()
"""

COMMANDS = {
    "sdm/training": 'work(run_from(args), f"sdm/{args.view}", ["sdm.training"], ["prepared"])',
    # A view alone leaves its images; the call without one ends the stage.
    "sdm/sampling": (
        "if args.view is None:\n"
        '    work(run_from(args), "synthetic", ["sdm.sampling"], ["sdm/2CH", "sdm/4CH"])'
    ),
    "sdm/comparison": 'work(run_from(args), "comparison", ["sdm.comparison"], ["sdm/4CH"])',
    "data/pseudo": 'work(run_from(args), "pseudo", ["cyclegan.meshes"], ["prepared"])',
    "cyclegan/training": 'work(run_from(args), "cyclegan", ["cyclegan"], ["pseudo"])',
    "cyclegan/translation": 'work(run_from(args), "translated", ["cyclegan"], ["cyclegan"])',
    "segmentation/training": (
        "from echo_lib.rows import INPUT_STAGES, find_row\n"
        "source = INPUT_STAGES[find_row(args.row).sources[0]]\n"
        'name = f"segmentation/{args.row}-{args.table_seed}"\n'
        'work(run_from(args), name, ["segmentation"], [source])'
    ),
}

NOTEBOOKS = {
    "01_data_preparation": '"fig2", "prepared", ["augmentation"]',
    "02_sdm_training": '"fig1"',
    "03_sampling": '"fig3"',
    "04_extreme_augmentation_gallery": '"fig4"',
    "05_cyclegan_comparison": '"fig5", "fidelity", ["segmentation"], ["synthetic", "translated"]',
    "06_dice_tables": '"dice_table", "evaluation", ["data"], ["segmentation/real_all-0"]',
    "07_label_map_studio": '"studio"',
}


# Rules behind a stage.
AFTER_JUDGE = {"sampling_report", "gallery", "cyclegan_comparison", "dice_tables", "all"}
AFTER_SAMPLING = {
    "sampling_of_shard", "sampling", "sampler_comparison", "sampling_report", "cyclegan_comparison",
    "segmentation", "dice_tables", "all",
}  # fmt: skip


def write_notebook(path, arguments):
    parameters = nbformat.v4.new_code_cell(
        'profile = ""\nseed = 0\ndata_root = ""\nrun_root = ""\nechonet_root = ""',
        metadata={"tags": ["parameters"]},
    )
    call = nbformat.v4.new_code_cell(
        f"from echo_lib.stub import notebook\nnotebook(profile, seed, run_root, {arguments})"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, call]), path)


class Workflow:
    """A small repository with stub stages, and Snakemake on it."""

    def __init__(self, root):
        self.root, self.runs = root, root / "runs"
        rooms = [f"echo_lib/{room}" for room in ("sdm", "segmentation", "data", "cyclegan")]
        for folder in (*rooms, "notebooks", "config", "runs"):
            (root / folder).mkdir(parents=True)
        for name in LEAVES:
            shutil.copy(REPOSITORY / "echo_lib" / f"{name}.py", root / "echo_lib")
        shutil.copytree(REPOSITORY / "workflow", root / "workflow")
        shutil.copy(REPOSITORY / "config" / "smoke.yaml", root / "config" / "tiny.yaml")
        (root / "echo_lib" / "stub.py").write_text(STUB)
        for name, call in COMMANDS.items():
            (root / "echo_lib" / f"{name}.py").write_text(COMMAND + call + "\n")
        for name, arguments in NOTEBOOKS.items():
            write_notebook(root / "notebooks" / f"{name}.ipynb", arguments)

    def __call__(self, *flags, set_="", extra=(), **environment):
        call = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
        call += ["--profile", "workflow/profiles/default", "--cores", "2", *flags]
        call += ["--config", "profile=tiny", "seed=3", "data_root=", "run_root=runs"]
        call += [f"set={set_}", *extra]
        env = {**os.environ, **environment}
        return subprocess.run(call, cwd=self.root, capture_output=True, text=True, env=env)

    def planned(self, **options):
        """The rules that Snakemake would run now."""
        done = self("--dry-run", "--quiet", "host", **options)
        assert done.returncode == 0, done.stderr
        return set(re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE))

    def calls(self):
        """The stages that did work since this was last asked."""
        path = self.runs / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The repository after a run that was killed in the sampling and then called again."""
    pytest.importorskip("snakemake")
    flow = Workflow(tmp_path_factory.mktemp("repository"))
    assert flow(DIE="synthetic").returncode != 0
    flow.first = flow.calls()
    done = flow()
    assert done.returncode == 0, done.stderr
    flow.second = flow.calls()
    return flow


def test_killed_run_goes_on_where_it_was(workflow):
    assert {"prepared", "sdm/2CH", "sdm/4CH"} <= set(workflow.first)
    assert "synthetic resumed" in workflow.second
    assert not {"prepared", "sdm/2CH", "sdm/4CH"} & set(workflow.second)
    trained = [place for place, call in enumerate(workflow.second) if "segmentation" in call]
    assert workflow.second.index("evaluation") > max(trained)
    networks = networks_of(load_profile("smoke").segmentation)
    # sampling is begun twice
    assert len(workflow.first) + len(workflow.second) == 9 + len(networks) + 1


def test_everything_is_where_the_contract_of_the_run_folder_says(workflow):
    folder = workflow.runs / "tiny"
    made = json.loads((folder / "segmentation" / "sdm_4ch_ed-0" / "manifest.json").read_text())
    assert (made["profile"], made["seed"]) == ("tiny", 3)
    assert sorted(p.stem for p in (folder / "notebooks").glob("*.ipynb")) == sorted(NOTEBOOKS)
    assert sorted(p.stem for p in (folder / "notebooks").glob("*.html")) == sorted(NOTEBOOKS)
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert figures == ["dice_table.png", *(f"fig{n}.png" for n in range(1, 6)), "studio.png"]


def test_finished_run_has_nothing_to_do_whatever_the_dates(workflow):
    for path in (workflow.root / "notebooks").iterdir():
        path.touch()
    for path in (workflow.root / "echo_lib").rglob("*.py"):
        path.touch()
    assert workflow.planned() == set()


def test_comments_redo_nothing_and_code_redoes_its_stage_and_later(workflow):
    path = workflow.root / "echo_lib" / "sdm" / "sampling.py"
    before = path.read_text()
    path.write_text("# a comment\n" + before)
    assert workflow.planned() == set()
    path.write_text(before + "print(1)\n")
    assert workflow.planned() == AFTER_SAMPLING
    path.write_text(before)


def test_overrides_redo_the_stages_that_read_them(workflow):
    redone = workflow.planned(set_="sdm.training.steps=7")
    assert redone == {"sdm_training_of_view", "sdm_training", "gallery", *AFTER_SAMPLING}
    assert workflow.planned(set_="segmentation.epochs=7") == {"segmentation", *AFTER_JUDGE}
    redone = workflow.planned(set_="cyclegan.epochs=7")
    assert redone == {
        "cyclegan_training", "translation", "cyclegan_comparison", "segmentation", "dice_tables",
        "all",
    }  # fmt: skip


def test_edited_notebook_is_run_again_and_finished_stages_return_at_once(workflow):
    path = workflow.root / "notebooks" / "01_data_preparation.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("text"))
    nbformat.write(notebook, path)
    assert workflow.planned() == set()
    notebook.cells[1].source += "\n1 + 1"
    nbformat.write(notebook, path)
    assert workflow("data_preparation").returncode == 0
    assert workflow.calls() == []
    # The stage's outputs are what they were, so nothing after it is asked for.
    assert workflow.planned() == set()


def test_removed_manifest_is_made_again(workflow):
    (workflow.runs / "tiny" / "evaluation" / "manifest.json").unlink()
    assert workflow.planned() == {"all", "dice_tables"}


def test_shards_are_jobs_of_their_own_and_an_archive_takes_the_place_of_sampling(workflow):
    sharded = workflow("--dry-run", "--forceall", "--quiet", "host", extra=["shards=3"])
    assert len(re.findall(r"^rule sampling_of_shard:", sharded.stdout + sharded.stderr, re.M)) == 6
    done = workflow("--dry-run", "--forceall", "--quiet", "host", extra=["archive=images"])
    planned = set(re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE))
    assert "sampling" in planned
    assert not {"sampling_of_shard", "sdm_training_of_view"} & planned


def test_an_archive_runs_no_row_that_needs_the_fidelity_of_its_images(workflow):
    rows = "set=segmentation.extra_rows=[sdm_all_faithful,real_50]"
    for archive in (False, True):
        extra = [rows, *(["archive=images"] if archive else [])]
        done = workflow("--dry-run", "--forceall", "--quiet", "host", extra=extra)
        text = done.stdout + done.stderr
        assert "segmentation/real_50-0" in text
        assert ("segmentation/sdm_all_faithful-0" not in text) == archive
        assert bool(re.search(r"^rule cyclegan_comparison:", text, re.MULTILINE)) != archive
        resolved = (workflow.runs / "tiny" / "profile.yaml").read_text()
        assert ("the released archive" in " ".join(resolved.split())) == archive


def test_unknown_key_of_the_config_is_refused(workflow):
    done = workflow("--dry-run", extra=["profil=tiny"])
    assert done.returncode != 0
    assert "'profil'" in done.stderr + done.stdout


def test_summary_prints_table_figures_and_seconds(tmp_path):
    path = REPOSITORY / "workflow" / "summary.py"
    spec = importlib.util.spec_from_file_location("summary", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, stage, finished in (("sdm/4CH", "sdm/4CH", "2"), ("prepared", "prepared", "1")):
        (tmp_path / name).mkdir(parents=True)
        manifest = {"stage": stage, "seconds": 61.25, "finished": finished}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "prepared.superseded-12345678").mkdir()
    (tmp_path / "prepared.superseded-12345678" / "manifest.json").write_text("{}")
    assert list(module.stage_seconds(tmp_path)) == ["prepared", "sdm/4CH"]
    text = module.summary(tmp_path)
    assert "table.md yet" in text
    assert "none yet" in text
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "table.md").write_text("| Dice |")
    assert module.summary(tmp_path).startswith("| Dice |")
