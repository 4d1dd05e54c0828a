"""The blocks of README and docs that hold measured numbers, each made from a file of results/.

A block stands between ``<!-- results:NAME -->`` and ``<!-- end -->``, NAME being ``KIND:PROFILE``.
"""

import csv
import io
import itertools
import json
import re
import statistics
from collections import Counter

from echo_lib.labels import PHASES
from echo_lib.rows import ROWS, find_row

COMMANDS = {
    "make .venv/stamp": "installing, once, with packages from a nearby index",
    "make test": "`make test` after that",
    "make smoke": "`make smoke` after that",
}
BLOCK = re.compile(r"(<!-- results:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def block(name, results):
    """The text of a page's block: ``KIND:PROFILE`` of BLOCKS, or ``commands``."""
    kind, _, profile = name.partition(":")
    if kind == "speed":
        return _speed(results.parent / "benchmarks" / "results")
    if kind in COMPARED:
        return _compared(results / profile, COMPARED[kind])
    if kind not in BLOCKS:
        raise ValueError(f"block {name!r}: expected one of {', '.join(BLOCKS)}")
    file, render = BLOCKS[kind]
    path = results / profile / file
    if not path.is_file():
        return "Not measured yet.\n"
    return render(path.read_text(encoding="utf-8"))


def _table(text):
    return text.split("\n\n**")[0].strip() + "\n"


def _times(text):
    record = json.loads(text)
    groups = {}
    for stage, seconds in record["stage_seconds"].items():
        name = stage.split("/")[0]
        groups[name] = groups.get(name, 0) + seconds
    lines = ["| stage | seconds of computing |", "| --- | --- |"]
    lines += [f"| {name} | {seconds:.0f} |" for name, seconds in groups.items()]
    minutes = record["wall_seconds"] / 60
    lines += [
        "",
        f"{minutes:.1f} minutes in all on {record['cpu_cores']} CPU cores, notebooks included "
        "(stages share the cores, so the seconds do not add up to it).",
    ]
    if notebooks := record.get("notebook_seconds"):
        told = ", ".join(f"{name[:2]} {seconds:.0f}" for name, seconds in notebooks.items())
        lines += ["", f"Of the notebooks, in seconds, the stages that they run included: {told}."]
    made = record.get("synthetic", {})
    if "seconds_sampling" in made:
        lines += [
            "",
            f"Sampling: {made['images']} images, {made['images_per_second_of_a_process']:.1f} a "
            f"second and process, in {made['computed_in']}.",
        ]
    if record["note"]:
        lines += ["", record["note"]]
    return "\n".join(lines) + "\n"


def _commands(text):
    record = json.loads(text)
    lines = [f"On {record['cpu_cores']} CPU cores:", ""]
    for command, name in COMMANDS.items():
        if command in record:
            lines.append(f"* {name}: {record[command]['seconds'] / 60:.1f} minutes.")
    if "make test" in record:
        lines.append(f"* `make test` ended with `{record['make test']['last_line']}`.")
    return "\n".join(lines) + "\n"


def _fidelity(text):
    lines = list(csv.DictReader(io.StringIO(text)))
    generators = list(dict.fromkeys(line["generator"] for line in lines))
    n = {line["generator"]: line["n_images"] for line in lines}
    titles = [f"{GENERATORS[g]} ({n[g]} images)" for g in generators]
    rows = ["| mean (95 % interval over patients) | " + " | ".join(titles) + " |"]
    rows += ["| --- |" + " --- |" * len(generators)]
    for measure, (words, factor) in MEASURES.items():
        found = {line["generator"]: line for line in lines if line["measure"] == measure}
        unit = next(iter(found.values()))["unit"]
        cells = [_interval(found[g], factor) if g in found else "–" for g in generators]
        rows.append(f"| {words.format(unit=unit)} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _speed(folder):
    """Ratios of the benchmarks, in float32, a column for each size."""
    found = {}
    for size, (what, key, benchmark, words) in itertools.product(SIZES, SPEEDS):
        for path in sorted(folder.glob(f"{benchmark}_{size}_*.json")):
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
                plain = row.get("precision", "float32"), row.get("how", "library")
                if row["what"] == what and plain == ("float32", "library") and row[key]:
                    found[words, size] = f"{row[key]:.2f}"
    lines = [[words, *(found.get((words, size), "–") for size in SIZES)] for *_, words in SPEEDS]
    return _markdown(["", *(f"at the {size}'s size" for size in SIZES)], lines)


def _sets(text):
    """Dice to the map of each generator, by view and phase."""
    cells = _cells(text, measure="mean_dice")
    names, found = list(dict.fromkeys(x["set"] for x in cells)), {}
    for line in cells:
        told = f"{_interval(line, 100)}, {line['n_images']} images"
        found[line["set"], line["generator"]] = told
    lines = [[name, *(found.get((name, g), "–") for g in GENERATORS)] for name in names]
    return _markdown(["view and phase", *GENERATORS.values()], lines)


def _copies(text):
    """Correlation with the nearest training frame, of synthetic images and of real ones."""
    lines = [
        [x["group"], x["view"], x["n"], *(f"{float(x[k]):.3f}" for k in COPIES), _own(x["own"])]
        for x in csv.DictReader(io.StringIO(text))
    ]
    head = ["images", "view", "number", *COPIES.values(), "nearest is the map's own frame"]
    return _markdown(head, lines)


def _own(share):
    return f"{100 * float(share):.0f} %"


def _generalisation(text):
    """Error of x_0 on frames that an SDM was trained on and on others, by view and phase."""
    found, splits = {}, {}
    for x in csv.DictReader(io.StringIO(text)):
        splits[x["split"]] = f"{x['split']} patients"
        found.setdefault((x["view"], x["phase"]), {})[x["split"]] = 1000 * float(x["mse"])
    lines = [
        [" ".join(key), *(f"{errors[s]:.1f}" if s in errors else "–" for s in splits)]
        for key, errors in found.items()
    ]
    return _markdown(["1000 x squared error", *splits.values()], lines)


def _interval(line, factor, *, sign=""):
    mean, low, high = (factor * float(line[key]) for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def _verdicts(text):
    lines = [line for line in csv.DictReader(io.StringIO(text)) if line["tested_on"] == "own"]
    counts = Counter(line["verdict"] for line in lines if line["paper"])
    told = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return f"Of Table 1's {sum(counts.values())} cells, by the ledger: {told}.\n"


def _cells(text, **wanted):
    """Lines of a CSV table in which the named columns have these values."""
    lines = csv.DictReader(io.StringIO(text))
    return [line for line in lines if all(line[key] == value for key, value in wanted.items())]


def _markdown(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _rows(text):
    """Mean Dice of every row that was tested on all frames, with its interval."""
    cells = _cells(text, tested_on="all", structure="Mean")
    lines = [
        [line["name"], line["n_seeds"], _interval(line | {"mean": line["ours"]}, 1)]
        for line in cells
        if line["verdict"] != "not run" and line["row"] not in SINGLE
    ]
    return _markdown(["trained on", "seeds", "mean Dice, % (95 % interval)"], lines)


def _means(text):
    """Mean Dice of every row that was tested on all frames, of a run without a ledger."""
    cells = _cells(text, tested_on="all", structure="Mean", status="run")
    lines = [
        [line["name"], f"{float(line['mean']):.1f}"] for line in cells if line["row"] not in SINGLE
    ]
    return _markdown(["trained on", "mean Dice, %"], lines)


def _against(text):
    """Paired differences of every row from the network of all SDM frames."""
    cells = _cells(text, other="sdm_all", structure="Mean")
    # A pair is compared once: that of the two references stands the other way round.
    for line in _cells(text, row="sdm_all", other="real_all", structure="Mean"):
        turned = {"difference": "difference", "low": "high", "high": "low"}
        turned = {key: -float(line[value]) for key, value in turned.items()}
        cells.insert(0, line | turned | {"row": "real_all"})
    lines = []
    for line in (line for line in cells if line["row"] not in SINGLE):
        points = _interval(line | {"mean": line["difference"]}, 1, sign="+")
        name, p = find_row(line["row"]).name, float(line["p_holm"])
        lines.append([name, line["n_patients"], points, f"{p:.2g}"])
    return _markdown(["row", "patients", "minus All SDM frames, points", "p, Holm"], lines)


def _compared(folder, networks):
    """Networks of runs that differ in one thing, by phase of the frames; a line for each."""
    lines = []
    for (name, row), words in networks.items():
        place = folder / name
        if not (place / "ledger.csv").is_file():
            continue
        cells = _cells((place / "ledger.csv").read_text(encoding="utf-8"), row=row)
        whole = next(x for x in cells if (x["tested_on"], x["structure"]) == ("all", "Mean"))
        cases = _cells((place / "dice.csv").read_text(encoding="utf-8"), row=row)
        by_phase = [
            f"{100 * statistics.fmean(float(x['dice']) for x in cases if x['phase'] == phase):.1f}"
            for phase in PHASES
        ]
        seeds = str(len({x["seed"] for x in cases}))
        lines.append([words, seeds, _interval(whole | {"mean": whole["ours"]}, 1), *by_phase])
    return _markdown(["network", "seeds", "mean Dice, % (95 % interval)", *PHASES], lines)


def _strata(text):
    """Where All SDM frames and All real frames part, by stratum: mean Dice and LA."""
    lines, keys = [], dict.fromkeys((x["by"], x["stratum"]) for x in _cells(text, row="sdm_all"))
    for by, stratum in keys:
        numbers = []
        for structure in ("LV endo", "LV epi", "LA", "Mean"):
            place = {"by": by, "stratum": stratum, "structure": structure}
            sdm, real = (
                float(_cells(text, row=row, **place)[0]["mean"]) for row in ("sdm_all", "real_all")
            )
            numbers.append(f"{sdm:.1f}, {real:.1f} ({sdm - real:+.1f})")
        lines.append([f"{by}: {stratum}", *numbers])
    return _markdown(["frames", "LV endo", "LV epi", "LA", "Mean"], lines)


# Networks of one view and phase: their place is Table 1.
SINGLE = {row.slug for row in ROWS if row.view is not None}
COPIES = {"mean": "mean", "percentile_95": "95th percentile", "largest": "largest"}
GENERATORS = {"real": "real frames", "sdm": "SDM", "cyclegan": "CycleGAN"}
MEASURES = {
    "mean_dice": ("Dice to the map, %", 100),
    "mean_distance": ("contour distance, {unit}", 1),
    "with_missing": ("images with a structure missing, %", 100),
    "with_merged": ("images with chambers merged, %", 100),
    "energy_outside": ("energy outside the sector, %", 100),
}
# Of a benchmark's table: the row, the column, the benchmark, and what the number says.
SIZES = ("demo", "paper")
SPEEDS = (
    ("step, cached", "of_uncached", "sdm", "SDM: seconds of a sampling step, of one without cache"),
    ("step, cached", "of_matmul", "sdm", "SDM: rate of a sampling step, of a matrix product's"),
    ("training step", "of_matmul", "sdm", "SDM: rate of a training step, of a matrix product's"),
    ("data path", "of_plain", "segmentation", "U-Net: rate of the data path, of a plain loop's"),
    ("training step", "of_plain", "segmentation", "U-Net: rate of training, of a plain loop's"),
)
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
VERDICTS = ("inside the interval", "above", "below", "not run")
# Kind of a block to the file it is made from and how.
BLOCKS = {
    "table": ("table.md", _table),
    "times": ("run.json", _times),
    "ledger": ("ledger.csv", _verdicts),
    "fidelity": ("fidelity/summary.csv", _fidelity),
    "rows": ("ledger.csv", _rows),
    "means": ("table.csv", _means),
    "against": ("comparisons.csv", _against),
    "strata": ("strata.csv", _strata),
    "sets": ("fidelity/sets.csv", _sets),
    "copies": ("copies/summary.csv", _copies),
    "generalisation": ("generalisation.csv", _generalisation),
    "commands": ("commands.json", _commands),
}


def updated(page, results):
    """A page's text with every block made anew."""
    return BLOCK.sub(lambda m: m[1] + block(m[2], results) + m[3], page)
