import json
import threading

import numpy as np
import pytest
from PIL import Image

from echo_lib.labels import SDM_LA, SDM_LV, SDM_MYOCARDIUM, SDM_SECTOR
from echo_lib.provenance import PACKAGE
from echo_lib.studio import generation
from echo_lib.studio.generation import Request, Settings, Worker, generate
from echo_lib.studio.widget import Studio

WEIGHTS = PACKAGE.parent / "weights" / "phantom_4CH.safetensors"


def heart(size=64):
    """A sector with a ventricle, its wall and an atrium, as blocks."""
    label_map = np.zeros((size, size), dtype=np.uint8)
    label_map[4:60, 6:58] = SDM_SECTOR
    label_map[12:36, 20:44] = SDM_MYOCARDIUM
    label_map[16:36, 24:40] = SDM_LV
    label_map[36:50, 24:40] = SDM_LA
    return label_map


@pytest.fixture
def studio(tmp_path):
    return Studio(heart(), weights={"4CH": WEIGHTS}, folder=tmp_path, steps=2)


def tell(studio, action, buffers=(), **content):
    """What the browser sends."""
    studio._on_message(studio, {"action": action, **content}, list(buffers))


def shown(studio):
    return np.frombuffer(studio.label_map, dtype=np.uint8).reshape(studio.shape)


def test_edits_undo_and_redo_are_shown(studio):
    assert (shown(studio) == heart()).all()
    tell(studio, "edit", name="missing_atrium", parameters={})
    assert SDM_LA not in shown(studio)
    assert [edit["title"] for edit in studio.history] == ["Missing left atrium"]
    assert "no left atrium" in studio.findings
    tell(studio, "undo")
    assert (shown(studio) == heart()).all()
    assert studio.undone == 1
    tell(studio, "redo")
    assert SDM_LA not in shown(studio)


def test_a_slider_replaces_its_edit_and_a_try_is_not_kept(studio):
    tell(studio, "edit", name="grow", parameters={"structure": "LV cavity", "amount": 0.05})
    once = (shown(studio) == SDM_LV).sum()
    grown = {"structure": "LV cavity", "amount": 0.1}
    tell(studio, "try_edit", name="grow", parameters=grown, in_place_of_last=True)
    tried = (shown(studio) == SDM_LV).sum()
    assert len(studio.history) == 1
    assert studio.history[0]["parameters"]["amount"] == 0.05
    tell(studio, "edit", name="grow", parameters=grown, in_place_of_last=True)
    assert len(studio.history) == 1
    assert (shown(studio) == SDM_LV).sum() == tried > once


def test_painting_and_erasing(studio):
    stroke = {"path": [[0.8, 0.8]], "radius": 0.05}
    tell(studio, "edit", name="paint", parameters=stroke | {"label": "left atrium"})
    assert shown(studio)[51, 51] == SDM_LA
    tell(studio, "edit", name="erase", parameters=stroke)
    assert shown(studio)[51, 51] == SDM_SECTOR


def test_an_impossible_edit_is_told_and_changes_nothing(studio):
    tell(studio, "edit", name="grow", parameters={"amount": 9})
    assert "out of range" in studio.message
    assert (shown(studio) == heart()).all()
    tell(studio, "explode")
    assert "action 'explode', expected one of edit" in studio.message


def test_generation_fills_the_filmstrip_and_repeats_to_the_bit(studio):
    tell(studio, "generate")
    assert studio.wait(60)
    (result,) = studio.results
    assert result.image.shape == (64, 64)
    assert bytes(studio.image) == result.image.tobytes()
    assert not studio.busy
    assert studio.filmstrip[0]["caption"] == "1 · 4CH · seed 0 · dpm_solver_pp 2"
    assert (generate(heart(), result.settings, weights=WEIGHTS) == result.image).all()
    studio.seed = 1
    studio.generate(wait=True)
    assert (studio.result().image != result.image).any()
    assert studio.result(1) is result


