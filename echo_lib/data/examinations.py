"""The doctor's examinations: one per kind of folder, each fills a ``doctor.Diagnosis``."""

from types import SimpleNamespace

import pandas as pd

from echo_lib.config import load_profile
from echo_lib.data import camus, echonet, meshes, released_archive
from echo_lib.data.camus_files import CamusError, content_digest, read_image
from echo_lib.labels import CAMUS_NAMES, SPLITS
from echo_lib.provenance import MANIFEST, StageError, manifests_of, require


def is_camus(path):
    """True for a folder that holds a CAMUS release, or one folder below it."""
    marks = ("database_nifti", "database_split", "training/patient*", "testing/patient*")
    return any(any(path.glob(f"{deep}{mark}")) for mark in marks for deep in ("", "*/"))


def examine_camus(found):
    """Counts, sizes, label values, grey values, missing files and duplicates of a release."""
    try:
        release = camus.open_release(found.path)
    except CamusError as error:
        found.problems.append(str(error))
        return
    found.kind = f"CAMUS, {release.kind} release"
    lines = [line for split in release.splits for line in _read(release, split, found.problems)]
    if not lines:
        found.problems.append(f"{release.root}: no readable frame; restore the release")
        return
    table = pd.DataFrame(lines)
    dataset = table["view"] + " " + table["phase"]
    found.tables["Frames"] = pd.crosstab(table["split"], dataset.rename("view and phase"))
    found.tables["Sizes, spacing, grey values"] = _ranges(table)
    found.tables["Patients"] = table.groupby("split")["patient"].nunique().to_frame("patients")
    _report_duplicates(found, table)
    absent = [split for split in SPLITS if split not in release.splits]
    found.remarks += [
        f"no {split} split: profiles that report on it cannot run" for split in absent
    ]
    profile = "reduced" if "test" in absent else "paper"
    found.next_command = f"make figures PROFILE={profile} DATA_ROOT={found.path}"


def _read(release, split, problems):
    """A record per frame of a split; what cannot be read goes to ``problems``."""
    for patient in release.splits[split]:
        one = camus.Release(release.root, release.kind, {split: (patient,)})
        for view in ("2CH", "4CH"):
            for phase in ("ED", "ES"):
                try:
                    (frame,) = camus.frames(one, split, views=(view,), phases=(phase,))
                    image, label_map, spacing = camus.read_frame(frame)
                except CamusError as error:
                    problems.append(str(error))
                    continue
                yield {
                    "name": frame.name, "patient": patient, "view": view, "phase": phase,
                    "split": split, "digest": content_digest(image),
                    "rows (px)": image.shape[0], "columns (px)": image.shape[1],
                    "row spacing (mm)": spacing[0], "column spacing (mm)": spacing[1],
                    "mean grey": float(image.mean()), "black (%)": 100 * float((image == 0).mean()),
                    **{
                        f"{name} (%)": 100 * float((label_map == i).mean())
                        for i, name in enumerate(CAMUS_NAMES)
                    },
                }  # fmt: skip


def _ranges(table):
    columns = [name for name in table if name.endswith(("(px)", "(mm)", "grey", "(%)"))]
    return table[columns].agg(["min", "median", "max"]).T.round(2)


def _report_duplicates(found, table):
    """Equal images under several names: a leak where they lie in two splits, else a remark."""
    for _, same in table.groupby("digest", sort=False):
        if len(same) < 2:
            continue
        names = " = ".join(f"{n} ({s})" for n, s in zip(same["name"], same["split"], strict=True))
        if same["split"].nunique() > 1:
            found.problems.append(
                f"{names}: one image in several splits; take one of them off its list"
            )
        else:
            found.remarks.append(f"{names}: one image under several names")


def compare(found, other):
    """Images of another CAMUS folder that are, pixel by pixel, images of this one."""
    mine, theirs = _digests(found.path), _digests(other)
    shared = [(mine[key], theirs[key]) for key in mine if key in theirs]
    found.remarks.append(
        f"{len(mine)} images compared with {len(theirs)} of {other}: {len(shared)} are the same"
    )
    found.remarks += [
        f"{a.name} here is {b.name} there" for (a, _), (b, _) in shared if a.name != b.name
    ]
    found.problems += [
        f"{a.name} ({s}) here is {b.name} ({t}) there: never train on one and test on the other"
        for (a, s), (b, t) in shared
        if s != t
    ]


def _digests(path):
    """Content of every image of a CAMUS release to its (frame, split)."""
    release = camus.open_release(path)
    frames = [(f, split) for split in release.splits for f in camus.frames(release, split)]
    return {content_digest(read_image(f.image_path)[0]): (f, split) for f, split in frames}


def is_echonet(path):
    """True for the folder of EchoNet-Dynamic."""
    return (path / "FileList.csv").is_file() or (path / "VolumeTracings.csv").is_file()


