"""Lines of CSV tables as tables of Markdown, with intervals."""

import csv
import io


def cells(text, **wanted):
    """Lines of a CSV table in which the named columns have these values."""
    lines = csv.DictReader(io.StringIO(text))
    return [line for line in lines if all(line[key] == value for key, value in wanted.items())]


def table(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def interval(line, factor, *, sign=""):
    mean, low, high = (factor * float(line[key]) for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"
