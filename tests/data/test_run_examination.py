"""The doctor on a run: stages, prepared frames, and the command that goes on with it."""

import json
import os
import shlex
import subprocess
import warnings

import numpy as np
import pytest
from PIL import Image

from echo_lib import labels
from echo_lib.config import as_yaml, load_profile, parse_overrides
from echo_lib.data import camus, doctor, prepare, released_archive
from echo_lib.provenance import PACKAGE, Run, Stage, write_json, write_text

OVERRIDES = [
    "data.source=camus", "data.training_patients=0", "data.validation_patients=0",
    "data.evaluation_split=validation", "augmentation.maps_per_frame=2",
    "augmentation.translate=[0.0,0.1]", "segmentation.extra_rows=[sdm_and_real,real_25]",
]  # fmt: skip


def write_release(root, splits, *, same=()):
    """A current release of 48 x 40 px, every image another; those of ``same`` show one image."""
    mask = np.zeros((48, 40), dtype=np.uint8)
    mask[14:30, 12:28] = labels.CAMUS_MYOCARDIUM
    mask[18:30, 16:24] = labels.CAMUS_LV
    mask[30:42, 14:26] = labels.CAMUS_LA
    rng = np.random.default_rng(0)
    shown = rng.integers(1, 255, size=mask.shape, dtype=np.uint8)
    for split, patients in splits.items():
        listed = root / "database_split" / camus.SPLIT_LISTS[split]
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(patients))
        for name in (f"{p}_{v}_{e}" for p in patients for v in labels.VIEWS for e in labels.PHASES):
            image = rng.integers(1, 255, size=mask.shape, dtype=np.uint8)
            stem = root / "database_nifti" / name.split("_")[0] / name
            camus.write_image(f"{stem}.nii.gz", shown if name in same else image, (0.2, 0.3))
            camus.write_image(f"{stem}_gt.nii.gz", mask, (0.2, 0.3))
    return root


