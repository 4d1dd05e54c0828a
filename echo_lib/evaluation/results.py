"""Stage ``evaluation``: every number of the run's tables, from the measures per case alone."""

import io

import pandas as pd

from echo_lib.evaluation import ledger, report, strata, table
from echo_lib.evaluation.contradictions import contradictions
from echo_lib.evaluation.metrics import CASE_COLUMNS, DISTANCE_COLUMNS
from echo_lib.evaluation.statistics import agreement, compare_all
from echo_lib.provenance import Stage, digest, write_text
from echo_lib.rows import ROWS, find_row, rows_of, stage_name

TEXT_COLUMNS = {"name": str, "patient": str}
MEASURES = tuple(name for name in DISTANCE_COLUMNS if name != "unit")
AGAINST = {
    "ef_percent": ("mask_ef_percent", "info_ef_percent"),
    "edv_ml": ("mask_edv_ml",),
    "esv_ml": ("mask_esv_ml",),
}
MASKS = "masks"  # the experts' masks, as if they were a row
AGREEMENT_COLUMNS = (
    "row", "name", "seed", "measure", "against", "n", "n_undefined", "bias", "std", "low", "high",
    "mean_absolute_error", "correlation",
)  # fmt: skip


def write_results(run, cases, *, volumes=None, echonet=None, frames=None):
    """Write stage ``evaluation``.

    dice.csv (per case), table.csv and table.md (Table 1), ledger.csv and ledger.md,
    comparisons.csv, contradictions.csv; with measured cases distances.csv, with volumes volumes.csv
    (per patient) and agreement.csv, with EchoNet-Dynamic echonet.csv (per video), with described
    frames frames.csv and strata.csv.

    Args:
        run: the run.
        cases: from ``metrics.dice`` or ``metrics.measure``, the trained rows one after another.
        volumes: from ``volumes.network_volumes``, of every row and seed.
        echonet: see ``ledger.ledger``.
        frames: from ``strata.describe_frames``, of all frames.

    Returns:
        The tables by name: "table", "ledger", "comparisons", "contradictions", and where they
        could be made "distances", "agreement", "strata".

    Raises:
        ValueError: cases are none, or of an unknown row.
    """
    trained = _trained(cases)
    measured = {"volumes": volumes, "echonet": echonet, "frames": frames}
    sources = measured_texts(cases, **measured)
    rows = dict.fromkeys(row.slug for row in rows_of(run.profile.segmentation))
    rows = [find_row(slug) for slug in rows | dict.fromkeys(slug for slug, _ in trained)]
    stage = Stage.open(
        run,
        "evaluation",
        config={"data": run.profile.data},
        inputs=["prepared", *(stage_name(row, seed) for row, seed in trained)],
        extra={"sources": digest(sources), "rows": [row.slug for row in rows]},
    )
    tables = summaries(**read_back(sources), rows=rows, seed=run.seed)
    files = sources | table_texts(tables, run.profile)
    for name, content in files.items():
        write_text(stage.folder / name, content)
    stage.finish([stage.folder / name for name in files], facts=_means(tables["table"]))
    return tables


def measured_texts(cases, *, volumes=None, echonet=None, frames=None):
    """File name to text of what was measured: dice.csv, volumes.csv, echonet.csv, frames.csv.

    Args:
        cases, volumes, echonet, frames: see ``write_results``.
    """
    columns = [name for name in (*CASE_COLUMNS, *DISTANCE_COLUMNS) if name in cases]
    measured = {"dice.csv": cases[columns], "volumes.csv": volumes, "echonet.csv": echonet}
    measured |= {"frames.csv": frames}
    return {name: _csv(found) for name, found in measured.items() if found is not None}


def read_back(texts):
    """What ``summaries`` takes, from the texts of ``measured_texts``.

    Tables are made from what is written, digits and all, so that whoever has the files has them.
    """
    found = {
        name.removesuffix(".csv"): pd.read_csv(io.StringIO(text), dtype=TEXT_COLUMNS)
        for name, text in texts.items()
    }
    return {"cases": found.pop("dice")} | found


