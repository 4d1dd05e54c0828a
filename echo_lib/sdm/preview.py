"""What a model draws while it learns: the same label maps from the same noise, step by step.

Previews stand beside a training's result and are no part of it: no weight depends on them.
"""

import copy
import dataclasses
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from echo_lib.sdm.denoiser import Denoiser, sample, write_png
from echo_lib.sdm.stream import validation_maps
from echo_lib.seeding import torch_generator

MAPS = 4  # label maps of the validation split, each with noise of its own
STEPS = 8  # network evaluations an image, by the solver that needs fewest
_PATTERN = "step_{:06d}.png"


class Film(NamedTuple):
    """Previews of several trainings side by side.

    Attributes:
        names: N names of label maps.
        label_maps: (N, H, W) uint8 SDM ids.
        images: training step to images (N, H, W) uint8, in order.
    """

    names: tuple
    label_maps: np.ndarray
    images: dict

    def as_pairs(self):
        """All pictures one after another.

        Returns:
            A data frame (name, step), their images and their label maps, both (M, H, W) uint8.
        """
        lines = [(name, step) for step in self.images for name in self.names]
        images = np.concatenate(list(self.images.values()))
        label_maps = np.concatenate([self.label_maps] * len(self.images))
        return pd.DataFrame(lines, columns=["name", "step"]), images, label_maps


def write(recipe, folder):
    """Write ``previews/step_<step>.png`` from the averaged weights: the maps' images in a row.

    Args:
        recipe: ``Recipe``; nothing of it is changed.
        folder: of the training's stage.
    """
    run, sampling = recipe.run, recipe.run.profile.sdm.sampling
    maps, names = validation_maps(run, recipe.view, MAPS)
    model = copy.deepcopy(recipe.model)  # a copy: the one in training keeps its own weights
    model.load_state_dict(recipe.ema_weights())
    denoiser = Denoiser(model.eval().requires_grad_(False), recipe.process, {})
    config = dataclasses.replace(
        sampling, sampler="dpm_solver_pp", steps=STEPS, guidance=0.0, compile=False
    )
    generators = [torch_generator("preview", run.seed, name) for name in names]
    images = sample(denoiser, maps, config, generators=generators).numpy()
    write_png(_folder(folder) / _PATTERN.format(recipe.step), np.concatenate(images, axis=1))


def film(run, views, *, most=6):
    """The previews of finished trainings, of those steps that all views have.

    Args:
        run: ``provenance.Run``.
        views: the trainings.
        most: take at most so many steps, evenly chosen, the first and the last among them.

    Returns:
        ``Film``, the views side by side; without images where ``preview_every`` was 0.
    """
    folders = [_folder(run.folder / "sdm" / view) for view in views]
    common = sorted(set.intersection(*({p.name for p in f.glob("step_*.png")} for f in folders)))
    places = np.unique(np.linspace(0, len(common) - 1, most).round().astype(int))
    maps = [validation_maps(run, view, MAPS) for view in views]
    images = {
        int(name[5:-4]): np.concatenate([_read(folder / name) for folder in folders])
        for name in (common[place] for place in places if common)
    }
    names = tuple(name for _, names in maps for name in names)
    return Film(names, np.concatenate([label_maps.numpy() for label_maps, _ in maps]), images)


def _folder(stage_folder):
    return stage_folder / "previews"


def _read(path):
    with Image.open(path) as file:
        row = np.array(file)
    return np.stack(np.split(row, row.shape[1] // row.shape[0], axis=1))
