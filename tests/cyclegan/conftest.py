"""A tiny run with prepared frames, pseudo-images of slices and of augmented maps, 32 px."""

import numpy as np
import pandas
import pytest
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.provenance import Run, Stage

SIZE = 32
OVERRIDES = {
    "name": "tiny",
    "data.image_size_px": SIZE,
    "cyclegan.width": 4,
    "cyclegan.residual_blocks": 1,
    "cyclegan.discriminator_width": 4,
    "cyclegan.epochs": 3,
    "cyclegan.images_per_epoch": 5,
    "cyclegan.constant_epochs": 1,
    "cyclegan.batch_size": 2,
    "cyclegan.pool_size": 3,
    "cyclegan.precision": "float32",
    "cyclegan.checkpoint_every": 1,
}


class Writer:
    """Writes files and indices below one stage's folder, and remembers them."""

    def __init__(self, folder):
        self.folder, self.files = folder, []
        self.generator = np.random.default_rng(0)

    def png(self, relative, array):
        path = self.folder.parent / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        self.files.append(path)
        return relative

    def index(self, name, lines):
        path = self.folder / f"{name}.csv"
        pandas.DataFrame(lines).to_csv(path, index=False)
        self.files.append(path)

    def label_map(self):
        """A disc (LV) in a ring (myocardium) on the sector."""
        y, x = np.mgrid[:SIZE, :SIZE]
        row, column = self.generator.uniform(10, 22, 2)
        distance = np.hypot(y - row, x - column)
        return np.select([distance < 5, distance < 8], [1, 3], 2).astype(np.uint8)

    def image(self, label_map, grey, noise):
        image = np.array(grey)[label_map] + self.generator.normal(0, noise, label_map.shape)
        return image.clip(0, 255).astype(np.uint8)


def pseudo_of(writer, label_map):
    return writer.image(label_map, [0, 20, 160, 220, 30], 0)


def write_prepared(folder):
    """Seven frames, six of them for training, and a map for each; the files written."""
    writer, frames, maps = Writer(folder), [], []
    for number in range(7):
        view, phase = ("2CH", "4CH")[number % 2], ("ED", "ES")[number // 2 % 2]
        patient = f"patient{number + 1:04d}"
        line = {"name": f"{patient}_{view}_{phase}", "patient": patient, "view": view}
        line |= {"phase": phase, "split": "validation" if number == 6 else "training"}
        label_map = writer.label_map()
        path = writer.png(f"prepared/l/{line['name']}.png", label_map)
        echo = writer.image(label_map, [0, 10, 90, 130, 10], 25)
        image = writer.png(f"prepared/i/{line['name']}.png", echo)
        frames.append(line | {"image": image, "label_map": path})
        own = {"name": f"{line['name']}_0", "source": line["name"], "k": 0, "label_map": path}
        maps.append(line | own)
    writer.index("frames", frames)
    writer.index("maps", maps)
    return writer.files


def write_pseudo(folder):
    """Five slices, four of them for training, and a pseudo-image per map; the files written."""
    writer, slices = Writer(folder), []
    for number in range(5):
        line = {"name": f"heart{number}_4CH", "patient": f"heart{number}", "view": "4CH"}
        line["split"] = "test" if number == 4 else "training"
        label_map = writer.label_map()
        line["image"] = writer.png(f"pseudo/i/{line['name']}.png", pseudo_of(writer, label_map))
        line["label_map"] = writer.png(f"pseudo/l/{line['name']}.png", label_map)
        slices.append(line)
    writer.index("slices", slices)
    maps = pandas.read_csv(folder.parent / "prepared/maps.csv").drop(columns=["source", "k"])
    images = []
    for line in maps.itertuples():
        label_map = np.array(Image.open(folder.parent / line.label_map))
        images.append(writer.png(f"pseudo/m/{line.name}.png", pseudo_of(writer, label_map)))
    writer.index("maps", maps.assign(image=images))
    return writer.files


def make_run(root, **overrides):
    """Finished stages "prepared" and "pseudo"; overrides are keys of section cyclegan."""
    changes = {f"cyclegan.{key}": value for key, value in overrides.items()}
    run = Run(load_profile("smoke", OVERRIDES | changes), 0, None, root)
    for name, write, inputs in (
        ("prepared", write_prepared, ()),
        ("pseudo", write_pseudo, ("prepared",)),
    ):
        stage = Stage.open(run, name, config={"data": run.profile.data}, inputs=inputs)
        stage.finish(write(stage.folder))
    return run


@pytest.fixture
def new_run():
    return make_run
