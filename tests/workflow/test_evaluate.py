"""Finished weights on a CAMUS folder, which phantoms stand for, in one command."""

import importlib.util
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import SimpleITK

from echo_lib.checkpoints import load_weights, save_weights
from echo_lib.config import load_profile
from echo_lib.data import originals, phantom
from echo_lib.data.prepare import prepare
from echo_lib.evaluation import metrics, results, volumes
from echo_lib.labels import STRUCTURES
from echo_lib.provenance import Run, Stage, sha256_file
from echo_lib.rows import PAPER_ROWS, find_row
from echo_lib.segmentation.prediction import predict_rows

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS = REPOSITORY / "weights/segmentation_real_all.safetensors"
TEST_PATIENTS = ("patient0003", "patient0004")


def load():
    path = REPOSITORY / "workflow/evaluate.py"
    spec = importlib.util.spec_from_file_location("evaluate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


evaluate = load()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    phantom.write_cohort(root, training=1, validation=1, test=2, seed=3)
    return root


@pytest.fixture(scope="module")
def evaluated(cohort, tmp_path_factory):
    """The shipped network of real frames on the cohort's test split: where the files lie."""
    output = tmp_path_factory.mktemp("evaluated")
    evaluate.main(command_line(cohort, output))
    return output


def command_line(root, output, *weights):
    arguments = ["--data-root", str(root), "--split", "test", "--output", str(output)]
    return [*arguments, "--weights", *map(str, weights or (WEIGHTS,))]


def scores(output, row="real_all"):
    cases = pd.read_csv(output / "dice.csv")
    return cases[cases["row"] == row]["dice"].tolist()


def variant_of(path, **header):
    """The shipped network under another name, its header changed; a value of None is left out."""
    tensors, known = load_weights(WEIGHTS)
    known = {key: value for key, value in (known | header).items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, tensors, metadata=known)
    return path


@pytest.mark.filterwarnings("ignore:identical images")
def test_it_measures_what_a_run_measures_on_the_same_frames(cohort, evaluated, tmp_path):
    overrides = {"name": "tiny", "augmentation.maps_per_frame": 1, "data.image_size_px": 128}
    run = Run(load_profile("paper", overrides), 0, cohort, tmp_path)
    prepare(run)
    stage = Stage.open(run, "segmentation/real_all-0", config={})
    shutil.copy(WEIGHTS, stage.folder / "weights.safetensors")
    stage.finish([stage.folder / "weights.safetensors"])
    found = predict_rows(run, rows=[find_row("real_all")])
    masks = originals.load(run, found.index)
    references = (masks.label_maps, masks.spacing_mm)
    cases = metrics.measure(
        found.label_maps["real_all", 0], found.truths, found.index,
        row="real_all", originals=references,
    )  # fmt: skip
    ejection = volumes.network_volumes(
        found.label_maps, found.index, originals=references, info=masks.ejection_fraction
    )
    assert cases["dice"].between(0.2, 0.99).all()
    assert ejection["info_ef_percent"].notna().all()
    for name, text in results.measured_texts(cases, volumes=ejection).items():
        assert (evaluated / name).read_text(encoding="utf-8") == text


def test_tables_repeat_the_cases_and_say_what_was_not_run(evaluated):
    cases = pd.read_csv(evaluated / "dice.csv")
    assert len(cases) == 2 * 4 * len(STRUCTURES)
    assert {"dice_original", "hd95", "mean_distance", "area_error_percent"} <= set(cases)
    assert set(cases["unit"]) == {"mm"}
    table = pd.read_csv(evaluated / "table.csv")
    assert list(table["row"].unique()) == [row.slug for row in PAPER_ROWS]
    run = table[table["status"] == "run"]
    assert set(run["row"]) == {"real_all"}
    means = run[run["tested_on"] == "own"].set_index("structure")["mean"]
    expected = 100 * cases.groupby("structure")["dice"].mean()
    for structure in STRUCTURES:
        assert means[structure] == pytest.approx(expected[structure], abs=1e-3)
    ledger = pd.read_csv(evaluated / "ledger.csv")
    assert (ledger["verdict"] == "not run").sum() == 6 * 2 * 4 + 2  # rows, test sets; EchoNet
    title = (evaluated / "table.md").read_text(encoding="utf-8").splitlines()[0]
    stamp = "weights of profile reduced-cpu · phantoms in place of CAMUS · test split"
    assert title == f"**Table 1. Dice of the segmentation networks · {stamp}**"


def test_the_record_says_what_the_tables_were_made_from(cohort, evaluated):
    record = json.loads((evaluated / "evaluation.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("python workflow/evaluate.py --data-root ")
    data = record["data"]
    assert (data["release"], data["split"]) == ("current", "test")
    assert (data["patients"], data["frames"], data["duplicate_images"]) == (2, 8, [])
    assert record["weights"] == [
        {
            "file": WEIGHTS.name, "row": "real_all", "seed": 0, "profile": "reduced-cpu",
            "image_size_px": 128, "sha256": sha256_file(WEIGHTS),
        }
    ]  # fmt: skip
    assert {"commit", "dirty", "versions", "device", "seconds"} <= set(record)
    files = {path.name for path in evaluated.iterdir()}
    assert files == {"evaluation.json", *record["outputs"]}
    for name, digest in record["outputs"].items():
        assert sha256_file(evaluated / name) == digest


@pytest.mark.filterwarnings("ignore:identical images")
def test_several_seeds_of_a_row_are_one_line(cohort, evaluated, tmp_path):
    again = variant_of(tmp_path / "1" / WEIGHTS.name, stage="segmentation/real_all-1")
    evaluate.main(command_line(cohort, tmp_path / "out", WEIGHTS, again))
    one, two = (pd.read_csv(folder / "dice.csv") for folder in (evaluated, tmp_path / "out"))
    assert two["seed"].value_counts().to_dict() == {0: len(one), 1: len(one)}
    assert "| All real CAMUS frames | 8, 2 seeds |" in (tmp_path / "out/table.md").read_text()


def current_release(cohort, root):
    for patient in TEST_PATIENTS:
        shutil.copytree(cohort / "database_nifti" / patient, root / "database_nifti" / patient)
    (root / "database_split").mkdir()
    shutil.copy(cohort / "database_split/subgroup_testing.txt", root / "database_split")


def first_release(cohort, root):
    for patient in TEST_PATIENTS:
        for path in (cohort / "database_nifti" / patient).glob("*.nii.gz"):
            target = root / "testing" / patient / path.name.replace(".nii.gz", ".mhd")
            target.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(target))


@pytest.mark.parametrize("release", [current_release, first_release])
def test_a_folder_of_test_patients_alone_will_do(cohort, evaluated, tmp_path, release, capsys):
    release(cohort, tmp_path / "test_only")
    evaluate.main(command_line(tmp_path / "test_only", tmp_path / "out"))
    assert scores(tmp_path / "out") == scores(evaluated)
    shown = capsys.readouterr().out
    assert "weights of profile reduced-cpu · CAMUS · test split" in shown
    assert "CycleGAN [6] all frames  not run" in shown
    line = next(line for line in shown.splitlines() if line.startswith("All real CAMUS frames"))
    assert f"{100 * sum(scores(evaluated)) / 24:.1f} ±" in line  # the mean of all, in the last cell


def test_all_shipped_networks_are_taken_each_in_its_own_size(
    cohort, evaluated, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate, "REPOSITORY", tmp_path)
    names = [
        tmp_path / f"weights/segmentation_{row}.safetensors" for row in ("real_all", "real_50")
    ]
    variant_of(names[0])
    variant_of(names[1], image_size_px=192, stage="segmentation/real_50-4", profile=None)
    arguments = command_line(cohort, tmp_path / "out")
    evaluate.main(arguments[: arguments.index("--weights")])
    record = json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))
    sizes = {found["row"]: found["image_size_px"] for found in record["weights"]}
    assert sizes == {"real_all": 128, "real_50": 192}
    assert scores(tmp_path / "out") == scores(evaluated)
    assert scores(tmp_path / "out", "real_50") != scores(evaluated)
    cases = pd.read_csv(tmp_path / "out/dice.csv")
    assert set(cases[cases["row"] == "real_50"]["seed"]) == {4}
    table = pd.read_csv(tmp_path / "out/table.csv")
    assert list(table["row"].unique()) == [*(row.slug for row in PAPER_ROWS), "real_50"]
    evaluate.main([*command_line(cohort, tmp_path / "other", names[1]), "--image-size", "128"])
    assert scores(tmp_path / "other", "real_50") == scores(evaluated)


