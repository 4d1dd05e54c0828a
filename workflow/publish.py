"""What the repository shows of a finished run: ``results/<profile>/`` and the pages' numbers.

    python workflow/publish.py --profile demo
    python workflow/publish.py            # the pages alone, from what results/ holds

A measured number in the README or in docs/ stands between ``<!-- results:NAME -->`` and
``<!-- end -->`` and comes from a file of ``results/`` or ``benchmarks/results/``; a test compares
the two.
"""

import argparse
import calendar
import json
import os
import shutil
import time
from pathlib import Path

from blocks import updated

from echo_lib.config import load_profile
from echo_lib.provenance import atomic_path, manifests_of, write_json, write_text

REPOSITORY = Path(__file__).resolve().parent.parent
# Stage to the files of it that are shown; what a run has not made is left out.
FILES = {
    "evaluation": (
        "dice.csv", "table.csv", "table.md", "ledger.csv", "ledger.md", "comparisons.csv",
        "contradictions.csv", "distances.csv", "volumes.csv", "agreement.csv", "echonet.csv",
        "frames.csv", "strata.csv", "manifest.json",
    ),
    "fidelity": ("summary.csv", "sets.csv", "strength.csv", "distances.csv", "manifest.json"),
    "copies": ("summary.csv", "manifest.json"),
    "figures": ("sampler_table.csv",),
}  # fmt: skip
PAUSE_S = 900  # notebooks between stages take less
PAGES = ("README.md", "docs/shortfall.md")


def run_record(folder):
    """Where and how long a run took.

    ``wall_seconds`` is from the first stage's start to the last one's end, but for pauses of more
    than ``PAUSE_S`` in which no stage ran. ``synthetic`` holds the facts of the synthetic set: how
    many images, and how fast.
    """
    # a check of finished images, which may come much later
    manifests = [found for found in manifests_of(folder) if found["stage"] != "copies"]
    ends = [calendar.timegm(time.strptime(m["finished"], "%Y-%m-%dT%H:%M:%SZ")) for m in manifests]
    starts = [end - m["seconds"] for end, m in zip(ends, manifests, strict=True)]
    last = manifests[-1]
    return {
        "profile": last["profile"],
        "seed": last["seed"],
        "commit": last["commit"],
        "dirty": last["dirty"],
        "versions": last["versions"],
        "device": last["device"],
        "cpu_cores": os.cpu_count(),
        "wall_seconds": round(wall_seconds(list(zip(starts, ends, strict=True)))),
        "stage_seconds": {m["stage"]: m["seconds"] for m in manifests},
        "notebook_seconds": notebook_seconds(folder / "notebooks"),
        "synthetic": next((m["facts"] for m in manifests if m["stage"] == "synthetic"), {}),
    }


def wall_seconds(spans):
    """Seconds from the first start to the last end, without pauses longer than ``PAUSE_S``.

    Args:
        spans: (start, end) of every stage, in seconds.
    """
    total, reached = 0.0, min(start for start, _ in spans)
    for start, end in sorted(spans):
        if start - reached > PAUSE_S:
            reached = start
        if end > reached:
            total, reached = total + end - reached, end
    return total


def notebook_seconds(folder):
    """Executed notebooks of a run to their seconds; a stage that one ran itself is in them."""
    seconds = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        known = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {})
        if known.get("duration"):
            seconds[path.stem] = round(known["duration"], 1)
    return seconds


def publish(folder, target, *, note=""):
    """Copy the evaluation of the run in ``folder`` to ``target``, with its times and a note."""
    if not load_profile(folder / "profile.yaml").is_shipped:
        raise SystemExit(
            f"{folder}: run with changed numbers; only config/{folder.name}.yaml is shown"
        )
    record = run_record(folder) | {"note": note}
    for stage, names in FILES.items():
        place = target if stage == "evaluation" else target / stage
        for source in (folder / stage / name for name in names):
            if source.is_file():
                with atomic_path(place / source.name) as temporary:
                    shutil.copyfile(source, temporary)
    write_json(target / "run.json", record)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", help="a finished run to take up; left out, only the pages")
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    parser.add_argument("--note", default="", help="what else its times should say of the run")
    chosen = parser.parse_args(arguments)
    results = REPOSITORY / "results"
    if chosen.profile:
        name = load_profile(chosen.profile).name
        publish(chosen.run_root / name, results / name, note=chosen.note)
    for page in (REPOSITORY / name for name in PAGES):
        write_text(page, updated(page.read_text(encoding="utf-8"), results))


if __name__ == "__main__":
    main()
