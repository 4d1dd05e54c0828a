"""The recipe of profile ``reduced``, from counted operations: which network, and what fits an hour.

    python -m benchmarks.recipe

Writes ``benchmarks/results/recipe.json`` and from it the tables in ``docs/reduced_recipe.md``. What
is counted is counted on the ``meta`` device, so any machine gives the same numbers; the rates of
the GPU and its CPU are assumed. Trials on a CPU are read from the files
that they wrote.
"""

import argparse
import csv
import dataclasses
import json
import re
from pathlib import Path

from benchmarks import hour
from benchmarks.cost import ASSUMED as OF_THE_PAPERS_SIZE
from benchmarks.measure import RESULTS, as_table
from echo_lib.checkpoints import load_weights
from echo_lib.config import SemanticUNetConfig, load_profile
from echo_lib.provenance import write_json, write_text

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "reduced_recipe.md"
BLOCK = re.compile(r"(<!-- recipe:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
LIMIT_MB = 30  # of shipped weights, in float16
TIMED, RUN = "sdm_demo_amd-epyc-2-cores.json", REPOSITORY / "results" / "reduced-cpu"
# Batches of reduced-cpu's sampling (ddpm, 15 steps) on an H200: view, images, seconds of a process,
# a process a view at once.
SAMPLED, SAMPLED_STEPS = "sampling_nvidia-h200.csv", 15
TRAINED = RUN / "ablations" / "long_sdm"  # manifests of two trainings at once on an H200
# Value and what it is. What was measured since stands beside them on the page, table "gpu".
ASSUMED = {
    "peak_tflops_per_second": (
        OF_THE_PAPERS_SIZE["peak_tflops_per_second"],
        "of the GPU: H100 or H200, bfloat16, dense",
    ),
    "of_peak": (
        0.10,
        "reached by networks this narrow, in training and sampling: between two of their small "
        "convolutions lie passes that the memory's bandwidth limits",
    ),
    "seconds_per_operation": (15e-6, "of Python and PyTorch, to start one tensor operation"),
    "normals_per_second": (1e8, "drawn by one CPU core and brought to the GPU"),
    "seconds_per_item": (4e-5, "to name an item's generator and draw its transform"),
    "seconds_per_pair": (0.002, "to read and check an image and its label map"),
    "seconds_per_image": (0.005, "to write an image"),
    "seconds_per_process": (12.0, "to load the libraries and start the GPU"),
    "seconds_per_compilation": (
        60.0,
        "of a network, anew in each process that trains or samples with it",
    ),
    "seconds_per_notebook": (60.0, "of notebooks 04, 05 and 06, which take the GPU"),
}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network that could be trained: what differs from the profile's, and the image's size."""

    width: int
    multipliers: tuple
    spade_hidden_width: int
    patch_size: int = 4
    attention_downsampling: tuple = (4,)
    norm_groups: int = 32
    head_width: int = 32
    size_px: int = 256

    def network(self, network):
        """The ``SemanticUNetConfig``, other values as in ``network``."""
        changes = dataclasses.asdict(self)
        del changes["size_px"]
        return dataclasses.replace(network, **changes)


CANDIDATES = (
    Candidate(96, (1, 2, 3, 4), 64, attention_downsampling=(4, 8)),
    Candidate(64, (1, 2, 3), 64),
    Candidate(64, (1, 2, 2, 3), 32),
    Candidate(64, (1, 2, 2, 3), 32, patch_size=2),
    Candidate(56, (1, 2, 4), 32, norm_groups=8),
    Candidate(48, (1, 2, 3), 64, norm_groups=16, head_width=48),
    Candidate(32, (1, 2, 4), 32, norm_groups=8),
    Candidate(32, (1, 2, 4), 32, norm_groups=8, size_px=128),  # the one trained on a CPU
)
CANDIDATE_COLUMNS = {
    "network": ("width; multipliers; SPADE width", ""),
    "size_px": ("px", "d"),
    "patch_size": ("patch", "d"),
    "megaparameters": ("M parameters", ".1f"),
    "megabytes": ("MB in float16", ".1f"),
    "cached": ("GFLOP a step, cached", ".1f"),
    "uncached": ("uncached", ".1f"),
    "training": ("in training", ".1f"),
    "started": ("operations started", ",d"),
    "gpu_ms": ("GPU ms a training step", ".0f"),
    "cpu_ms": ("CPU ms", ".0f"),
    "steps": ("steps in 10 minutes", ",.0f"),
    "choice": ("", ""),
}
HOUR_COLUMNS = {
    "stage": ("stage", ""),
    "what": ("work", ""),
    "petaflop": ("PFLOP", ",.1f"),
    "operations": ("operations started", ",d"),
    "gpu_seconds": ("GPU s, predicted", ",.0f"),
    "cpu_seconds": ("CPU s, predicted", ",.0f"),
    "alone": ("one job at a time, s", ",.0f"),
    "shared": (f"{hour.JOBS} jobs, s", ",.0f"),
    "measured": ("measured on a GPU", ""),
}
TRIAL_COLUMNS = {
    "what": ("what", ""),
    "file": ("file", ""),
    "teraflop": ("TFLOP, counted", ",.3g"),
    "predicted": ("s, predicted", ",.4g"),
    "measured": ("s, measured", ",.4g"),
}
GPU_COLUMNS = {
    "what": ("what", ""),
    "file": ("file", ""),
    "teraflop": ("TFLOP, counted", ",.0f"),
    "predicted": ("GPU s, predicted", ",.0f"),
    "measured": ("s, measured", ",.0f"),
    "of_peak": ("of the peak, %", ".1f"),
    "images_per_second": ("images a second", ",.0f"),
    "hour": ("s, the hour's like stage at this rate", ",.0f"),
}
SAMPLER_COLUMNS = {
    "sampler": ("sampler", ""),
    "steps": ("steps", ""),
    "mean_dice": ("Dice to the map", ".3f"),
    "mean_dice_se": ("its standard error", ".3f"),
    "grey_std_myocardium": ("grey std, myocardium", ".1f"),
    "grey_std_left_atrium": ("left atrium", ".1f"),
    "grey_std_sector": ("sector", ".1f"),
    "frechet": ("Fréchet distance", ".0f"),
}
SAMPLERS_SHOWN = [("ddpm", n) for n in (15, 25, 1000)] + [("dpm_solver_pp", n) for n in (15, 25)]


def candidate_row(candidate, profile, assumed):
    """A candidate: what is counted of it, what is predicted, and whether it is the profile's."""
    network, training = candidate.network(profile.sdm.network), profile.sdm.training
    counts = hour.sdm_counts(network, candidate.size_px)
    one = dataclasses.replace(training, steps=1)
    work = hour.training_work(one, counts, views=1)
    step = dataclasses.replace(work, processes=0, pairs=0, compilations=0)
    predicted = hour.predict(step, assumed)
    megabytes = 2 * counts["parameters"] / 1e6
    chosen = (network, candidate.size_px) == (profile.sdm.network, profile.data.image_size_px)
    return {
        "network": f"{network.width}; {', '.join(map(str, network.multipliers))}; "
        f"{network.spade_hidden_width}",
        "size_px": candidate.size_px,
        "patch_size": network.patch_size,
        "megaparameters": counts["parameters"] / 1e6,
        "megabytes": megabytes,
        **{key: counts["flops"][key] / 1e9 for key in ("cached", "uncached", "training")},
        "started": counts["started"]["training"],
        "gpu_ms": 1e3 * predicted["gpu_seconds"],
        "cpu_ms": 1e3 * predicted["cpu_seconds"],
        "steps": 600 / predicted["alone"],
        "choice": "chosen" if chosen else "too large" if megabytes > LIMIT_MB else "",
    }


def budget(profile, assumed):
    """A row per stage of the hour, and their sum."""
    rows = []
    for work in hour.works(profile, cpu_seconds=_cpu_seconds(profile)):
        row = {"stage": work.stage, "what": work.what, "petaflop": work.flops / 1e15}
        row |= {"operations": work.operations, **hour.predict(work, assumed)}
        rows.append(row | {"measured": "not run"})
    summed = ("petaflop", "operations", "gpu_seconds", "cpu_seconds", "alone", "shared")
    total = {key: sum(row[key] for row in rows) for key in summed}
    return [*rows, {"stage": "sum", "what": "", **total, "measured": "not run"}]


def _cpu_seconds(profile):
    """Stages without a GPU: those of reduced-cpu, by pixels and by processes."""
    record, known = json.loads((RUN / "run.json").read_text("utf-8")), load_profile("reduced-cpu")
    pixels = (profile.data.image_size_px / known.data.image_size_px) ** 2
    factor = pixels * known.data.workers / profile.data.workers
    drawn = [hour.images_of(p) + hour.slices_of(p.cyclegan) for p in (profile, known)]
    seconds = record["stage_seconds"]
    return {
        "prepared": factor * seconds["prepared"],
        "pseudo": factor * drawn[0] / drawn[1] * seconds["pseudo"],
    }


def trials():
    """What was counted, predicted and measured on a CPU, from the files that hold it."""
    timed = json.loads((RESULTS / TIMED).read_text("utf-8"))
    rows = {row["what"]: row for row in timed["rows"]}
    rate, batch = rows["matrix product"]["tflops_per_second"], rows["training step"]["batch"]
    found = []
    for what in ("training step", "step, cached"):
        named = f"{what}, {batch} images of {timed['size_px']} px"
        file = f"benchmarks/results/{TIMED}"
        found.append(_trial(named, file, rows[what]["tflop"], rate, rows[what]["seconds"]))
    for path in sorted((REPOSITORY / "weights").glob("*CH.safetensors")):
        header, card = load_weights(path)[1], path.with_suffix(".md").read_text("utf-8")
        network = {k: tuple(v) if isinstance(v, list) else v for k, v in header["network"].items()}
        size = int(re.search(r"Recipe\.\*\* (\d+) px", card)[1])
        flops = hour.sdm_counts(SemanticUNetConfig(**network), size)["flops"]["training"]
        steps, images = header["training"]["steps"], header["training"]["batch_size"]
        seconds = float(re.search(r"of which training steps (\d+) s", card)[1])
        what = f"{path.stem}: {steps:,} steps of {images}"
        file = f"weights/{path.stem}.md"
        found.append(_trial(what, file, steps * images * flops / 1e12, rate, seconds))
    return found


def _trial(what, file, teraflop, rate, measured):
    predicted = teraflop / rate
    values = {"teraflop": teraflop, "predicted": predicted, "measured": measured}
    return {"what": what, "file": f"`{file}`", **values}


def on_a_gpu(profile, assumed):
    """What was counted, predicted and measured on a GPU, two processes at once."""
    works = {work.stage: work for work in hour.works(profile, cpu_seconds=_cpu_seconds(profile))}
    peak = assumed["peak_tflops_per_second"]
    known = load_profile("reduced-cpu")
    counts = hour.sdm_counts(known.sdm.network, known.data.image_size_px)["flops"]

    found = [_trained_on_a_gpu(known, counts), _sampled_on_a_gpu(known, counts)]
    return [
        {
            "what": what,
            "file": file,
            "teraflop": teraflop,
            "predicted": teraflop / (peak * assumed["of_peak"]),
            "measured": seconds,
            "of_peak": 100 * teraflop / seconds / peak,
            "images_per_second": images / seconds,
            "hour": works[stage].flops / 1e12 * seconds / teraflop,
        }
        for what, file, images, teraflop, seconds, stage in found
    ]


def _trained_on_a_gpu(known, counts):
    """What, file, images, TFLOP and seconds of the SDMs' training, and the hour's like stage."""
    manifests = [json.loads(path.read_text("utf-8")) for path in sorted(TRAINED.glob("sdm_*.json"))]
    trained = [manifest["config"]["training"] for manifest in manifests]
    images = sum(training["steps"] * training["batch_size"] for training in trained)
    seconds = max(manifest["facts"]["seconds_training"] for manifest in manifests)
    told = {f"{t['steps']:,} steps of {t['batch_size']}" for t in trained}
    steps = f"{len(trained)} x {' and '.join(sorted(told))}"
    what = f"training at once: {steps} images of {known.data.image_size_px} px, uncompiled"
    file = f"`results/reduced-cpu/ablations/{TRAINED.name}/sdm_*.json`"
    return what, file, images, images * counts["training"] / 1e12, seconds, "SDM training"


def _sampled_on_a_gpu(known, counts):
    """As ``_trained_on_a_gpu``, of the sampling."""
    with open(RESULTS / SAMPLED, encoding="utf-8") as file:
        batches = list(csv.DictReader(file))
    views = {batch["view"] for batch in batches}
    images = sum(int(batch["images"]) for batch in batches)
    seconds = max(sum(float(b["seconds"]) for b in batches if b["view"] == v) for v in views)
    flops = images * (counts["encode"] + SAMPLED_STEPS * counts["cached"])
    what = (
        f"sampling at once: {images:,} images of {known.data.image_size_px} px in "
        f"{SAMPLED_STEPS} steps, uncompiled"
    )
    return what, f"`benchmarks/results/{SAMPLED}`", images, flops / 1e12, seconds, "sampling"


def samplers():
    """The rows of the samplers' comparison that decide."""
    with open(RUN / "figures" / "sampler_table.csv", encoding="utf-8") as file:
        lines = {(line["sampler"], int(line["steps"])): line for line in csv.DictReader(file)}
    shown = [*SAMPLERS_SHOWN, ("real", 0)]
    rows = []
    for sampler, steps in shown:
        numbers = [key for key, (_, form) in SAMPLER_COLUMNS.items() if form]
        values = {key: float(lines[sampler, steps][key]) for key in numbers}
        rows.append({"sampler": sampler, "steps": str(steps) if steps else "-"} | values)
    return rows


def recipe(profile, *, assumed=None):
    """The record behind the page.

    Args:
        profile: ``config.Profile``.
        assumed: rates by name, as in ``ASSUMED``, the default.
    """
    assumed = assumed or {key: value for key, (value, _) in ASSUMED.items()}
    tables = {
        "candidates": ([candidate_row(c, profile, assumed) for c in CANDIDATES], CANDIDATE_COLUMNS),
        "hour": (budget(profile, assumed), HOUR_COLUMNS),
        "trials": (trials(), TRIAL_COLUMNS),
        "gpu": (on_a_gpu(profile, assumed), GPU_COLUMNS),
        "samplers": (samplers(), SAMPLER_COLUMNS),
    }
    return {
        "benchmark": "recipe",
        "profile": profile.name,
        "assumed": assumed,
        "jobs": hour.JOBS,
        "tables": {
            name: {"rows": rows, "columns": {key: list(value) for key, value in columns.items()}}
            for name, (rows, columns) in tables.items()
        },
    }


def render(name, record):
    """The text of a block of the page: a table by its name, or the assumptions."""
    if name == "assumed":
        rows = [
            {"value": f"{record['assumed'][key]:,.6g}", "name": key.replace("_", " "), "what": what}
            for key, (_, what) in ASSUMED.items()
        ]
        columns = {"name": ("", ""), "value": ("assumed", ""), "what": ("", "")}
        return as_table({"rows": rows, "columns": columns})
    return as_table(record["tables"][name])


def updated(text, record):
    """The page with its blocks from the record."""
    return BLOCK.sub(lambda block: block[1] + render(block[2], record) + block[3], text)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="reduced", help="whose numbers")
    parser.add_argument("--out", type=Path, default=RESULTS / "recipe.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    for key, (value, what) in ASSUMED.items():
        option = f"--{key.replace('_', '-')}"
        text = f"assumed, {what}: %(default)s"
        parser.add_argument(option, type=float, default=value, help=text)
    chosen = parser.parse_args(arguments)
    assumed = {key: getattr(chosen, key) for key in ASSUMED}
    record = recipe(load_profile(chosen.profile), assumed=assumed)
    write_json(chosen.out, record)
    write_text(chosen.page, updated(chosen.page.read_text(encoding="utf-8"), record))
    for name in record["tables"]:
        print(render(name, record))


if __name__ == "__main__":
    main()
