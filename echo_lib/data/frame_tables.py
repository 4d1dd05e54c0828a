"""What the doctor says of frames of any origin: counts, sizes, values, images that occur twice."""

import shlex

import pandas as pd

from echo_lib.data.camus_files import content_digest

ON_A_GPU = "the next command fits two CPU cores; on a machine with a GPU take PROFILE=reduced"


def pixels(image, label_map=None, names=()):
    """Content, size, grey values and shares of labels of a frame, as columns of a table.

    Args:
        image: (H, W) uint8.
        label_map: (H, W) integers; None where there is none.
        names: of the label values 0, 1, ...
    """
    shares = {f"{name} (%)": 100 * float((label_map == i).mean()) for i, name in enumerate(names)}
    return {
        "digest": content_digest(image),
        "rows (px)": image.shape[0], "columns (px)": image.shape[1],
        "mean grey": float(image.mean()), "black (%)": 100 * float((image == 0).mean()),
        **shares,
    }  # fmt: skip


def report_frames(found, table, title):
    """Counts by split, view and phase, ranges of values, patients, duplicates and leaks.

    Args:
        found: ``doctor.Diagnosis``, to write to.
        table: a line per frame: name, patient, view, phase, split, ``pixels``.
        title: of the counts.
    """
    found.tables[title] = counts(table)
    found.tables["Sizes, spacing, grey values"] = ranges(table)
    found.tables["Patients"] = table.groupby("split")["patient"].nunique().to_frame("patients")
    report_duplicates(found, table)
    for patient, splits in table.groupby("patient")["split"].unique().items():
        if len(splits) > 1:
            found.problems.append(
                f"{patient}: in {' and '.join(splits)}; a patient belongs to one split"
            )


def counts(table):
    """Lines of a table by split, and by view and phase."""
    dataset = (table["view"] + " " + table["phase"]).rename("view and phase")
    return pd.crosstab(table["split"], dataset)


def ranges(table):
    """Least, median and largest value of every column of sizes, spacing, grey values, shares."""
    columns = [name for name in table if name.endswith(("(px)", "(mm)", "grey", "(%)"))]
    return table[columns].agg(["min", "median", "max"]).T.round(2)


def report_duplicates(found, table):
    """Equal images under several names: a leak where they lie in two splits, else a remark."""
    for _, same in table.groupby("digest", sort=False):
        if len(same) < 2:
            continue
        names = " = ".join(f"{n} ({s})" for n, s in zip(same["name"], same["split"], strict=True))
        if same["split"].nunique() > 1:
            found.problems.append(f"{names}: one image in several splits; keep it in one of them")
        else:
            found.remarks.append(f"{names}: one image under several names")


def make_figures(**variables):
    """The command that runs the workflow, ready to be copied; variables that are empty left out."""
    given = {key: str(value) for key, value in variables.items() if value}
    return " ".join(["make figures", *(f"{key}={shlex.quote(v)}" for key, v in given.items())])