def prepared_run(folder, *, overrides=OVERRIDES, same=()):
    """A run on CAMUS, seed 3, with its stage "prepared", as the workflow leaves it."""
    splits = {"training": ["patient0002", "patient0003"], "validation": ["patient0001"]}
    root = write_release(folder / "camus", splits, same=same)
    profile = load_profile("smoke", parse_overrides(overrides))
    run = Run(profile, 3, root, folder / "my runs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the duplicate
        prepare.prepare(run)
    write_text(run.folder / "profile.yaml", as_yaml(profile))
    given = {"data_root": str(root), "profile": "smoke", "seed": 3}
    notebook = {"metadata": {"papermill": {"parameters": given}}}
    write_json(run.folder / "notebooks" / "01_data_preparation.ipynb", notebook)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Looked at only."""
    return prepared_run(tmp_path_factory.mktemp("run"))


def test_prepared_frames_are_counted_and_measured(run):
    found = doctor.diagnose(run.folder)
    assert found.kind == "a run of echo_lib"
    assert found.usable
    assert found.tables["Finished stages"].index.tolist() == ["prepared"]
    assert found.tables["Prepared frames"].loc["training"].tolist() == [2, 2, 2, 2]
    assert found.tables["Augmented label maps"].loc["validation"].tolist() == [2, 2, 2, 2]
    assert found.tables["Patients"]["patients"].to_dict() == {"training": 2, "validation": 1}
    values = found.tables["Sizes, spacing, grey values"]["median"]
    sizes = ["rows (px)", "columns (px)", "raw rows (px)", "raw columns (px)"]
    assert values[sizes].tolist() == [64, 64, 48, 40]
    assert values[["raw row spacing (mm)", "raw column spacing (mm)"]].tolist() == [0.2, 0.3]
    assert values["left atrium (%)"] == round(100 * 16 * 20 / 64**2, 2)  # 12 x 12 px, enlarged
    assert values["outside (%)"] == 0
    (missing,) = [remark for remark in found.remarks if remark.startswith("not finished yet")]
    assert missing.startswith("not finished yet: sdm/2CH, sdm/4CH, synthetic, comparison, pseudo")
    assert "prepared" not in missing


def test_the_next_command_is_the_run_s_own(run):
    words = shlex.split(doctor.diagnose(run.folder).next_command)
    assert words[:2] == ["make", "figures"]
    given = dict(word.split("=", 1) for word in words[2:])
    call = subprocess.run(
        ["make", "--dry-run", *words[1:]], cwd=PACKAGE.parent, capture_output=True, text=True,
        check=True, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
    ).stdout  # fmt: skip
    assert f'set="{given["SET"]}"' in call
    assert f'data_root="{run.data_root}" run_root="{run.run_root}"' in call
    overrides = parse_overrides(given.pop("SET").split())
    assert load_profile("smoke", overrides) == run.profile
    assert overrides["augmentation.translate"] == [0.0, 0.1]
    assert set(overrides) == {name.partition("=")[0] for name in OVERRIDES}
    assert given == {
        "PROFILE": "smoke", "SEED": "3", "RUN_ROOT": str(run.run_root),
        "DATA_ROOT": str(run.data_root),
    }  # fmt: skip


def test_a_stage_s_folder_stands_for_its_run(run):
    whole, stage = (doctor.diagnose(p) for p in (run.folder, run.folder / "prepared"))
    assert stage.usable
    assert stage.next_command == whole.next_command
    assert stage.tables["Prepared frames"].equals(whole.tables["Prepared frames"])


def test_one_image_in_two_splits_of_a_run_is_a_leak(tmp_path):
    run = prepared_run(tmp_path, same=("patient0001_2CH_ED", "patient0003_4CH_ES"))
    (problem,) = doctor.diagnose(run.folder).problems
    assert "patient0003_4CH_ES (training) = patient0001_2CH_ED (validation)" in problem


def test_an_altered_file_and_a_label_that_is_none(tmp_path):
    run = prepared_run(tmp_path)
    index = run.folder / "prepared" / "frames.csv"
    index.write_text(index.read_text() + "\n")
    (problem,) = doctor.diagnose(run.folder).problems
    assert "frames.csv: altered since stage 'prepared' finished" in problem
    run = prepared_run(tmp_path / "other")
    manifest = run.folder / "prepared" / "manifest.json"
    content = json.loads(manifest.read_text())
    (path, *_) = (name for name in content["outputs"] if "label_maps" in name)
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(run.folder / "prepared" / path)
    del content["outputs"][path]
    write_json(manifest, content)
    (problem,) = doctor.diagnose(run.folder).problems
    assert path in problem
    assert "9" in problem


def test_without_the_workflow_s_files_what_is_not_known_is_a_placeholder(tmp_path):
    run = prepared_run(tmp_path)
    (run.folder / "profile.yaml").unlink()
    (run.folder / "notebooks" / "01_data_preparation.ipynb").unlink()
    imported = {"origin": released_archive.ORIGIN}
    Stage.open(run, "synthetic", config={}, extra=imported).finish([])
    found = doctor.diagnose(run.folder)
    assert found.next_command == (
        f"make figures PROFILE=smoke SEED=3 RUN_ROOT='{run.run_root}' DATA_ROOT=/path/to/CAMUS "
        "ARCHIVE=/path/to/SDM_generated_data"
    )


def test_a_profile_that_no_set_can_name_is_given_as_the_run_s_file(tmp_path):
    run = prepared_run(tmp_path, overrides=[*OVERRIDES, "purpose=two words"])
    found = doctor.diagnose(run.folder)
    assert f"PROFILE='{run.folder / 'profile.yaml'}' SEED=3" in found.next_command
    assert "SET=" not in found.next_command
    write_text(run.folder / "profile.yaml", "name: smoke\nolder: 1\n")
    found = doctor.diagnose(run.folder)
    assert any("of another version of the library" in remark for remark in found.remarks)
    assert "PROFILE=smoke SEED=3" in found.next_command


def test_another_program_s_manifest_makes_no_run(tmp_path):
    write_json(tmp_path / "manifest.json", {"name": "a web page"})
    found = doctor.diagnose(tmp_path)
    assert not found.kind
    assert "holds none of what is known here" in found.problems[0]