def test_a_folder_without_the_split_or_with_an_empty_one(cohort, tmp_path):
    current_release(cohort, tmp_path / "camus")
    arguments = command_line(tmp_path / "camus", tmp_path / "out")
    arguments[3] = "validation"
    with pytest.raises(SystemExit, match=r"split 'validation' is not there \(found: test\)"):
        evaluate.main(arguments)
    (tmp_path / "camus/database_split/subgroup_validation.txt").write_text("")
    with pytest.raises(SystemExit, match="split 'validation' has no patients; expected one or m"):
        evaluate.main(arguments)
    with pytest.raises(SystemExit, match="no such folder; set data_root to CAMUS"):
        evaluate.main(command_line(tmp_path / "nowhere", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        ("network", {}, r"expected a file called segmentation_<row>.safetensors"),
        ("segmentation_unreal", {}, r"segmentation_unreal.safetensors: row 'unreal' not found"),
        (
            "segmentation_real_all",
            {"image_size_px": None, "profile": "mine"},
            r"no image_size_px, and profile 'mine' not",
        ),
        (
            "segmentation_real_all",
            {"image_size_px": None, "profile": None},
            r"not known: .* give --image-size",
        ),
        ("segmentation_real_all", {"image_size_px": 100}, r"image of 100 x 100 px, 7 layers"),
        ("segmentation_real_all", {"mean": None}, r"header lacks mean"),
    ],
)
def test_weights_that_cannot_be_used(cohort, tmp_path, name, header, message):
    path = variant_of(tmp_path / f"{name}.safetensors", **header)
    with pytest.raises(SystemExit, match=message) as raised:
        evaluate.main(command_line(cohort, tmp_path / "out", path))
    assert str(path) in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_missing_or_twice_there(cohort, tmp_path, monkeypatch):
    missing = tmp_path / "segmentation_sdm_all.safetensors"
    with pytest.raises(SystemExit, match=r"sdm_all.safetensors: no readable safetensors file"):
        evaluate.main(command_line(cohort, tmp_path / "out", missing))
    again = variant_of(tmp_path / "segmentation_real_all.safetensors")
    with pytest.raises(SystemExit, match="several files of row real_all, seed 0; expected"):
        evaluate.main(command_line(cohort, tmp_path / "out", WEIGHTS, again))
    other = variant_of(tmp_path / "2" / WEIGHTS.name, stage="segmentation/real_all-1", profile="x")
    with pytest.raises(SystemExit, match="files of row real_all of several profiles"):
        evaluate.main(command_line(cohort, tmp_path / "out", WEIGHTS, other))
    monkeypatch.setattr(evaluate, "REPOSITORY", tmp_path / "bare")
    arguments = command_line(cohort, tmp_path / "out")
    with pytest.raises(SystemExit, match=r"bare/weights: no segmentation_.* name files with --wei"):
        evaluate.main(arguments[: arguments.index("--weights")])


def test_a_broken_frame_is_named(cohort, tmp_path):
    current_release(cohort, tmp_path / "camus")
    path = tmp_path / "camus/database_nifti/patient0004/patient0004_4CH_ES.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SystemExit, match=r"4CH_ES.nii.gz: cannot be read .* the file is truncated"):
        evaluate.main(command_line(tmp_path / "camus", tmp_path / "out"))