def examine_echonet(found):
    """Videos by split, traced and missing, and one frame decoded."""
    counts = {}
    try:
        for split in echonet.SPLITS:
            videos = echonet.read_file_list(found.path, split)
            traces = echonet.read_tracings(found.path, set(videos))
            missing = [n for n in videos if not (found.path / "Videos" / f"{n}.avi").is_file()]
            traced = [name for name in videos if len(traces.get(name, {})) >= 2]
            counts[split] = (len(videos), len(traced), len(missing))
            found.problems += [f"Videos/{n}.avi: missing; download it again" for n in missing]
        if not found.problems and counts["TEST"][1]:
            first = echonet.load(found.path, size_px=112, limit=1)
            share = 100 * float(first.masks.mean())
            found.remarks.append(f"{first.index['name'][0]}: the LV covers {share:.1f} % at ED")
    except echonet.EchoNetError as error:
        found.problems.append(str(error))
        return
    columns = ["videos", "with two traced frames", "missing"]
    found.tables["Videos"] = pd.DataFrame(counts, index=columns).T
    found.next_command = f"make figures PROFILE=reduced DATA_ROOT=... ECHONET_ROOT={found.path}"


def is_archive(path):
    """True for the released archive of synthetic images, unpacked."""
    names = (*released_archive.DATASETS, released_archive.COMBINED)
    return any(any(path.glob(f"{deep}{name}/images")) for name in names for deep in ("", "*/"))


def examine_archive(found):
    """Pairs by dataset and split, and what kind of label map each dataset holds."""
    try:
        root = released_archive.find_root(found.path)
        pairs = released_archive.list_pairs(root)
        kinds = released_archive.kinds_of_datasets(pairs)
    except released_archive.ArchiveError as error:
        found.problems.append(str(error))
        return
    dataset = (pairs["view"] + " " + pairs["phase"]).rename("view and phase")
    found.tables["Pairs"] = pd.crosstab(pairs["split"], dataset)
    found.tables["Label maps"] = pd.Series(kinds, name="kind").to_frame()
    found.remarks.append("patients are numbered as in the first release of CAMUS, not the current")
    found.next_command = f"make figures PROFILE=reduced DATA_ROOT=... ARCHIVE={found.path}"


def is_meshes(path):
    """True for a folder with heart meshes in it or one folder below."""
    return any(any(path.glob(f"{deep}*{end}")) for end in meshes.SUFFIXES for deep in ("", "*/"))


def examine_meshes(found):
    """Every mesh read with the tissue numbers of the shipped profiles."""
    labels, lines = load_profile("paper").cyclegan.meshes.labels, []
    try:
        for path in meshes.mesh_files(found.path):
            try:
                mesh = meshes.read_mesh(path, labels)
            except meshes.MeshError as error:
                found.problems.append(str(error))
                continue
            lines.append([mesh.name, mesh.grid.n_points, mesh.grid.n_cells, mesh.unit])
    except (meshes.MeshError, ImportError) as error:
        found.problems.append(str(error))
    table = pd.DataFrame(lines, columns=["heart", "points", "cells", "unit of the file"])
    found.tables["Meshes"] = table.groupby("unit of the file").agg(
        hearts=("heart", "size"), fewest_cells=("cells", "min"), most_cells=("cells", "max")
    )
    found.next_command = f'make figures SET="cyclegan.meshes.folder={found.path}"'


def is_run(path):
    """True for the folder of a run, or of one of its stages."""
    return (path / "profile.yaml").is_file() or any(path.glob(f"*/{MANIFEST}"))


def examine_run(found):
    """The finished stages, and whether their files are as they were."""
    lines = []
    for manifest in manifests_of(found.path):
        profile = SimpleNamespace(name=manifest["profile"])
        run = SimpleNamespace(folder=found.path, profile=profile, seed=manifest["seed"])
        try:
            require(run, manifest["stage"])
        except StageError as error:
            found.problems.append(str(error))
        lines.append([manifest["stage"], len(manifest["outputs"]), manifest["finished"]])
    columns = ["stage", "files", "finished"]
    found.tables["Finished stages"] = pd.DataFrame(lines, columns=columns).set_index("stage")
    if not lines:
        found.problems.append(f"{found.path}: no finished stage; run `make figures` again")
    found.next_command = f"make figures PROFILE={found.path.name} RUN_ROOT={found.path.parent}"


# Kind to (recognises it, examines it).
KINDS = {
    "a run of echo_lib": (is_run, examine_run),
    "CAMUS": (is_camus, examine_camus),
    "the released archive of synthetic images": (is_archive, examine_archive),
    "EchoNet-Dynamic": (is_echonet, examine_echonet),
    "heart meshes": (is_meshes, examine_meshes),
}
