import dataclasses

import numpy as np
import pandas as pd
import pytest

from echo_lib.config import load_profile
from echo_lib.evaluation import results
from echo_lib.evaluation import table as tables
from echo_lib.labels import STRUCTURES
from echo_lib.provenance import Run, Stage, StageError, require
from echo_lib.rows import PAPER_ROWS

FRAMES = (("2CH", "ED"), ("2CH", "ES"), ("4CH", "ED"), ("4CH", "ES"))
ALWAYS = [
    "comparisons.csv", "contradictions.csv", "dice.csv", "ledger.csv", "ledger.md", "table.csv",
    "table.md",
]  # fmt: skip


def make_cases(row, values, *, seed=0):
    """One patient per tuple of ``values`` (endo, epi, LA in %), on all frames."""
    return pd.DataFrame(
        {"row": row, "seed": seed, "name": f"p{n}_{view}_{phase}", "patient": f"p{n}", "view": view,
         "phase": phase, "structure": structure, "dice": score / 100}
        for n, scores in enumerate(values)
        for view, phase in FRAMES
        for structure, score in zip(STRUCTURES, scores, strict=True)
    )  # fmt: skip


def measured(cases, hd95=2.0, unit="mm"):
    return cases.assign(
        dice_original=cases["dice"],
        hd95=hd95,
        mean_distance=1.0,
        area_error_percent=-5.0,
        unit=unit,
    )


def make_volumes(row, fractions, *, masks, info):
    lines = {"row": row, "seed": 0, "patient": [f"p{n}" for n in range(len(fractions))]}
    lines |= {"edv_ml": 100.0, "esv_ml": 100.0 - np.array(fractions), "ef_percent": fractions}
    lines |= {"unit": "mm", "mask_edv_ml": 90.0, "mask_esv_ml": 90.0 - 0.9 * np.array(masks)}
    return pd.DataFrame(lines | {"mask_ef_percent": masks, "info_ef_percent": info})


@pytest.fixture
def run(tmp_path):
    profile = dataclasses.replace(load_profile("smoke"), name="tiny")
    run = Run(profile, 0, None, tmp_path)
    for name in ("prepared", "segmentation/real_all-0"):
        Stage.open(run, name, config={}).finish([])
    return run


VALUES = [(90, 94, 80), (80, 90, 60)]


