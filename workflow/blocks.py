"""The blocks of README and docs that hold measured numbers, each made from a file of results/.

A block stands between ``<!-- results:NAME -->`` and ``<!-- end -->``, NAME being ``KIND:PROFILE``.
"""

import csv
import io
import itertools
import json
import re
from collections import Counter

import markdown_tables
import shortfall

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
    if kind in shortfall.COMPARED:
        return shortfall.compared(results / profile, shortfall.COMPARED[kind])
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
    titles = [f"{shortfall.GENERATORS[g]} ({n[g]} images)" for g in generators]
    rows = ["| mean (95 % interval over patients) | " + " | ".join(titles) + " |"]
    rows += ["| --- |" + " --- |" * len(generators)]
    for measure, (words, factor) in MEASURES.items():
        found = {line["generator"]: line for line in lines if line["measure"] == measure}
        unit = next(iter(found.values()))["unit"]
        cells = [
            markdown_tables.interval(found[g], factor) if g in found else "–" for g in generators
        ]
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
    return markdown_tables.table(["", *(f"at the {size}'s size" for size in SIZES)], lines)


def _verdicts(text):
    lines = [line for line in csv.DictReader(io.StringIO(text)) if line["tested_on"] == "own"]
    counts = Counter(line["verdict"] for line in lines if line["paper"])
    told = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return f"Of Table 1's {sum(counts.values())} cells, by the ledger: {told}.\n"


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
VERDICTS = ("inside the interval", "above", "below", "not run")
# Kind of a block to the file it is made from and how.
BLOCKS = {
    "table": ("table.md", _table),
    "times": ("run.json", _times),
    "ledger": ("ledger.csv", _verdicts),
    "fidelity": ("fidelity/summary.csv", _fidelity),
    "rows": ("ledger.csv", shortfall.rows),
    "means": ("table.csv", shortfall.means),
    "seeds": ("dice.csv", shortfall.seeds),
    "against": ("comparisons.csv", shortfall.against),
    "strata": ("strata.csv", shortfall.strata),
    "sets": ("fidelity/sets.csv", shortfall.sets),
    "copies": ("copies/summary.csv", shortfall.copies),
    "generalisation": ("generalisation.csv", shortfall.generalisation),
    "commands": ("commands.json", _commands),
}


def updated(page, results):
    """A page's text with every block made anew."""
    return BLOCK.sub(lambda m: m[1] + block(m[2], results) + m[3], page)
