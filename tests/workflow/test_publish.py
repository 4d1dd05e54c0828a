"""What the repository shows comes from files: the README's numbers, the cards of the weights."""

import importlib
import io
import json
import re
import sys
from pathlib import Path

import pandas
import pytest

from echo_lib.checkpoints import load_weights
from echo_lib.config import as_yaml, load_profile
from echo_lib.evaluation import results
from echo_lib.provenance import Run, Stage, sha256_file
from echo_lib.rows import find_row

REPOSITORY = Path(__file__).resolve().parents[2]


# The scripts import each other from their own folder, as they do when one is run.
sys.path.insert(0, str(REPOSITORY / "workflow"))
blocks, publish = map(importlib.import_module, ("blocks", "publish"))


@pytest.mark.parametrize(("page", "count"), [("README.md", 9), ("docs/shortfall.md", 16)])
def test_pages_show_what_the_results_hold(page, count):
    assert page in publish.PAGES
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert len(blocks.BLOCK.findall(text)) == count
    assert blocks.updated(text, REPOSITORY / "results") == text


SHOWN = sorted((REPOSITORY / "results").rglob("manifest.json"))


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.parent.relative_to(REPOSITORY)))
def test_results_are_the_files_that_their_stage_wrote(path):
    outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"]
    found = {file.name: file for file in path.parent.glob("*.*")}
    known = set(found) & set(outputs)
    assert known
    for name in known:
        assert sha256_file(found[name]) == outputs[name], name


@pytest.mark.parametrize(
    "profile", sorted(path.name for path in (REPOSITORY / "results").iterdir() if path.is_dir())
)
def test_table_and_ledger_follow_from_the_cases_alone(profile):
    folder = REPOSITORY / "results" / profile
    run = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    rows = [find_row(slug) for slug in run["extra"]["rows"]]
    measured = results.read_back({"dice.csv": (folder / "dice.csv").read_text(encoding="utf-8")})
    tables = results.summaries(**measured, rows=rows, seed=run["seed"])
    for name in ("table", "ledger", "comparisons"):
        made = pandas.read_csv(io.StringIO(tables[name].to_csv(index=False)))
        shown = pandas.read_csv(folder / f"{name}.csv")
        pandas.testing.assert_frame_equal(made[list(shown)], shown, rtol=1e-4, atol=1e-4)


def test_readme_has_no_dice_outside_its_blocks():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert not re.findall(r"\d+\.\d ±", blocks.BLOCK.sub("", readme))


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "weights").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_weights_have_a_card_that_is_theirs(path):
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    header = load_weights(path)[1]
    assert sha256_file(path) in card
    if path.stem.startswith("segmentation_"):
        assert {"layers", "mean", "std", "variant"} <= set(header)
        assert f'row "{find_row(path.stem.removeprefix("segmentation_")).name}"' in card
        if "image_size_px" in header:  # older files leave it to their profile
            assert f"{header['image_size_px']} x {header['image_size_px']} px" in card
    else:
        training = header["training"]
        assert f"{training['steps']} steps of {training['batch_size']}" in card
    assert ("CC BY-NC-SA 4.0" in card) == ("CAMUS" in card)
    for part in ("Data", "Licence of these weights", "Recipe", "Limits"):
        assert f"* **{part}.** " in card
    assert "* **Not for** diagnosis" in card
    if "CAMUS" in card:  # what phantoms' weights came from is `make weights`
        for part in ("Compute", "Command", "Seed"):
            assert f"* **{part}.** " in card
        assert "doi 10.1109/TMI.2019.2900516" in card
    assert path.stat().st_size < 30e6
    samples = path.with_suffix(".png")
    assert (f"({samples.name})" in card) == samples.is_file()


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
    new = blocks.updated(text, tmp_path / "results")
    assert new == "<!-- results:table:smoke -->\n**T**\n\ntable.md\n<!-- end -->"


def test_block_of_seeds_by_hand(tmp_path):
    (tmp_path / "demo").mkdir()
    cases = [("sdm_all", 0, 0.8), ("sdm_all", 0, 0.9), ("sdm_all", 1, 0.7), ("real_all", 0, 0.9)]
    text = "row,seed,dice\n" + "".join(f"{row},{seed},{dice}\n" for row, seed, dice in cases)
    (tmp_path / "demo/dice.csv").write_text(text + "sdm_4ch_ed,0,1\nsdm_4ch_ed,1,1\n")
    lines = blocks.block("seeds:demo", tmp_path).splitlines()
    assert lines == [
        "| trained on | seed 0 | seed 1 |",
        "| --- | --- | --- |",
        "| All SDM frames | 85.0 | 70.0 |",
    ]


