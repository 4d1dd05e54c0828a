"""The tables of docs/shortfall.md: rows, differences, strata, ablations, copies."""

import csv
import io
import statistics

import markdown_tables

from echo_lib.labels import PHASES
from echo_lib.rows import ROWS, find_row

# Networks of one view and phase: their place is Table 1.
SINGLE = {row.slug for row in ROWS if row.view is not None}
COPIES = {"mean": "mean", "percentile_95": "95th percentile", "largest": "largest"}
GENERATORS = {"real": "real frames", "sdm": "SDM", "cyclegan": "CycleGAN"}
# Kind of a block to the networks that it compares: folder of ``results/<profile>`` and row to what
# sets the network apart.
LONG, EQUAL = "ablations/long_sdm", "earlier/d9b8427"
COMPARED = {
    # all take one map of each frame
    "ablations": {
        (EQUAL, "sdm_all_one_map"): "as in the run before this one",
        ("ablations/dpm_solver_pp", "sdm_all"): "images sampled by DPM-Solver++, 15 steps",
        ("ablations/ed", "sdm_all"): "SDMs trained for 200 steps, at twice the rate, on ED frames",
        ("ablations/ed_es", "sdm_all"): "the same, on ED and ES frames",
        (LONG, "sdm_all_one_map"): "SDMs trained for 4,700 steps of 128 images",
        ("ablations/plain_maps", "sdm_all"): "the same SDMs, maps not transformed",
    },
    "lengths": {
        ("", "sdm_all"): "All SDM frames",
        ("", "sdm_all_shorter"): "the same, a fifth as long: as many images as of real frames",
        ("", "real_all"): "All real frames",
        ("", "real_all_longer"): "the same, twice as long",
        ("ablations/every_image", "sdm_all"): "40 epochs: All SDM frames",
        (EQUAL, "sdm_all"): "40 epochs: the same, as many images as of real frames",
        (EQUAL, "sdm_all_longer"): "40 epochs: the same, twice as many",
        (EQUAL, "real_all"): "40 epochs: All real frames",
        (EQUAL, "real_all_longer"): "40 epochs: the same, twice as long",
        (LONG, "sdm_all"): "40 epochs, SDMs trained for long: as many images as of real frames",
        ("ablations/long_sdm_every_image", "sdm_all"): "40 epochs, the same SDMs: every image",
    },
}


def rows(text):
    """Mean Dice of every row that was tested on all frames, with its interval."""
    cells = markdown_tables.cells(text, tested_on="all", structure="Mean")
    lines = [
        [line["name"], line["n_seeds"], markdown_tables.interval(line | {"mean": line["ours"]}, 1)]
        for line in cells
        if line["verdict"] != "not run" and line["row"] not in SINGLE
    ]
    return markdown_tables.table(["trained on", "seeds", "mean Dice, % (95 % interval)"], lines)


def means(text):
    """Mean Dice of every row that was tested on all frames, of a run without a ledger."""
    cells = markdown_tables.cells(text, tested_on="all", structure="Mean", status="run")
    lines = [
        [line["name"], f"{float(line['mean']):.1f}"] for line in cells if line["row"] not in SINGLE
    ]
    return markdown_tables.table(["trained on", "mean Dice, %"], lines)


def seeds(text):
    """Mean Dice on all frames of each network of the rows that have several seeds."""
    found = {}
    for x in csv.DictReader(io.StringIO(text)):
        if x["row"] not in SINGLE:
            by_seed = found.setdefault(find_row(x["row"]).name, {})
            by_seed.setdefault(int(x["seed"]), []).append(100 * float(x["dice"]))
    found = {name: by_seed for name, by_seed in found.items() if len(by_seed) > 1}
    head = sorted({seed for by_seed in found.values() for seed in by_seed})
    lines = [
        [name, *(f"{statistics.fmean(by_seed[s]):.1f}" if s in by_seed else "–" for s in head)]
        for name, by_seed in found.items()
    ]
    return markdown_tables.table(["trained on", *(f"seed {seed}" for seed in head)], lines)


