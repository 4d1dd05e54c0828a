"""Shipping a run's weights: files, cards and samples, from stages written by hand."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from echo_lib.checkpoints import load_weights, save_weights
from echo_lib.config import load_profile, parse_overrides
from echo_lib.data import phantom
from echo_lib.data.prepare import resize_image, resize_label_map
from echo_lib.evaluation.metrics import dice
from echo_lib.labels import PHASES, VIEWS
from echo_lib.provenance import Run, Stage, sha256_file
from echo_lib.rows import PAPER_ROWS, config_of, find_row
from echo_lib.segmentation.prediction import load_network, predict
from echo_lib.segmentation.unet import build_unet

REPOSITORY = Path(__file__).resolve().parents[2]
SLUGS = [row.slug for row in PAPER_ROWS]
CHANGES = {
    "data.source": "camus",
    "segmentation.epochs": 7,
    "segmentation.translate": [0.1, 0.2],
    "sdm.training.learning_rate": 0.002,
    "sdm.training.initial_weights": "weights/other_{view}.safetensors",
}


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """The script, shipping into ``tmp_path`` in the repository's place."""
    monkeypatch.syspath_prepend(REPOSITORY / "workflow")
    import ship_weights

    monkeypatch.setattr(ship_weights, "REPOSITORY", tmp_path)
    return ship_weights


@pytest.fixture
def run(tmp_path):
    """A run of profile smoke with changed numbers, its stage "prepared" as if of CAMUS."""
    run = Run(load_profile("smoke", CHANGES), 0, None, tmp_path / "runs")
    prepare(run)
    return run


def prepare(run):
    stage = Stage.open(run, "prepared", config={"data": run.profile.data})
    stage.finish([], facts={"frames": {"training": {"2CH_ED": 400, "4CH_ED": 400}}})


def command_line(run, *arguments):
    return ["--profile", "smoke", "--run-root", str(run.run_root), *arguments]