def test_the_copied_code_names_map_edits_and_settings(studio):
    studio.edit("missing_atrium")
    studio.generate(wait=True)
    tell(studio, "show_code", number=1)
    names = {}
    exec(studio.code.rpartition("image = ")[0], names)  # all but the sampling, which needs weights
    assert (names["document"].current == studio.result().label_map).all()
    assert studio.settings.as_code() in studio.code
    assert eval(studio.settings.as_code(), {"Settings": Settings}) == studio.settings


def test_saving_writes_image_map_and_record(studio, tmp_path):
    studio.edit("missing_atrium")
    studio.generate(wait=True)
    image, label_map, record = studio.save()
    assert (np.array(Image.open(image)) == studio.result().image).all()
    assert (np.array(Image.open(label_map)) == studio.document.current).all()
    stored = json.loads(record.read_text())
    assert stored["settings"]["seed"] == 0
    assert stored["weights"]["file"] == WEIGHTS.name
    assert [edit["name"] for edit in stored["document"]["edits"]] == ["missing_atrium"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in (image, label_map, record)
    )


def test_saving_before_an_image_says_so(studio):
    tell(studio, "save")
    assert "generate an image first" in studio.message


def test_a_user_s_map_is_asked_about_and_taken(studio, tmp_path):
    path = tmp_path / "mine.png"
    mine = np.zeros((32, 32), dtype=np.uint8)
    mine[8:20, 8:20] = 1
    Image.fromarray(mine).save(path)
    tell(studio, "load_map", [path.read_bytes()], name="mine.png")
    assert studio.dialog["values"] == [0, 1]
    assert studio.dialog["suggestion"] == {"0": "background", "1": "LV cavity"}
    tell(studio, "use_map", meanings={"0": "background", "1": "LV cavity"})
    assert studio.dialog == {}
    assert (shown(studio) == SDM_LV).sum() == 4 * 144
    tell(studio, "load_map", [b"broken"], name="mine.png")
    assert "unreadable" in studio.message


def test_views_keep_documents_of_their_own(tmp_path):
    studio = Studio({"2CH": heart(), "4CH": heart()}, view="2CH", folder=tmp_path)
    studio.edit("missing_atrium")
    studio.view = "4CH"
    assert SDM_LA in shown(studio)
    assert studio.history == []
    studio.view = "2CH"
    assert SDM_LA not in shown(studio)
    with pytest.raises(ValueError, match="no label map of view '4CH'; found"):
        Studio({"2CH": heart()})


def test_the_latest_request_wins(monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slow(label_map, settings, *, weights, on_step):
        begun.set()
        go.wait(10)
        on_step(1, 1)
        return np.full((2, 2), settings.seed, dtype=np.uint8)

    monkeypatch.setattr(generation, "generate", slow)
    images, errors = [], []
    worker = Worker(
        lambda *progress: None,
        lambda request, image, preview: images.append((int(image[0, 0]), preview)),
        lambda request, error: errors.append(error),
    )
    for seed in (1, 2, 3):
        worker.request(Request(np.zeros((2, 2)), Settings(seed=seed, steps=2)))
        assert begun.wait(10)
    go.set()
    assert worker.wait(10)
    assert images == [(3, False)]
    assert errors == []


def test_cancel_gives_up_and_the_worker_lives_on(studio):
    studio.steps = 500
    studio.generate()
    assert studio.busy
    tell(studio, "cancel")
    assert studio.wait(60)
    assert (studio.results, studio.busy) == ([], False)
    studio.steps = 2
    studio.generate(wait=True)
    assert len(studio.results) == 1


def test_an_error_is_told(studio, tmp_path):
    studio._weights["4CH"] = tmp_path / "none.safetensors"
    studio.generate(wait=True)
    assert studio.message.startswith("no image: ")
    assert "none.safetensors" in studio.message


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"view '3CH' and sampler 'ddpm', expected one of"):
        Settings(view="3CH", sampler="ddpm")
    with pytest.raises(ValueError, match=r"steps 0 and guidance 0\.0, expected 2\.\.1000"):
        Settings(steps=0)
