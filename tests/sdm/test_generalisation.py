"""The error on frames that an SDM was trained on and on others, by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from echo_lib.config import load_profile
from echo_lib.labels import VIEWS
from echo_lib.provenance import Run, sha256_file
from echo_lib.sdm import generalisation
from echo_lib.sdm.diffusion import GaussianDiffusion

SIZE = 8
GREYS = {"training": (0, 255), "validation": (255, 255)}  # of ED frames, -1 and 1 to the network


@pytest.fixture
def run(tmp_path):
    """Frames of one grey value each; ES frames of the training split alone."""
    run = Run(load_profile("reduced-cpu"), 0, None, tmp_path)
    assert run.profile.data.evaluation_split == "validation"
    folder, lines = run.folder / "prepared", []
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(folder / "map.png")
    frames = [
        ("ED", split, n, grey) for split, found in GREYS.items() for n, grey in enumerate(found)
    ]
    for view in VIEWS:
        for phase, split, n, grey in [*frames, ("ES", "training", 0, 255)]:
            name = f"{view}_{phase}_{split}_{n}"
            Image.fromarray(np.full((SIZE, SIZE), grey, np.uint8)).save(folder / f"{name}.png")
            lines.append((name, view, phase, split, f"prepared/{name}.png", "prepared/map.png"))
    columns = ["name", "view", "phase", "split", "image", "label_map"]
    pd.DataFrame(lines, columns=columns).to_csv(folder / "frames.csv", index=False)
    return run


class Dark(torch.nn.Module):
    """Has learned by heart that every image is black; notes what it was asked."""

    def __init__(self, config):
        super().__init__()
        self.config, self.asked = config, []

    def forward(self, x_t, t, onehot):
        assert onehot.shape == (len(x_t), self.config.classes, SIZE, SIZE)
        self.asked.append((x_t.clone(), int(t[0])))
        return torch.full_like(x_t, -1.0)


@pytest.fixture
def dark(run, monkeypatch, tmp_path):
    sdm = run.profile.sdm
    model = Dark(sdm.network)
    process = GaussianDiffusion.from_config(dataclasses.replace(sdm.diffusion, prediction="x0"))
    denoiser = SimpleNamespace(model=model, process=process, device=torch.device("cpu"))
    monkeypatch.setattr(generalisation, "load_denoiser", lambda path, device: denoiser)
    for view in VIEWS:
        (tmp_path / f"{view}.safetensors").write_text(view)
    return model


def test_errors_by_phase_and_split(run, dark, tmp_path):
    path = tmp_path / "2CH.safetensors"
    table = generalisation.errors(run, "2CH", path)
    assert tuple(table.columns) == generalisation.COLUMNS
    assert table[["phase", "split", "n"]].to_numpy().tolist() == [
        ["ED", "training", 2], ["ED", "validation", 2], ["ES", "training", 1],
    ]  # fmt: skip
    assert table["mse"].tolist() == pytest.approx([2, 4, 4])  # of a black one 0, of a white one 4
    assert set(table["weights_sha256"]) == {sha256_file(path)}
    steps = [step for _, step in dark.asked[: generalisation.LEVELS]]
    assert steps == [100, 300, 500, 700, 900]


def test_noise_belongs_to_the_frame_and_not_to_its_batch(run, dark, monkeypatch, tmp_path):
    path = tmp_path / "2CH.safetensors"
    generalisation.errors(run, "2CH", path)
    together, dark.asked[:] = list(dark.asked), []
    monkeypatch.setattr(generalisation, "BATCH", 1)
    generalisation.errors(run, "2CH", path)
    assert torch.equal(together[0][0][1], dark.asked[generalisation.LEVELS][0][0])
    assert not torch.equal(dark.asked[0][0], dark.asked[generalisation.LEVELS][0])


def test_command_writes_both_views(run, dark, tmp_path, capsys):
    output = tmp_path / "held_out.csv"
    generalisation.main(
        ["--profile", "reduced-cpu", "--run-root", str(run.run_root), "--output", str(output),
         "--weights", str(tmp_path / "{view}.safetensors")]
    )  # fmt: skip
    table = pd.read_csv(output)
    assert table["view"].value_counts().to_dict() == dict.fromkeys(VIEWS, 3)
    assert table["weights_sha256"].nunique() == 2
    assert "validation" in capsys.readouterr().out