def test_blocks_of_fidelity_and_ledger_by_hand(tmp_path):
    folder = tmp_path / "demo"
    (folder / "fidelity").mkdir(parents=True)
    (folder / "fidelity" / "summary.csv").write_text(
        "generator,measure,unit,n_images,n_patients,mean,low,high\n"
        "sdm,mean_dice,share,20,4,0.85,0.8,0.9\ncyclegan,mean_dice,share,20,4,0.5,0.25,0.75\n"
        + "".join(f"sdm,{m},px,20,4,1,0,2\n" for m in blocks.MEASURES if m != "mean_dice")
    )
    lines = blocks.block("fidelity:demo", tmp_path).splitlines()
    assert lines[0].endswith("| SDM (20 images) | CycleGAN (20 images) |")
    assert lines[2] == "| Dice to the map, % | 85.0 (80.0 to 90.0) | 50.0 (25.0 to 75.0) |"
    assert lines[3] == "| contour distance, px | 1.0 (0.0 to 2.0) | – |"
    (folder / "ledger.csv").write_text(
        "tested_on,paper,verdict\nown,91.3,above\nown,94.0,above\nown,82.6,not run\n"
        "own,,no number in the paper\nall,91.3,below\n"
    )
    assert blocks.block("ledger:demo", tmp_path) == (
        "Of Table 1's 3 cells, by the ledger: 2 above, 1 not run.\n"
    )
    assert blocks.block("fidelity:none", tmp_path) == "Not measured yet.\n"
    with pytest.raises(ValueError, match="'figures:demo': expected one of table, times"):
        blocks.block("figures:demo", tmp_path)


def test_times_tell_of_notebooks_and_of_sampling(tmp_path):
    (tmp_path / "run/notebooks").mkdir(parents=True)
    for name, duration in (("01_data", 12.34), ("07_studio", 41.0), ("02_sdm", None)):
        notebook = {"metadata": {"papermill": {"duration": duration}}}
        (tmp_path / f"run/notebooks/{name}.ipynb").write_text(json.dumps(notebook))
    seconds = publish.notebook_seconds(tmp_path / "run/notebooks")
    assert seconds == {"01_data": 12.3, "07_studio": 41.0}
    made = {"images": 64, "images_per_second_of_a_process": 3.21, "seconds_sampling": 20.0}
    record = {"stage_seconds": {"sdm/2CH": 2.0, "sdm/4CH": 3.0}, "wall_seconds": 90, "cpu_cores": 2}
    record |= {"note": "", "notebook_seconds": seconds, "synthetic": made | {"computed_in": "x"}}
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/run.json").write_text(json.dumps(record))
    text = blocks.block("times:demo", tmp_path)
    assert "| sdm | 5 |" in text
    assert "1.5 minutes in all on 2 CPU cores" in text
    assert "included: 01 12, 07 41." in text
    assert "Sampling: 64 images, 3.2 a second and process, in x." in text


def test_block_of_speed_by_hand(tmp_path):
    folder = tmp_path / "benchmarks/results"
    folder.mkdir(parents=True)
    sdm = {"what": "step, cached", "precision": "float32", "of_uncached": 0.6, "of_matmul": 0.9}
    rows = [sdm, sdm | {"precision": "bfloat16", "of_uncached": 0.1}]
    (folder / "sdm_paper_here.json").write_text(json.dumps({"rows": rows}))
    rows = [
        {"what": "data path", "how": how, "of_plain": n} for how, n in (("library", 5), ("x", 1))
    ]
    (folder / "segmentation_demo_here.json").write_text(json.dumps({"rows": rows}))
    lines = blocks.block("speed", tmp_path / "results").splitlines()
    assert lines[2].endswith("of one without cache | – | 0.60 |")
    assert lines[5].endswith("of a plain loop's | 5.00 | – |")
    assert len(lines) == 2 + len(blocks.SPEEDS)


def test_block_of_ablations_by_hand(tmp_path):
    folder = tmp_path / "demo/ablations/ed"
    folder.mkdir(parents=True)
    (folder / "ledger.csv").write_text(
        "row,tested_on,structure,ours,low,high\nsdm_all,all,Mean,87,86,88\nsdm_all,own,Mean,1,1,1\n"
    )
    dice = "\n".join(
        f"sdm_all,{seed},{phase},{value}"
        for seed, phase, value in ((0, "ED", 0.9), (1, "ED", 0.8), (0, "ES", 0.7))
    )
    (folder / "dice.csv").write_text(f"row,seed,phase,dice\n{dice}\nreal_all,2,ES,0.1\n")
    lines = blocks.block("ablations:demo", tmp_path).splitlines()
    words = blocks.shortfall.COMPARED["ablations"]["ablations/ed", "sdm_all"]
    assert lines[2:] == [f"| {words} | 2 | 87.0 (86.0 to 88.0) | 85.0 | 70.0 |"]
    assert len(blocks.block("lengths:demo", tmp_path).splitlines()) == 2  # none of them was run


