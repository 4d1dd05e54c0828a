"""Speed and memory of the semantic diffusion model on this machine.

    python -m benchmarks.sdm                          # the paper's size, one image
    python -m benchmarks.sdm --profile demo --batch 16
    python -m benchmarks.sdm --groups training --add  # more rows of a table, or its last ones

Prints a table and writes it with its provenance to ``benchmarks/results``, anew after each group of
rows. Weights and label maps are drawn at random: no time depends on them. A group that needs more
memory than there is says so and is not run.
"""

import argparse
import json
from pathlib import Path

from benchmarks import measure, memory
from benchmarks.sdm_bench import COLUMNS, GIB, Bench
from benchmarks.sdm_groups import GROUPS, WHATS
from echo_lib.config import load_profile
from echo_lib.distributed import device as default_device
from echo_lib.precision import has_bfloat16

PRECISIONS = ("float32", "bfloat16")
PROCESS_BYTES, MARGIN = GIB, 1.1  # libraries, and what kernels need within themselves
# What is aimed at, at the paper's size: (row, column, kind of device, bound, least or most).
TARGETS = (
    ("step, cached", "of_uncached", "cpu", 0.66, "most"),
    ("step, cached", "of_matmul", "cpu", 0.75, "least"),
    ("step, cached", "of_matmul", "cuda", 0.40, "least"),
    ("step, cached, compiled", "of_matmul", "cuda", 0.40, "least"),
    ("training step", "of_matmul", "cuda", 0.35, "least"),
    ("training step, compiled", "of_matmul", "cuda", 0.35, "least"),
)


def run(bench, *, groups, precisions, memory_gib=None, done=lambda: None):
    """Run the groups whose rows are not there yet.

    Args:
        bench: ``Bench``; the rows are added to its own.
        groups: of ``GROUPS``.
        precisions: "float32", "bfloat16".
        memory_gib: the most memory to take; None takes what is free.
        done: called after each group.
    """
    free = memory.free_bytes(bench.device) if memory_gib is None else memory_gib * GIB
    for precision in precisions:
        for group in (name for name in GROUPS if name in groups):
            what, needed, timing = GROUPS[group]
            if bench.row(what, precision):
                continue
            bytes_ = PROCESS_BYTES + MARGIN * needed(bench, precision)
            told = f"needs {bytes_ / GIB:.1f} GiB, {(free or 0) / GIB:.1f} free"
            print(f"{group}, {precision}: {told}", flush=True)
            if free is not None and bytes_ > free:
                bench.add_missing(what, precision, told)
            else:
                timing(bench, precision)
                bench.model.zero_grad(set_to_none=True)
                bench.model.eval().requires_grad_(False)
            done()


def record_of(bench):
    """The benchmark's record of the rows that are there."""
    profile = bench.profile
    rows = sorted(
        bench.rows, key=lambda row: (PRECISIONS.index(row["precision"]), WHATS.index(row["what"]))
    )
    facts = {
        **identity(bench),
        "rounds": bench.rounds,
        "targets": targets(rows, bench.device) if profile.name == "paper" else [],
    }
    return measure.record("sdm", rows, COLUMNS, device=bench.device, **facts)


def identity(bench):
    """What rows of one table have in common, beside the machine."""
    size = bench.profile.data.image_size_px
    return {"profile": bench.profile.name, "size_px": size, "batch": bench.batch}


def targets(rows, device):
    """What is aimed at on such a device and what was found, by precision."""
    return [
        {"what": what, "column": column, "precision": row["precision"], bound_is: bound,
         "found": row[column],
         "met": row[column] <= bound if bound_is == "most" else row[column] >= bound}
        for what, column, kind, bound, bound_is in TARGETS
        for row in rows
        if row["what"] == what and kind == device.type and row[column] is not None
    ]  # fmt: skip


def earlier_rows(path, expected):
    """The rows of a record that may be added to; those that were not run are left out.

    Raises:
        ValueError: the record is of another profile, batch or machine.
    """
    if not path.is_file():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    for key, value in expected.items():
        if record.get(key) != value:
            raise ValueError(
                f"{path}: {key} {record.get(key)!r}, expected {value!r}; rows of both do not "
                "compare: choose another --out, or leave --add out to begin anew"
            )
    return [row for row in record["rows"] if row["seconds"]]


def parser_of(device):
    """The command line's options."""
    native = ["bfloat16"] if has_bfloat16(device) else []
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper", help="whose network; default %(default)s")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/sdm_<machine>.json")
    parser.add_argument("--add", action="store_true", help="keep the rows of --out, add others")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, dest="precisions",
        default=native if device.type == "cuda" else ["float32", *native],
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=1, help="images; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--most-s", type=float, default=60.0, help="longest sampler to be timed")
    parser.add_argument("--matmul-size", type=int, default=4096, help="rows of the product")
    parser.add_argument("--memory-gib", type=float, help="the most to take; default: what is free")
    return parser


def main(arguments=None):
    """The command line."""
    device = default_device()
    chosen = parser_of(device).parse_args(arguments)
    profile = load_profile(chosen.profile)
    bench = Bench(profile, device, chosen.batch, chosen.rounds, chosen.matmul_size, chosen.most_s)
    name = f"sdm_{profile.name}_{measure.machine_slug(device)}.json"
    path = chosen.out or measure.RESULTS / name
    if chosen.add:
        bench.rows = earlier_rows(path, identity(bench) | {"machine": measure.machine(device)})
    run(
        bench,
        groups=chosen.groups,
        precisions=chosen.precisions,
        memory_gib=chosen.memory_gib,
        done=lambda: measure.write(record_of(bench), path),
    )
    record = record_of(bench)
    print(measure.as_table(record))
    for line in record["targets"]:
        print(line)


if __name__ == "__main__":
    main()