def test_results_are_written_with_a_manifest(run, capsys):
    found = results.write_results(run, make_cases("real_all", VALUES))
    folder = run.folder / "evaluation"
    manifest = require(run, "evaluation")
    assert sorted(manifest["outputs"]) == ALWAYS
    assert manifest["facts"] == {"real_all": pytest.approx((85 + 92 + 70) / 3)}
    pd.testing.assert_frame_equal(tables.read_table(run.folder), found["table"], rtol=1e-5)
    first = (folder / "table.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.endswith(f"{run.profile.stamp}**")
    tables.main([str(run.folder)])
    printed = capsys.readouterr().out
    assert printed.startswith("Table 1. Dice of the segmentation networks · profile tiny")
    assert "85.0 ± 5.0 (87.8 ± 6.8)" in printed


def test_everything_that_was_measured_is_written(run):
    cases = measured(make_cases("real_all", VALUES))
    volumes = make_volumes("real_all", [50, 60], masks=[52, 64], info=[51, 60])
    videos = pd.DataFrame({"name": ["a", "b"], "dice": [0.9, 0.8]})
    results.write_results(run, cases, volumes=volumes, echonet=videos)
    folder = run.folder / "evaluation"
    more = ["agreement.csv", "distances.csv", "echonet.csv", "volumes.csv"]
    assert sorted(require(run, "evaluation")["outputs"]) == sorted([*ALWAYS, *more])
    text = (folder / "ledger.md").read_text(encoding="utf-8")
    assert text.startswith(f"**Reproduction ledger · {run.profile.stamp}**")
    for part in (
        "| All real CAMUS frames | LA | 8 (0 undefined) | 70.0 ± 10.0 | 2.0 ± 0.0 | 1.0 ± 0.0 | mm",
        "| All real CAMUS frames | 0 | EF, % | masks | 2 (0 left out) | -3.0 | -5.8 to -0.2 |",
        "| Experts' masks | 0 | EF, % | Info files | 2 (0 left out) | +2.5 |",
        "| relative gain over CycleGAN, %: LA | abstract | 13.9 | 19.50 | no |",
        "| SDM 4 Chamber ED | LV endo | 91.3 ± 4.4 | not run |",
    ):
        assert part in text
    pd.testing.assert_frame_equal(pd.read_csv(folder / "dice.csv"), cases, check_dtype=False)


def test_equal_results_are_equal_files(run):
    digests = set()
    for _ in range(2):
        results.write_results(run, measured(make_cases("real_all", VALUES)))
        digests.add(require(run, "evaluation")["outputs_digest"])
    results.write_results(run, measured(make_cases("real_all", VALUES), hd95=3.0))
    digests.add(require(run, "evaluation")["outputs_digest"])
    assert len(digests) == 2


def test_extra_rows_of_the_profile_stand_below(run):
    segmentation = dataclasses.replace(run.profile.segmentation, extra_rows=("real_25",))
    run = dataclasses.replace(
        run, profile=dataclasses.replace(run.profile, segmentation=segmentation)
    )
    found = results.write_results(run, make_cases("real_all", VALUES))
    assert found["table"]["row"].unique().tolist()[-1] == "real_25"
    assert "| Real, 25 % of patients | not run |" in (
        run.folder / "evaluation" / "table.md"
    ).read_text(encoding="utf-8")


def test_a_trained_row_that_the_profile_lacks_is_not_lost(run):
    Stage.open(run, "segmentation/real_05-0", config={}).finish([])
    both = pd.concat([make_cases("real_all", VALUES), make_cases("real_05", VALUES)])
    found = results.write_results(run, both)["table"]
    assert (found.loc[found["row"] == "real_05", "status"] == "run").all()


def test_cases_of_a_network_that_was_not_trained_are_refused(run):
    with pytest.raises(StageError, match="segmentation/sdm_all-0"):
        results.write_results(run, make_cases("sdm_all", VALUES))
    with pytest.raises(ValueError, match=r"rows \['mine'\]"):
        results.write_results(run, make_cases("mine", VALUES))


def test_undefined_distances_are_counted():
    cases = measured(make_cases("sdm_4ch_ed", VALUES))
    own = (cases["view"] == "4CH") & (cases["phase"] == "ED") & (cases["structure"] == "LA")
    cases.loc[own, "hd95"] = [4.0, np.nan]
    table = results.summarise_distances(cases, rows=PAPER_ROWS).set_index("structure")
    assert (table.loc["LA", "n"], table.loc["LA", "n_undefined"]) == (2, 1)
    assert (table.loc["LA", "hd95"], table.loc["LV epi", "hd95"]) == (4, 2)
    assert table.loc["LV endo", "dice_original"] == pytest.approx(0.85)


def test_volumes_are_compared_with_both_references():
    volumes = make_volumes("sdm_all", [50, 60, np.nan], masks=[52, 64, 40], info=[50, 58, np.nan])
    table = results.summarise_volumes(volumes, rows=PAPER_ROWS)
    keys = table[["row", "measure", "against"]].to_numpy().tolist()
    assert keys == [
        ["sdm_all", "ef_percent", "mask_ef_percent"],
        ["sdm_all", "ef_percent", "info_ef_percent"],
        ["sdm_all", "edv_ml", "mask_edv_ml"],
        ["sdm_all", "esv_ml", "mask_esv_ml"],
        ["masks", "ef_percent", "info_ef_percent"],
    ]
    # -2 and -4; 0 and 2; 10 each
    assert table["bias"].tolist()[:3] == pytest.approx([-3, 1, 10])
    assert table["n"].tolist() == [2, 2, 3, 2, 2]
    assert table["n_undefined"].tolist() == [1, 1, 0, 1, 1]
    assert table["bias"].iloc[4] == pytest.approx(4)


def test_described_frames_become_strata(run):
    cases = make_cases("real_all", VALUES)
    names = cases["name"].unique()
    frames = pd.DataFrame({"name": names, "contrast": range(len(names)), "fidelity": np.nan})
    found = results.write_results(run, cases, frames=frames)["strata"]
    assert set(found["by"]) == {"view", "phase", "contrast"}
    written = pd.read_csv(run.folder / "evaluation/strata.csv")
    assert written["mean"].tolist() == pytest.approx(found["mean"].tolist(), rel=1e-5)
    assert pd.read_csv(run.folder / "evaluation/frames.csv")["name"].tolist() == list(names)