def test_block_of_copies_by_hand(tmp_path):
    (tmp_path / "demo/copies").mkdir(parents=True)
    (tmp_path / "demo/copies/summary.csv").write_text(
        "group,view,n,mean,percentile_95,largest,own\nreal frames,2CH,7,0.5,0.8,0.9,0.25\n"
    )
    lines = blocks.block("copies:demo", tmp_path).splitlines()
    assert lines[2:] == ["| real frames | 2CH | 7 | 0.500 | 0.800 | 0.900 | 25 % |"]


def test_block_of_generalisation_by_hand(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/generalisation.csv").write_text(
        "view,phase,split,n,mse,weights_sha256\n"
        "2CH,ED,training,9,0.0018,ab\n2CH,ED,validation,9,0.03,ab\n4CH,ED,training,9,0.002,cd\n"
    )
    lines = blocks.block("generalisation:demo", tmp_path).splitlines()
    assert lines[0] == "| 1000 x squared error | training patients | validation patients |"
    assert lines[2:] == ["| 2CH ED | 1.8 | 30.0 |", "| 4CH ED | 2.0 | – |"]


def test_errors_on_frames_held_out_are_those_of_the_shipped_weights():
    lines = pandas.read_csv(REPOSITORY / "results/reduced-cpu/generalisation.csv")
    for view, found in lines.groupby("view"):
        shipped = REPOSITORY / f"weights/camus_{view}.safetensors"
        assert set(found["weights_sha256"]) == {sha256_file(shipped)}


def test_wall_time_leaves_out_long_pauses():
    assert publish.wall_seconds([(0, 10), (5, 20), (600, 700)]) == 700
    assert publish.wall_seconds([(10_000, 10_050), (0, 10), (5, 20)]) == 70
    assert publish.wall_seconds([(100, 400), (200, 300)]) == 300


def test_block_of_sets_by_hand(tmp_path):
    (tmp_path / "demo/fidelity").mkdir(parents=True)
    (tmp_path / "demo/fidelity/sets.csv").write_text(
        "generator,measure,unit,n_images,n_patients,mean,low,high,set\n"
        "real,mean_dice,share,10,4,0.9,0.85,0.95,2CH ED\n"
        "sdm,mean_dice,share,20,4,0.85,0.8,0.9,2CH ED\n"
        "sdm,mean_distance,px,20,4,2,1,3,2CH ED\n"
    )
    assert blocks.block("sets:demo", tmp_path).splitlines()[2:] == [
        "| 2CH ED | 90.0 (85.0 to 95.0), 10 images | 85.0 (80.0 to 90.0), 20 images | – |"
    ]


def test_blocks_of_rows_and_strata_by_hand(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "ledger.csv").write_text(
        "row,name,tested_on,structure,ours,low,high,n_seeds,verdict\n"
        "sdm_all,All SDM frames,all,Mean,87.04,86.5,87.5,2,below\n"
        "sdm_all,All SDM frames,own,Mean,1,1,1,2,below\n"
        "sdm_4ch_ed,SDM 4CH ED,all,Mean,1,1,1,2,below\n"
        "real_05,few,all,Mean,,,,0,not run\n"
    )
    rows = blocks.block("rows:demo", tmp_path).splitlines()
    assert rows[2:] == ["| All SDM frames | 2 | 87.0 (86.5 to 87.5) |"]
    (folder / "table.csv").write_text(
        "row,name,tested_on,structure,status,mean\n"
        "sdm_all,All SDM frames,all,Mean,run,88.22\n"
        "sdm_all,All SDM frames,own,Mean,run,1\n"
        "cyclegan_all,CycleGAN,all,Mean,not run,\n"
        "sdm_2ch_es,SDM 2CH ES,all,Mean,run,1\n"
    )
    assert blocks.block("means:demo", tmp_path).splitlines()[2:] == ["| All SDM frames | 88.2 |"]
    (folder / "comparisons.csv").write_text(
        "row,other,structure,n_patients,difference,low,high,p_holm\n"
        "sdm_all,real_all,Mean,50,-1.26,-2.5,0.5,0.034\n"
        "sdm_then_real,sdm_all,Mean,50,2,1,3,0.001\n"
        "sdm_then_real,sdm_all,LA,50,9,9,9,0.5\n"
        "sdm_4ch_ed,sdm_all,Mean,50,9,9,9,0.5\n"
    )
    against = blocks.block("against:demo", tmp_path).splitlines()
    assert against[2:] == [
        "| All real CAMUS frames | 50 | +1.3 (-0.5 to +2.5) | 0.034 |",
        "| SDM, then real | 50 | +2.0 (+1.0 to +3.0) | 0.001 |",
    ]
    lines = [
        f"{row},view,2CH,{structure},{mean}"
        for row, mean in (("sdm_all", 85), ("real_all", 87.5))
        for structure in ("LV endo", "LV epi", "LA", "Mean")
    ]
    (folder / "strata.csv").write_text("row,by,stratum,structure,mean\n" + "\n".join(lines))
    strata = blocks.block("strata:demo", tmp_path).splitlines()
    assert strata[2] == "| view: 2CH |" + 4 * " 85.0, 87.5 (-2.5) |"