def train_network(run, slug, seed=0):
    """The stage of a row's network with random weights, and header and facts as training does."""
    row, config = find_row(slug), run.profile.segmentation
    read = dataclasses.replace(
        config_of(row, config), table_seeds=(seed,), extra_rows=(), checkpoint_every=0
    )
    extra = {"row": slug, "table_seed": seed, "evaluation_split": "validation"}
    stage = Stage.open(
        run, f"segmentation/{slug}-{seed}", config={"segmentation": read},
        inputs=["prepared"], extra=extra,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(SLUGS.index(slug) if slug in SLUGS else 99)
    header = {"stage": stage.name, "profile": "smoke", "variant": read.variant}
    header |= {"layers": read.layers, "mean": 0.2, "std": 0.3}
    weights = stage.folder / "weights.safetensors"
    save_weights(weights, build_unet(read, generator=generator).state_dict(), metadata=header)
    stage.finish([weights], facts={"training_pairs": 1440, "validation_dice": 0.876})
    return weights


def train_sdm(run, view, start=""):
    """The stage of a view's SDM: one tensor for a network."""
    sdm = run.profile.sdm
    config = {"network": sdm.network, "diffusion": sdm.diffusion}
    training = sdm.training if start else dataclasses.replace(sdm.training, initial_weights="")
    config["training"] = dataclasses.replace(training, checkpoint_every=1, preview_every=0)
    stage = Stage.open(
        run, f"sdm/{view}", config=config, inputs=["prepared"],
        extra={"initial_weights": start} if start else {},
    )  # fmt: skip
    weights = stage.folder / "weights.safetensors"
    save_weights(
        weights, {"w": torch.linspace(0, 1, 7)}, metadata={"view": view, "stamp": run.profile.stamp}
    )
    stage.finish([weights], facts={"seconds_training": 305.7})


def sample(run, per_view=10):
    """Stage "synthetic": images of one grey value each, which is in their names."""
    inputs = ["prepared", "sdm/2CH", "sdm/4CH"]
    config = {"sampling": run.profile.sdm.sampling}
    stage, lines = Stage.open(run, "synthetic", config=config, inputs=inputs), []
    for number, view in enumerate(VIEWS * per_view):
        split = "training" if number < 4 else "validation"
        line = {"name": f"patient{number:04d}_{view}_ED_0", "view": view, "split": split}
        for key, value in (("image", number), ("label_map", number % 5)):
            line[key] = f"synthetic/{key}_{number}.png"
            array = np.full((32, 32), value, np.uint8)
            Image.fromarray(array).save(run.folder / line[key])
        lines.append(line)
    pd.DataFrame(lines).to_csv(stage.folder / "pairs.csv", index=False)
    stage.finish([stage.folder / "pairs.csv"])


def card(tmp_path, name):
    return (tmp_path / "weights" / f"{name}.md").read_text(encoding="utf-8")


def changes_of(text):
    """The overrides of the command in a card."""
    words = shlex.split(re.search(r"\*\*Command\.\*\* `(.+?)`", text)[1])
    return words, parse_overrides(words[i + 1] for i, word in enumerate(words) if word == "--set")


def test_every_network_of_table_1_is_shipped_with_the_card_of_its_row(ship, run, tmp_path):
    trained = {slug: train_network(run, slug) for slug in SLUGS}
    ship.main(command_line(run, "--rows", *SLUGS))
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
    for slug, weights in trained.items():
        path, text = tmp_path / f"weights/segmentation_{slug}.safetensors", None
        text = card(tmp_path, path.stem)
        assert f'of the row "{find_row(slug).name}" (`{slug}`) of Table 1' in text
        assert sha256_file(path) in text
        assert ("judge synthetic ones" in text) == (slug == "real_all")
        assert load_weights(path)[1] == load_weights(weights)[1] | {"image_size_px": 64}
        np.testing.assert_array_equal(predict(path, images), predict(weights, images))
    assert "1440 pairs: slices of heart meshes" in card(tmp_path, "segmentation_cyclegan_all")
    assert "64 x 64 px" in text
    assert "(87.6 %) on training patients held out" in text
    found = [predict(weights, images).tobytes() for weights in trained.values()]
    assert len(set(found)) == len(SLUGS)


def test_an_extra_row_s_card_names_its_sources_and_purpose(ship, run, tmp_path):
    train_network(run, "sdm_and_real")
    ship.main(command_line(run, "--rows", "sdm_and_real", "--purpose", "be looked at"))
    text = card(tmp_path, "segmentation_sdm_and_real")
    assert "(`sdm_and_real`) beside Table 1" in text
    assert "made to be looked at." in text
    assert "1440 pairs: synthetic images of SDMs" in text
    assert "; frames of the CAMUS training list" in text


@pytest.mark.parametrize("slug", ["real_all", "real_all_longer", "real_all_as_released"])
def test_the_command_of_a_network_gives_its_config_again(ship, run, tmp_path, slug):
    train_network(run, slug)
    ship.main(command_line(run, "--rows", slug))
    words, changed = changes_of(card(tmp_path, f"segmentation_{slug}"))
    assert words[:3] == ["python", "-m", "echo_lib.segmentation.training"]
    assert words[3:11] == ["--profile", "smoke", "--seed", "0", "--row", slug, "--table-seed", "0"]
    assert changed == {key: CHANGES[key] for key in CHANGES if key.startswith("segmentation.")}
    again = load_profile("smoke", changed).segmentation
    assert config_of(find_row(slug), again) == config_of(find_row(slug), run.profile.segmentation)


def test_networks_of_phantoms_and_unfinished_ones_are_refused(ship, run, tmp_path):
    with pytest.raises(SystemExit, match=r"sdm_all-0/manifest.json: no such file; finish stage"):
        ship.main(command_line(run, "--rows", "sdm_all"))
    phantoms = Run(load_profile("smoke"), 0, None, tmp_path / "phantoms")
    prepare(phantoms)
    train_network(phantoms, "real_all")
    with pytest.raises(SystemExit, match="a run on phantom data; expected one on CAMUS"):
        ship.main(command_line(phantoms, "--rows", "real_all"))
    assert not (tmp_path / "weights").exists()


def ship_earlier(tmp_path, *, header, text):
    """Weights that a training starts from, by hand; their SHA-256."""
    path = tmp_path / "weights/other_2CH.safetensors"
    training = {"steps": 1800, "batch_size": 16, "learning_rate": 0.0004}
    training |= {"initial_weights": "weights/first_{view}.safetensors"}
    save_weights(path, {"w": torch.zeros(7)}, metadata={"training": training} | header)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return sha256_file(path)


@pytest.mark.parametrize(
    ("header", "text", "told"),
    [
        ({"seconds_training": 12.4}, "", "0.0004, 12 s"),
        (
            {"seconds_training": 12.4, "device": "cuda:0 (a GPU)"},
            "",
            "0.0004, 12 s on cuda:0 (a GPU)",
        ),
        ({}, "* **Compute.** 99 s on cpu, of which training steps 98 s.\n", "0.0004, 98 s"),
        ({}, "no word of it", "0.0004"),
    ],
)
def test_a_card_says_what_its_weights_went_through(ship, run, tmp_path, header, text, told):
    start = ship_earlier(tmp_path, header=header, text=text)
    train_sdm(run, "2CH", start)
    train_sdm(run, "4CH")
    ship.main(command_line(run, "--name", "other"))
    text = card(tmp_path, "other_2CH")
    assert f"started from weights of SHA-256 `{start[:16]}`." in text
    told += ", begun from `weights/first_2CH.safetensors`, which gave weights"
    assert f"1800 steps of 16 images at {told} of SHA-256 `{start[:16]}`" in text
    assert "started from random weights" in card(tmp_path, "other_4CH")
    shipped = load_weights(tmp_path / "weights/other_2CH.safetensors")[1]
    assert (shipped["seconds_training"], len(shipped["history"])) == (305.7, 1)
    words, changed = changes_of(text)
    assert words[-4:-2] == ["--set", "sdm.training.learning_rate=0.002"]
    assert load_profile("smoke", changed).sdm == run.profile.sdm
    # The file started from is overwritten by now; shipping again tells the same.
    ship.main(command_line(run, "--name", "other"))
    assert card(tmp_path, "other_2CH") == text


def test_other_starting_weights_are_refused(ship, run, tmp_path):
    ship_earlier(tmp_path, header={}, text="")
    train_sdm(run, "2CH", "0" * 64)
    with pytest.raises(SystemExit, match=r"other_2CH.safetensors: not the weights that the train"):
        ship.main(command_line(run, "--name", "mine"))


def test_samples_are_drawn_by_lot_from_the_view_s_validation_images(
    ship, run, tmp_path, monkeypatch
):
    for view in VIEWS:
        train_sdm(run, view)
    sample(run)
    drawn = {}
    draw = ship.sheet.draw

    def spy(rows, titles, *, stamp_text):
        drawn[titles[0][5:8]] = (rows, titles, stamp_text)
        return draw(rows, titles, stamp_text=stamp_text)

    monkeypatch.setattr(ship.sheet, "draw", spy)
    ship.main(command_line(run, "--name", "mine"))
    for view in VIEWS:
        rows, titles, stamp = drawn[view]
        numbers = [int(title[:4]) for title in titles]
        assert len(set(numbers)) == 8
        assert numbers != sorted(numbers)
        assert min(numbers) >= 4  # the first four are training images
        assert [n % 2 for n in numbers] == [VIEWS.index(view)] * 8
        assert [int(image.max()) for image in rows["synthetic"][1]] == numbers
        assert [int(found.max()) for found in rows["label map"][2]] == [n % 5 for n in numbers]
        assert stamp == run.profile.stamp
        assert f"![Label maps above, images below](mine_{view}.png)" in card(
            tmp_path, f"mine_{view}"
        )
        assert "from them: 8 of\n8 images of this view" in card(tmp_path, f"mine_{view}")
    png = tmp_path / "weights/mine_2CH.png"
    before = png.read_bytes()
    ship.main(command_line(run, "--name", "mine"))
    assert png.read_bytes() == before


def test_samples_of_other_weights_are_refused_and_stale_ones_removed(ship, run, tmp_path):
    for view in VIEWS:
        train_sdm(run, view)
    sample(run)
    manifest = run.folder / "synthetic/manifest.json"
    found = json.loads(manifest.read_text())
    found["inputs"]["sdm/2CH"] = "of other weights"
    manifest.write_text(json.dumps(found))
    with pytest.raises(SystemExit, match="drawn by other weights of 2CH; sample again"):
        ship.main(command_line(run, "--name", "mine"))
    assert not (tmp_path / "weights/mine_2CH.safetensors").exists()
    manifest.unlink()
    (tmp_path / "weights").mkdir(exist_ok=True)
    (tmp_path / "weights/mine_2CH.png").write_bytes(b"of earlier weights")
    ship.main(command_line(run, "--name", "mine"))
    assert not (tmp_path / "weights/mine_2CH.png").exists()
    assert "![" not in card(tmp_path, "mine_2CH")


@pytest.mark.parametrize(
    "path",
    sorted((REPOSITORY / "weights").glob("segmentation_*.safetensors")),
    ids=lambda path: path.stem,
)
def test_a_shipped_network_finds_the_heart_of_a_phantom(path):
    row, header = find_row(path.stem.removeprefix("segmentation_")), load_weights(path)[1]
    size = header.get("image_size_px") or load_profile(header["profile"]).data.image_size_px
    patient = phantom.draw_patient("patient0001", seed=0)
    view, phase = (row.view or VIEWS[1], row.phase or PHASES[0])
    image, label_map, _ = phantom.render(patient, view, phase, seed=0)
    found = predict(load_network(path), resize_image(image, size)[None, None].copy())
    assert found.shape == (1, size, size)
    case = pd.DataFrame([{"name": "a", "patient": "a", "view": view, "phase": phase}])
    truth = resize_label_map(label_map, size)[None]
    scores = dice(found, truth, case, row=row.slug).set_index("structure")["dice"]
    assert scores["LV endo"] > 0.5
    assert scores["LV epi"] > 0.5
