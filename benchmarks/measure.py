"""What the benchmarks share: times, rates and memory of one run, and a record of where it ran.

Only ratios within one run compare: every record holds the rate of the machine's own matrix product,
taken in turn with what is timed, so that other load on the machine touches both.
"""

import os
import platform
import re
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from echo_lib.provenance import environment, write_json, write_text

RESULTS = Path(__file__).resolve().parent / "results"
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def fastest(calls, *, device, rounds=3, warm=False):
    """Seconds of each call, the fastest of ``rounds``.

    The calls take turns, so that a slow spell of the machine meets all of them.

    Args:
        calls: name to callable without arguments.
        device: ``torch.device`` that they run on.
        warm: each has run before; else a first round is not counted.
    """
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(rounds if warm else rounds + 1):
        for name, call in calls.items():
            seconds = seconds_of(call, device=device)
            if warm or turn > 0:
                best[name] = min(best[name], seconds)
    return best


def seconds_of(call, *, device):
    """Seconds of one call, the device's work included."""
    _synchronise(device)
    begun = time.perf_counter()
    call()
    _synchronise(device)
    return time.perf_counter() - begun


def matrix_product(device, dtype, *, size=4096):
    """A call that multiplies two square matrices, and its floating-point operations.

    Time it beside what is to be compared: ``fastest({"matmul": call, ...})``.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    return (lambda: a @ b), 2 * size**3


def count_flops(call):
    """Floating-point operations of a call, a multiply-add as two; costs nothing on ``meta``."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops()


class _Operations(TorchDispatchMode):
    """Counts the tensor operations that reach a device; views do no work there."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += not operation.is_view
        return operation(*args, **(kwargs or {}))


def count_operations(call):
    """Tensor operations that a call starts one by one, views left out; runs on ``meta`` too."""
    with _Operations() as operations:
        call()
    return operations.count


def peak_memory_bytes(call, *, device):
    """The most memory held during a call: the GPU's, or this process's; None where unknown.

    The process's holds everything it has loaded, weights and libraries too.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        seconds_of(call, device=device)
        return torch.cuda.max_memory_allocated(device)
    if not (_CLEAR.exists() and _STATUS.exists()):
        return None
    _CLEAR.write_text("5")  # resets the peak of this process (proc(5))
    call()
    peak = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return 1024 * int(peak.group(1)) if peak else None


def machine(device):
    """What the numbers were measured on; no name of a host."""
    facts = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def machine_slug(device):
    """The machine in a file's name, e.g. ``amd-epyc-2-cores``."""
    facts = machine(device)
    name = facts.get("gpu") or f"{facts['processor']} {facts['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def record(benchmark, rows, columns, *, device, **facts):
    """The benchmark's record.

    Args:
        benchmark: its name.
        rows: dictionaries of plain numbers and texts.
        columns: key of the rows to (heading, format), as ``as_table`` takes them.
        device: what it ran on.
        facts: anything else JSON-able.
    """
    return {
        "benchmark": benchmark,
        **facts,
        "rows": rows,
        "columns": {key: list(value) for key, value in columns.items()},
        "machine": machine(device),
        **environment(device),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def as_table(record):
    """The record's rows as a Markdown table; a value that is missing shows as a dash."""
    columns = record["columns"]
    lines = [[heading for heading, _ in columns.values()]]
    for row in record["rows"]:
        cells = [_cell(row.get(key), form) for key, (_, form) in columns.items()]
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"


def write(record, path):
    """Write the record as JSON and its table beside it as Markdown."""
    path = Path(path)
    write_json(path, record)
    write_text(path.with_suffix(".md"), as_table(record))


def _cell(value, form):
    if value is None:
        return "-"
    return value if isinstance(value, str) else format(value, form)


def _processor():
    information = Path("/proc/cpuinfo")
    if information.is_file():
        found = re.search(r"model name\s*:\s*(.+)", information.read_text(encoding="utf-8"))
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def _synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