def table_texts(tables, profile):
    """File name to text of what was made from it: a .csv of each table, table.md, ledger.md.

    Args:
        tables: from ``summaries``.
        profile: its ``stamp`` stands in every title.
    """
    files = {f"{name}.csv": _csv(found) for name, found in tables.items()}
    return files | report.render(tables, profile)


def summaries(cases, *, rows, seed=0, volumes=None, echonet=None, frames=None):
    """Every table of the stage, from the measures per case, patient and video.

    Args:
        cases, volumes, echonet, frames: see ``write_results``.
        rows: the rows of the table.
        seed: of the bootstrap.
    """
    tables = {
        "table": table.summarise(cases, rows=rows),
        "ledger": ledger.ledger(cases, rows=rows, seed=seed, echonet=echonet),
        "comparisons": compare_all(cases, rows=rows, seed=seed),
        "contradictions": contradictions(),
    }
    if "hd95" in cases:
        tables["distances"] = summarise_distances(cases, rows=rows)
    if volumes is not None:
        tables["agreement"] = summarise_volumes(volumes, rows=rows)
    if frames is not None:
        tables["strata"] = strata.tabulate(cases, frames, rows=rows, seed=seed)
    return tables


def summarise_distances(cases, *, rows):
    """Mean and std of the measures in the original resolution, on each row's own frames.

    Args:
        cases: from ``metrics.measure``.
        rows: the rows of the table; those without cases are left out.

    Returns:
        A data frame: row, name, structure, unit, n, n_undefined (distances), and of every measure
        its mean and population std over cases and seeds, NaN left out.
    """
    lines = []
    for row in rows:
        own = row.select(cases[cases["row"] == row.slug])
        for (structure, unit), group in own.groupby(["structure", "unit"], sort=False):
            line = {"row": row.slug, "name": row.name, "structure": structure, "unit": unit}
            line |= {"n": len(group), "n_undefined": int(group["hd95"].isna().sum())}
            for measure in MEASURES:
                line |= {
                    measure: group[measure].mean(),
                    f"{measure}_std": group[measure].std(ddof=0),
                }
            lines.append(line)
    return pd.DataFrame(lines)


def summarise_volumes(volumes, *, rows):
    """Agreement of every network's volumes and ejection fraction with their references.

    The row "masks" is that of the experts' masks against the Info files: how far the rule itself
    is from the clinic's number.

    Args:
        volumes: from ``volumes.network_volumes``.
        rows: the rows of the table; those without volumes are left out.

    Returns:
        A data frame with AGREEMENT_COLUMNS.
    """
    lines, names = [], {row.slug: row.name for row in rows}
    for (slug, seed), group in volumes.groupby(["row", "seed"], sort=False):
        line = {"row": slug, "name": names[slug], "seed": seed}
        for measure, references in AGAINST.items():
            for against in references:
                found = agreement(group[measure], group[against])
                lines.append(line | {"measure": measure, "against": against} | found)
    patients = volumes.drop_duplicates("patient")
    masks = {"row": MASKS, "name": "Experts' masks", "seed": 0, "measure": "ef_percent"}
    found = agreement(patients["mask_ef_percent"], patients["info_ef_percent"])
    lines.append(masks | {"against": "info_ef_percent"} | found)
    return pd.DataFrame(lines, columns=list(AGREEMENT_COLUMNS))


def _trained(cases):
    trained = list(dict.fromkeys(zip(cases["row"], cases["seed"].astype(int), strict=True)))
    known = [row.slug for row in ROWS]
    unknown = sorted({row for row, _ in trained} - set(known))
    if not trained or unknown:
        raise ValueError(f"cases of rows {unknown}; expected one or more of {known}")
    return trained


def _means(found):
    shown = (found["tested_on"] == "own") & (found["structure"] == "Mean")
    means = found[shown & (found["status"] == "run")]
    return dict(zip(means["row"], means["mean"], strict=True))


def _csv(found):
    return found.to_csv(index=False, float_format="%.6g", lineterminator="\n")
