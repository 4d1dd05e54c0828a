import json
import subprocess
import sys

import numpy as np
import pytest

from echo_lib.labels import SDM_LA, SDM_SECTOR
from echo_lib.provenance import PACKAGE
from echo_lib.studio.label_map import EDITS, Document, Edit, apply, edits_from, replay
from echo_lib.studio.parameters import EditError

# Every edit with parameters that change nothing.
STILL = {
    "affine": {},
    "shear": {},
    "swirl": {},
    "elastic": {"points": [[0.3, 0.4, 0, 0], [0.6, 0.5, 0, 0]]},
    "grow": {},
    "mitral_plane": {},
    "wall_thickness": {},
    "septal_defect": {"width": 0},
    "missing_atrium": {"missing": 0},
    "enlarged_atrium": {"factor": 1},
    "dilated_ventricle": {"width": 1, "wall": 1},
    "hypertrophy": {"factor": 1},
    "apical_aneurysm": {"size": 0},
    "pericardial_effusion": {"width": 0},
    "paint": {},
    "erase": {},
}
CHAIN = [
    {"name": "swirl", "parameters": {"angle_degrees": 40.0}},
    {"name": "elastic", "parameters": {"points": [[0.4, 0.5, 0.1, -0.05]]}},
    {"name": "paint", "parameters": {"path": [[0.2, 0.2], [0.3, 0.25]], "label": "left atrium"}},
    {"name": "missing_atrium"},
]


def test_the_edits_are_those_with_a_test():
    assert set(EDITS) == set(STILL)


@pytest.mark.parametrize("name", sorted(STILL))
def test_an_edit_of_nothing_leaves_the_map_to_the_bit(heart, name):
    before = heart.copy()
    after = apply(heart, Edit(name, STILL[name]))
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(heart, before)
    assert after.dtype == np.uint8


@pytest.mark.parametrize("move", ["heart", "all"])
@pytest.mark.parametrize("name", ["affine", "shear", "swirl"])
def test_a_deformation_of_nothing_leaves_also_the_sector(heart, name, move):
    np.testing.assert_array_equal(apply(heart, Edit(name, {"move": move})), heart)


@pytest.mark.parametrize("name", sorted(set(EDITS) - {"elastic", "paint", "erase"}))
def test_a_strength_at_either_end_changes_the_map_but_never_the_sector(heart, name):
    kind = EDITS[name]
    strength = next(p for p in kind.parameters if p.name == kind.strength)
    changed = [
        apply(heart, Edit(name, {kind.strength: value})) for value in (strength.low, strength.high)
    ]
    assert any((after != heart).any() for after in changed)
    for after in changed:
        np.testing.assert_array_equal(after != 0, heart != 0)


def test_defaults_are_in_range_and_named_once():
    for kind in EDITS.values():
        assert kind.checked({}) == {p.name: p.default for p in kind.parameters}
        assert not kind.strength or kind.strength in {p.name for p in kind.parameters}


def test_an_edit_completes_itself_and_cannot_be_changed():
    edit = Edit("septal_defect", {"width": 0.3})
    assert edit.parameters == {"position": 0.35, "width": 0.3, "side": "septum"}
    with pytest.raises(TypeError):
        edit.parameters["width"] = 0.1
    with pytest.raises(AttributeError):
        edit.name = "swirl"
    assert edit == Edit("septal_defect", {"width": 0.3, "position": 0.35})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("swirll", {}, "no edit 'swirll'; did you mean 'swirl'"),
        ("swirl", {"angel_degrees": 3}, "did you mean 'angle_degrees'"),
        ("swirl", {"angle_degrees": 400}, "400 is out of range; expected -360 to 360 degrees"),
        ("swirl", {"angle_degrees": "40"}, "expected a number, found '40'"),
        ("swirl", {"angle_degrees": float("nan")}, "out of range"),
        ("swirl", {"move": "hart"}, "did you mean 'heart'"),
        ("grow", {"structure": "left atrim"}, "did you mean 'left atrium'"),
        ("paint", {"path": [[0.1, 0.2, 0.3]]}, "list of lists of 2 numbers"),
        ("elastic", {"points": [[0.1, 0.2, 0.3, 9.0]]}, "9 is out of range"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_remedy(name, parameters, message):
    with pytest.raises(EditError, match=message):
        Edit(name, parameters)


def test_edits_from_a_notebooks_parameter():
    edits = edits_from(json.dumps(CHAIN))
    assert edits == edits_from(CHAIN) == edits_from(edits)
    assert [edit.name for edit in edits] == ["swirl", "elastic", "paint", "missing_atrium"]
    assert edits_from([]) == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("[", "not JSON"),
        ({"name": "swirl"}, "expected a list"),
        ([{"name": "swirl"}, {"nam": "swirl"}], r"edits\[1\]: expected name and parameters"),
        ([{"name": "swirl"}, {"name": "shera"}], r"edits\[1\]: no edit 'shera'; did you mean 'she"),
    ],
)
def test_edits_that_cannot_be_read_are_named(records, message):
    with pytest.raises(EditError, match=message):
        edits_from(records)


