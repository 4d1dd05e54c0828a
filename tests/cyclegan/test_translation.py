"""Translation: one echo per map, whatever shares its batch or interrupts the run."""

import numpy as np
import pytest
import torch
from PIL import Image

from echo_lib.checkpoints import save_weights
from echo_lib.cyclegan import training, translation
from echo_lib.cyclegan.networks import Generator, build_generator
from echo_lib.data.datasets import load_pairs, read_index
from echo_lib.provenance import StageError, require
from echo_lib.seeding import numpy_generator, torch_generator


@pytest.fixture
def run(new_run, tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "BATCH_SIZE", 3)
    run = new_run(tmp_path, learning_rate=0.01)
    training.train(run)
    return run


def images(run):
    paths = sorted((run.folder / "translated/images").rglob("*.png"))
    return {path.name: path.read_bytes() for path in paths}


def remove_translated(run):
    for path in (run.folder / "translated").rglob("*"):
        if path.is_file():
            path.unlink()


def test_dataset_has_one_echo_per_map_under_the_map_s_name(run):
    manifest = translation.translate_dataset(run)
    pairs, maps = read_index(run.folder, "cyclegan"), read_index(run.folder, "maps")
    assert manifest["facts"]["images"] == 7
    assert list(pairs.columns) == translation.PAIR_COLUMNS
    for column in ("name", "patient", "view", "phase", "split", "label_map"):
        assert pairs[column].tolist() == maps[column].tolist()
    assert {(v, p) for v, p in zip(pairs.view, pairs.phase, strict=True)} == {
        (view, phase) for view in ("2CH", "4CH") for phase in ("ED", "ES")
    }
    assert load_pairs(run.folder, pairs).images.shape == (7, 1, 32, 32)
    assert pairs.image[6] == (
        f"translated/images/validation/{pairs.view[6]}_{pairs.phase[6]}/{pairs.name[6]}.png"
    )
    assert translation.translate_dataset(run) == manifest


def test_echoes_are_what_the_trained_generator_makes(run):
    translation.translate_dataset(run)
    generator = translation.load_generator(run.folder / "cyclegan/weights.safetensors")
    pseudo = np.array(Image.open(run.folder / read_index(run.folder, "pseudo_maps").image[0]))
    expected = generator(torch.tensor(pseudo)[None, None] / 127.5 - 1)[0, 0]
    made = np.array(Image.open(run.folder / read_index(run.folder, "cyclegan").image[0]))
    assert np.abs((made / 127.5 - 1) - expected.numpy()).max() < 1.5 / 127.5


def test_interrupted_translation_ends_in_the_same_files_and_keeps_finished_ones(run):
    class Killed(Exception):
        pass

    def dies(done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        translation.translate_dataset(run, on_batch=dies)
    kept = {path: path.stat().st_mtime_ns for path in (run.folder / "translated").rglob("*.png")}
    assert len(kept) == 3
    with pytest.raises(StageError, match="'translated' is not finished"):
        require(run, "translated")
    first = translation.translate_dataset(run)
    resumed = images(run)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    remove_translated(run)
    again = translation.translate_dataset(run)
    assert images(run) == resumed
    assert again["outputs_digest"] == first["outputs_digest"]


def generator_of(channels=1, **sizes):
    network = Generator(sizes.get("width", 4), 2, channels=channels)
    draws = torch_generator("translation")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2, generator=draws)
    return network.eval().requires_grad_(False)


def pseudo_images(count=5):
    return numpy_generator("pseudo").integers(0, 256, (count, 32, 32)).astype(np.uint8)


@pytest.mark.parametrize(("precision", "levels"), [("float32", 1), ("bfloat16", 4)])
def test_an_echo_does_not_depend_on_its_batch_but_for_rounding(precision, levels):
    generator, images = generator_of(), pseudo_images()
    one, five = (
        translation.translate(generator, images, batch_size=size, precision=precision)
        for size in (1, 5)
    )
    assert one.shape == images.shape
    assert one.dtype == np.uint8
    assert np.abs(one.astype(int) - five).max() <= levels
    assert one.std() > 5


def test_three_channels_see_grey_and_give_their_mean(tmp_path):
    generator, images = generator_of(channels=3), pseudo_images(2)
    grey = torch.tensor(images)[:, None].repeat(1, 3, 1, 1) / 127.5 - 1
    expected = ((generator(grey).mean(1) + 1) * 127.5).round().numpy()
    made = translation.translate(generator, images, precision="float32")
    assert np.abs(made - expected).max() <= 1
    torch.save(generator.state_dict(), tmp_path / "G.pth")
    loaded = translation.load_generator(tmp_path / "G.pth")
    np.testing.assert_array_equal(translation.translate(loaded, images, precision="float32"), made)


def test_both_directions_are_in_a_weights_file(run):
    path = run.folder / "cyclegan/weights.safetensors"
    echo, pseudo = (
        translation.load_generator(path, direction=direction).model[1].weight
        for direction in ("to_echo", "to_pseudo")
    )
    assert not torch.equal(echo, pseudo)
    initial = build_generator(
        run.profile.cyclegan, generator=torch_generator("cyclegan-weights", 0, "to_echo")
    )
    assert 0 < (echo - initial.model[1].weight).abs().max() < 0.2
    with pytest.raises(ValueError, match="direction 'to_real'"):
        translation.load_generator(path, direction="to_real")


def test_files_and_images_that_do_not_fit_are_refused(tmp_path):
    save_weights(tmp_path / "bare.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="no generator in the header"):
        translation.load_generator(tmp_path / "bare.safetensors")
    for wrong in (np.zeros((1, 32, 32)), np.zeros((32, 32), np.uint8), pseudo_images()[:, :30]):
        with pytest.raises(ValueError, match=r"expected \(N, H, W\) uint8"):
            translation.translate(generator_of(), wrong)
