"""The doctor's examination of a run of this library, given its folder or a stage's."""

import json
from types import SimpleNamespace

import pandas as pd

from echo_lib.config import ConfigError, as_dict, load_profile, parse_overrides
from echo_lib.data.datasets import INDEX_FILES, load_pairs, read_index
from echo_lib.data.frame_tables import counts, make_figures, pixels, report_frames
from echo_lib.data.released_archive import ORIGIN
from echo_lib.labels import SDM_NAMES, VIEWS
from echo_lib.provenance import MANIFEST, STAGE_CODE, StageError, manifests_of, require
from echo_lib.rows import networks_of, stage_name

# Data that further stages made: index to the title of its counts.
_MADE = {"maps": "Augmented label maps", "synthetic": "Synthetic pairs", "cyclegan": "Translated"}
_SHOWN = 8  # stages that are still to be run, named


def is_run(path):
    """True for the folder of a run, or of one of its stages."""
    return (path / "profile.yaml").is_file() or any(_stage_of(p) for p in _manifests_near(path))


def examine_run(found):
    """The finished stages, whether their files are as they were, and the prepared frames."""
    folder = _run_folder(found.path)
    manifests, lines = manifests_of(folder), []
    for manifest in manifests:
        profile = SimpleNamespace(name=manifest["profile"])
        run = SimpleNamespace(folder=folder, profile=profile, seed=manifest["seed"])
        try:
            require(run, manifest["stage"])
        except StageError as error:
            found.problems.append(str(error))
        lines.append([manifest["stage"], len(manifest["outputs"]), manifest["finished"]])
    columns = ["stage", "files", "finished"]
    found.tables["Finished stages"] = pd.DataFrame(lines, columns=columns).set_index("stage")
    if not lines:
        found.problems.append(f"{folder}: no finished stage; run `make figures` again")
    stages = {manifest["stage"]: manifest for manifest in manifests}
    if "prepared" in stages and not found.problems:
        _report_prepared(found, folder)
    profile = _profile(found, folder)
    _report_missing(found, stages, profile)
    found.next_command = _next_command(folder, stages, profile)


def _run_folder(path):
    """The folder of the run that ``path`` is, or is a stage of."""
    path = path.absolute()
    for manifest in _manifests_near(path):
        stage = _stage_of(manifest)
        folder = manifest.parents[len(stage.split("/"))] if stage else path
        if folder / stage / MANIFEST == manifest:
            return folder
    return path


def _manifests_near(path):
    return [p for p in (path / MANIFEST, *sorted(path.glob(f"*/{MANIFEST}"))) if p.is_file()]


def _stage_of(manifest):
    """The stage that a manifest is of; "" where it is another program's."""
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["stage"]
    except (ValueError, KeyError, TypeError):
        return ""


def _report_prepared(found, folder):
    try:
        index = read_index(folder, "real")
        pairs = load_pairs(folder, index)
    except (OSError, ValueError) as error:
        found.problems.append(str(error))
        return
    arrays = zip(pairs.images[:, 0].numpy(), pairs.label_maps.numpy(), strict=True)
    table = pd.DataFrame([pixels(image, label_map, SDM_NAMES) for image, label_map in arrays])
    raw = index.rename(
        columns={
            "rows_px": "raw rows (px)", "columns_px": "raw columns (px)",
            "row_spacing_mm": "raw row spacing (mm)",
            "column_spacing_mm": "raw column spacing (mm)",
        }
    )  # fmt: skip
    report_frames(found, pd.concat([table, raw], axis=1), "Prepared frames")
    for kind, title in _MADE.items():
        if (folder / INDEX_FILES[kind]).is_file():
            found.tables[title] = counts(read_index(folder, kind))


def _profile(found, folder):
    """The run's resolved profile, or None; only the workflow keeps it."""
    if not (folder / "profile.yaml").is_file():
        return None
    try:
        return load_profile(folder / "profile.yaml")
    except ConfigError as error:
        found.remarks.append(f"{error}; the run is of another version of the library")
        return None


def _report_missing(found, stages, profile):
    if profile is None:
        return
    missing = [name for name in _stages_of(profile, stages) if name not in stages]
    if missing:
        more = [f"and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
        found.remarks.append(f"not finished yet: {', '.join([*missing[:_SHOWN], *more])}")


def _stages_of(profile, stages):
    """Every stage of a run of ``profile``, left to right."""
    several = {
        "sdm": [f"sdm/{view}" for view in VIEWS],
        "segmentation": [stage_name(*network) for network in networks_of(profile.segmentation)],
    }
    left_out = {"sdm", "comparison"} if _is_imported(stages) else set()
    left_out |= {"cohort"} if profile.data.source != "phantom" else set()
    for name in STAGE_CODE:
        if name not in left_out:
            yield from several.get(name, [name])


def _is_imported(stages):
    """True where the synthetic images are those of the released archive."""
    return stages.get("synthetic", {}).get("extra", {}).get("origin") == ORIGIN


def _next_command(folder, stages, profile):
    """The call of the workflow that goes on with the run."""
    known, last = _parameters(folder), next(iter(stages.values()), {})
    camus = "/path/to/CAMUS" if _needs_camus(stages, profile) else ""
    named = _named(profile, folder) if profile else {"PROFILE": last.get("profile", folder.name)}
    return make_figures(
        **named,
        SEED=last.get("seed"),
        RUN_ROOT=folder.parent,
        DATA_ROOT=known.get("data_root") or camus,
        ARCHIVE="/path/to/SDM_generated_data" if _is_imported(stages) else "",
        ECHONET_ROOT=known.get("echonet_root"),
    )


def _parameters(folder):
    """What the workflow gave the run's notebooks: data_root, echonet_root, ..."""
    known = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        known |= metadata.get("papermill", {}).get("parameters", {})
    return known


def _needs_camus(stages, profile):
    if profile:
        return profile.data.source == "camus"
    prepared = stages.get("prepared", {}).get("config", {})
    return prepared.get("data", {}).get("source") == "camus"


def _named(profile, folder):
    """PROFILE and SET that give ``profile`` again; where no SET can, PROFILE is the run's file."""
    try:
        shipped = _flat(as_dict(load_profile(profile.name)))
        own = _flat(as_dict(profile))
        changes = " ".join(f"{k}={_text(own[k])}" for k in own if own[k] != shipped[k])
        again = load_profile(profile.name, parse_overrides(changes.split()))
        if again == profile and not set(changes) & set("\"'`$\\"):  # the Makefile quotes SET
            return {"PROFILE": profile.name, "SET": changes}
    except ConfigError:
        pass
    return {"PROFILE": folder / "profile.yaml"}


def _flat(values, prefix=""):
    """Nested dictionaries as one of dotted keys."""
    flat = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _text(value):
    """A value as YAML without blanks and quotes."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