def test_a_replay_is_the_document_to_the_bit(heart):
    document = Document(heart, CHAIN)
    np.testing.assert_array_equal(replay(heart, edits_from(CHAIN)), document.current)
    np.testing.assert_array_equal(document.original, heart)
    assert not (document.current == SDM_LA).any()


def test_undo_and_redo_walk_the_same_maps(heart):
    document, seen = Document(heart), [heart]
    for edit in edits_from(CHAIN):
        seen.append(document.apply(edit).copy())
    for before in reversed(seen[:-1]):
        assert document.undo()
        np.testing.assert_array_equal(document.current, before)
    assert not document.undo()
    for after in seen[1:]:
        assert document.redo()
        np.testing.assert_array_equal(document.current, after)
    assert not document.redo()
    assert document.edits == edits_from(CHAIN)


def test_a_new_edit_forgets_what_was_undone(heart):
    document = Document(heart, CHAIN[:2])
    document.undo()
    document.apply(Edit("shear", {"angle_degrees": 10}))
    assert not document.redo()
    assert [edit.name for edit in document.edits] == ["swirl", "shear"]


def test_a_preview_records_nothing_and_a_replacement_takes_the_last_place(heart):
    document = Document(heart, CHAIN[:1])
    shown = document.preview(Edit("shear", {"angle_degrees": 10}))
    assert len(document.edits) == 1
    assert (shown != document.current).any()
    document.replace(Edit("shear", {"angle_degrees": 10}))
    np.testing.assert_array_equal(
        document.current, apply(heart, Edit("shear", {"angle_degrees": 10}))
    )
    assert [edit.name for edit in document.edits] == ["shear"]
    with pytest.raises(EditError, match="nothing to replace"):
        Document(heart).replace(Edit("shear"))


def test_a_failed_edit_leaves_the_document_as_it_was(heart):
    heart[heart == 1] = SDM_SECTOR
    document = Document(heart)
    with pytest.raises(EditError, match="needs a ventricle"):
        document.apply(Edit("septal_defect"))
    assert document.edits == []
    np.testing.assert_array_equal(document.current, heart)


def test_json_round_trip_with_the_map_and_by_its_hash(heart):
    document = Document(heart, CHAIN)
    for text, given in ((document.to_json(), None), (document.to_json(with_map=False), heart)):
        again = Document.from_json(text, original=given)
        np.testing.assert_array_equal(again.current, document.current)
        np.testing.assert_array_equal(again.original, heart)
        assert again.edits == document.edits
    assert len(document.to_json(with_map=False)) < len(document.to_json())


def test_json_of_another_map_or_of_something_else_is_refused(heart):
    text = Document(heart, CHAIN).to_json(with_map=False)
    with pytest.raises(EditError, match="holds the hash of its map alone"):
        Document.from_json(text)
    with pytest.raises(EditError, match="give the map they were made to"):
        Document.from_json(text, original=heart.T.copy())
    with pytest.raises(EditError, match="expected 'echo_lib label map'"):
        Document.from_json("{}")
    with pytest.raises(EditError, match="not JSON"):
        Document.from_json("edits")


def test_code_of_an_edit_makes_it_again():
    for edit in edits_from(CHAIN):
        assert eval(edit.as_code(), {"Edit": Edit}) == edit


def test_maps_of_the_document_are_read_only(heart):
    document = Document(heart, CHAIN)
    for array in (document.original, document.current, document.sector):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    heart[:] = 0
    assert document.original.any()


def test_a_map_that_is_none_is_refused(heart):
    with pytest.raises(ValueError, match="label values"):
        Document(heart + 3)
    with pytest.raises(ValueError, match="expected integers"):
        Document(heart.astype(float))
    with pytest.raises(ValueError, match=r"shape \(1, 96, 96\)"):
        Document(heart[None])
    with pytest.raises(ValueError, match="sector of shape"):
        apply(heart, Edit("shear"), sector=np.ones((3, 3), dtype=bool))


def test_parameters_mean_the_same_at_any_size(heart, dice):
    edits = edits_from(
        [
            {"name": "swirl", "parameters": {"angle_degrees": 40}},
            {"name": "shear", "parameters": {"angle_degrees": -10}},
            {"name": "septal_defect"},
            {"name": "paint", "parameters": {"path": [[0.2, 0.2]], "radius": 0.1}},
        ]
    )
    small = replay(heart, edits)
    large = replay(np.kron(heart, np.ones((2, 2), dtype=np.uint8)), edits)
    for label in range(5):  # a wall of 6 px loses a quarter of a pixel at each edge
        assert dice(np.kron(small, np.ones((2, 2))), large, label) > 1 - 0.5 / 6


def test_the_core_loads_without_torch():
    code = "import sys; sys.modules['torch'] = None; import echo_lib.studio.label_map as core; "
    code += "import echo_lib.studio.landmarks, echo_lib.studio.morph; print(len(core.EDITS))"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(EDITS))), done.stderr
