"""A tiny run with prepared ED frames and augmented maps, 16 px."""

import numpy as np
import pandas
import pytest
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.provenance import Run, Stage

SIZE = 16
OVERRIDES = {
    "name": "tiny",
    "data.image_size_px": SIZE,
    "sdm.network.width": 8,
    "sdm.network.head_width": 8,
    "sdm.network.spade_hidden_width": 8,
    "sdm.network.norm_groups": 4,
    "sdm.network.patch_size": 2,
    "sdm.training.steps": 6,
    "sdm.training.checkpoint_every": 2,
    "sdm.training.log_every": 3,
    "sdm.training.preview_every": 0,
    "sdm.sampling.steps": 4,
    "sdm.sampling.batch_size": 2,
}


def _write(folder, relative, array):
    path = folder.parent / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_prepared(folder):
    """Three training frames and maps per view and a validation frame, indexed; their files."""
    generator, frames, maps, files = np.random.default_rng(0), [], [], []
    for view in ("2CH", "4CH"):
        for number in range(1, 5):
            patient = f"patient{number:04d}"
            name = f"{patient}_{view}_ED"
            label_map = np.sort(generator.integers(0, 5, (SIZE, SIZE)), axis=0).astype(np.uint8)
            line = {"name": name, "patient": patient, "view": view, "phase": "ED"}
            line["split"] = "training" if number < 4 else "validation"
            frame = line | {
                "image": f"prepared/i/{name}.png",
                "label_map": f"prepared/l/{name}.png",
            }
            files.append(_write(folder, frame["image"], (50 * label_map).astype(np.uint8)))
            files.append(_write(folder, frame["label_map"], label_map))
            frames.append(frame)
            if line["split"] == "validation":
                continue
            maps.append(
                line
                | {"name": f"{name}_0", "source": name, "k": 0, "label_map": frame["label_map"]}
            )
    for name, lines in (("frames", frames), ("maps", maps)):
        pandas.DataFrame(lines).to_csv(folder / f"{name}.csv", index=False)
        files.append(folder / f"{name}.csv")
    return files


def make_run(root, **overrides):
    """A finished stage "prepared" under a profile with ``overrides``; dots are written "__"."""
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    run = Run(load_profile("smoke", OVERRIDES | changes), 0, None, root)
    stage = Stage.open(run, "prepared", config={"data": run.profile.data})
    stage.finish(write_prepared(stage.folder))
    return run


@pytest.fixture(scope="session")
def new_run():
    return make_run