def against(text):
    """Paired differences of every row from the network of all SDM frames."""
    cells = markdown_tables.cells(text, other="sdm_all", structure="Mean")
    # A pair is compared once: that of the two references stands the other way round.
    for line in markdown_tables.cells(text, row="sdm_all", other="real_all", structure="Mean"):
        turned = {"difference": "difference", "low": "high", "high": "low"}
        turned = {key: -float(line[value]) for key, value in turned.items()}
        cells.insert(0, line | turned | {"row": "real_all"})
    lines = []
    for line in (line for line in cells if line["row"] not in SINGLE):
        points = markdown_tables.interval(line | {"mean": line["difference"]}, 1, sign="+")
        name, p = find_row(line["row"]).name, float(line["p_holm"])
        lines.append([name, line["n_patients"], points, f"{p:.2g}"])
    return markdown_tables.table(
        ["row", "patients", "minus All SDM frames, points", "p, Holm"], lines
    )


def compared(folder, networks):
    """Networks of runs that differ in one thing, by phase of the frames; a line for each."""
    lines = []
    for (name, row), words in networks.items():
        place = folder / name
        if not (place / "ledger.csv").is_file():
            continue
        wanted = {"row": row, "tested_on": "all", "structure": "Mean"}
        cells = markdown_tables.cells((place / "ledger.csv").read_text(encoding="utf-8"), **wanted)
        if not cells:
            continue
        whole = cells[0]
        cases = markdown_tables.cells((place / "dice.csv").read_text(encoding="utf-8"), row=row)
        by_phase = [
            f"{100 * statistics.fmean(float(x['dice']) for x in cases if x['phase'] == phase):.1f}"
            for phase in PHASES
        ]
        seeds = str(len({x["seed"] for x in cases}))
        lines.append(
            [words, seeds, markdown_tables.interval(whole | {"mean": whole["ours"]}, 1), *by_phase]
        )
    return markdown_tables.table(
        ["network", "seeds", "mean Dice, % (95 % interval)", *PHASES], lines
    )


def strata(text):
    """Where All SDM frames and All real frames part, by stratum: mean Dice and LA."""
    lines, keys = (
        [],
        dict.fromkeys((x["by"], x["stratum"]) for x in markdown_tables.cells(text, row="sdm_all")),
    )
    for by, stratum in keys:
        numbers = []
        for structure in ("LV endo", "LV epi", "LA", "Mean"):
            place = {"by": by, "stratum": stratum, "structure": structure}
            sdm, real = (
                float(markdown_tables.cells(text, row=row, **place)[0]["mean"])
                for row in ("sdm_all", "real_all")
            )
            numbers.append(f"{sdm:.1f}, {real:.1f} ({sdm - real:+.1f})")
        lines.append([f"{by}: {stratum}", *numbers])
    return markdown_tables.table(["frames", "LV endo", "LV epi", "LA", "Mean"], lines)


def sets(text):
    """Dice to the map of each generator, by view and phase."""
    cells = markdown_tables.cells(text, measure="mean_dice")
    names, found = list(dict.fromkeys(x["set"] for x in cells)), {}
    for line in cells:
        told = f"{markdown_tables.interval(line, 100)}, {line['n_images']} images"
        found[line["set"], line["generator"]] = told
    lines = [[name, *(found.get((name, g), "–") for g in GENERATORS)] for name in names]
    return markdown_tables.table(["view and phase", *GENERATORS.values()], lines)


def copies(text):
    """Correlation with the nearest training frame, of synthetic images and of real ones."""
    lines = [
        [x["group"], x["view"], x["n"], *(f"{float(x[k]):.3f}" for k in COPIES), _own(x["own"])]
        for x in csv.DictReader(io.StringIO(text))
    ]
    head = ["images", "view", "number", *COPIES.values(), "nearest is the map's own frame"]
    return markdown_tables.table(head, lines)


def _own(share):
    return f"{100 * float(share):.0f} %"


def generalisation(text):
    """Error of x_0 on frames that an SDM was trained on and on others, by view and phase."""
    found, splits = {}, {}
    for x in csv.DictReader(io.StringIO(text)):
        splits[x["split"]] = f"{x['split']} patients"
        found.setdefault((x["view"], x["phase"]), {})[x["split"]] = 1000 * float(x["mse"])
    lines = [
        [" ".join(key), *(f"{errors[s]:.1f}" if s in errors else "–" for s in splits)]
        for key, errors in found.items()
    ]
    return markdown_tables.table(["1000 x squared error", *splits.values()], lines)
