"""A label map under edit: named records that are applied, undone, stored and replayed to the bit.

Pure: NumPy and SciPy, no torch, no disk, nothing random. Parameters are fractions of the image, or
of the ventricle, and degrees, so a list of edits fits a map of any size.

    document = Document(label_map)
    document.apply(Edit("swirl", {"angle_degrees": 90}))
    document.apply(Edit("septal_defect", {"position": 0.3}))
    document.undo()
    document.current                         # (H, W) uint8 SDM ids
    Document.from_json(document.to_json())   # the same map

Validity is told, not enforced: ``Document.findings()``.
"""

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from echo_lib.labels import SDM_NAMES, require_labels
from echo_lib.studio import brush, defects, deform, structures, validity
from echo_lib.studio.parameters import EditError, nearest
from echo_lib.studio.shapes import find_sector

FORMAT = "echo_lib label map"
VERSION = 1

# Every edit, in the order of the menus: name to ``parameters.EditKind``.
EDITS = {
    kind.name: kind for kind in (*deform.KINDS, *structures.KINDS, *defects.KINDS, *brush.KINDS)
}


@dataclass(frozen=True)
class Edit:
    """One edit: its name and all its parameters, checked and completed with the defaults.

    Raises:
        EditError: an unknown name or parameter, a value out of range.
    """

    name: str
    parameters: MappingProxyType = field(default_factory=dict)

    def __post_init__(self):
        if self.name not in EDITS:
            raise EditError(f"no edit {self.name!r}{nearest(self.name, EDITS)}")
        complete = EDITS[self.name].checked(self.parameters)
        object.__setattr__(self, "parameters", MappingProxyType(complete))

    @property
    def kind(self):
        """Its ``EditKind``."""
        return EDITS[self.name]

    def as_dict(self):
        """``{"name": ..., "parameters": {...}}`` in plain lists and numbers, ready for JSON."""
        return json.loads(json.dumps({"name": self.name, "parameters": dict(self.parameters)}))

    def as_code(self):
        """The line of Python that makes this edit."""
        return f"Edit({self.name!r}, {self.as_dict()['parameters']!r})"


def edits_from(records):
    """``Edit`` records from a list of dictionaries or its JSON text, as a notebook's parameter has.

    Args:
        records: ``[{"name": ..., "parameters": {...}}, ...]``, or that as text; ``parameters`` may
            be left out.

    Raises:
        EditError: not such a list, or an edit that cannot be made; it names the position.
    """
    if isinstance(records, str):
        try:
            records = json.loads(records)
        except json.JSONDecodeError as error:
            raise EditError(f"edits: not JSON ({error}); expected a list of edits") from error
    if not isinstance(records, (list, tuple)):
        raise EditError(f"edits: expected a list, found {type(records).__name__}")
    edits = []
    for position, record in enumerate(records):
        if isinstance(record, Edit):
            edits.append(record)
            continue
        if not isinstance(record, dict) or not {"name"} <= set(record) <= {"name", "parameters"}:
            raise EditError(f"edits[{position}]: expected name and parameters, found {record!r}")
        try:
            edits.append(Edit(record["name"], record.get("parameters", {})))
        except EditError as error:
            raise EditError(f"edits[{position}]: {error}") from error
    return edits


def apply(label_map, edit, *, sector=None):
    """The map after one edit.

    Args:
        label_map: (H, W) SDM ids 0..4; left as it is.
        edit: ``Edit``.
        sector: (H, W) bool, the ultrasound sector; None takes ``shapes.find_sector``.

    Returns:
        (H, W) uint8.
    """
    return _step(*_checked(label_map, sector), edit)[0]


def replay(label_map, edits):
    """The map after all ``edits``; the same to the bit whenever it is called."""
    state = _checked(label_map)
    for edit in edits:
        state = _step(*state, edit)
    return state[0].copy()


class Document:
    """A map, the edits made to it, and those undone.

    Attributes:
        original: (H, W) uint8 SDM ids, read-only.
        edits: the edits in force, oldest first.
        undone: the edits that ``redo`` would bring back, next one last.
    """

    def __init__(self, original, edits=()):
        self._states = [_checked(original)]
        self.edits, self.undone = [], []
        for edit in edits_from(list(edits)):
            self.apply(edit)

    @property
    def original(self):
        return self._states[0][0]

    @property
    def current(self):
        """(H, W) uint8 SDM ids after all edits in force, read-only."""
        return self._states[-1][0]

    @property
    def sector(self):
        """(H, W) bool, the ultrasound sector after all edits in force, read-only."""
        return self._states[-1][1]

    def apply(self, edit):
        """Make an edit; what was undone before can no longer be redone. Returns ``current``."""
        self._states.append(_step(*self._states[-1], edit))
        self.edits.append(edit)
        self.undone.clear()
        return self.current

    def preview(self, edit):
        """The map as ``apply(edit)`` would leave it; nothing is recorded."""
        return _step(*self._states[-1], edit)[0]

    def replace(self, edit):
        """``edit`` in the place of the last one, while a slider is drawn. Returns ``current``."""
        if not self.edits:
            raise EditError("nothing to replace: no edit has been made")
        state = _step(*self._states[-2], edit)
        self._states[-1], self.edits[-1] = state, edit
        self.undone.clear()
        return self.current

    def undo(self):
        """Take the last edit back; True where there was one."""
        if not self.edits:
            return False
        self._states.pop()
        self.undone.append(self.edits.pop())
        return True

    def redo(self):
        """Make the edit again that was undone last; True where there was one."""
        if not self.undone:
            return False
        edit = self.undone.pop()
        self._states.append(_step(*self._states[-1], edit))
        self.edits.append(edit)
        return True

    def findings(self):
        """What looks wrong about the current map, one sentence each; see ``validity.findings``."""
        return validity.findings(self.current, sector=self.sector)

    def to_json(self, *, with_map=True):
        """The edits as JSON text, with the original map or, without it, its hash alone."""
        record = {
            "format": FORMAT,
            "version": VERSION,
            "shape": list(self.original.shape),
            "sha256": map_hash(self.original),
            "edits": [edit.as_dict() for edit in self.edits],
        }
        if with_map:
            packed = zlib.compress(self.original.tobytes(), 9)
            record["map_zlib_base64"] = base64.b64encode(packed).decode("ascii")
        return json.dumps(record, indent=1)

    @classmethod
    def from_json(cls, text, *, original=None):
        """The document of ``to_json``.

        Args:
            text: the JSON.
            original: (H, W) SDM ids; needed where the text holds only its hash.

        Raises:
            EditError: not such a text, no map, or another map than the one it was made from.
        """
        record = _record(text)
        if original is None:
            original = _stored_map(record)
        found = map_hash(np.asarray(original, dtype=np.uint8))
        if found != record["sha256"]:
            raise EditError(
                f"label map with SHA-256 {found[:12]}…, but these edits were made to "
                f"{record['sha256'][:12]}…; give the map they were made to, or use "
                "edits_from(record['edits']) to make them to another"
            )
        return cls(original, edits_from(record["edits"]))


def map_hash(label_map):
    """Hex SHA-256 of a (H, W) uint8 map: its shape and its ids."""
    rows, columns = label_map.shape
    return hashlib.sha256(f"{rows}x{columns}\n".encode() + label_map.tobytes()).hexdigest()


def _step(label_map, sector, edit):
    if not isinstance(edit, Edit):
        raise EditError(f"expected an Edit, found {type(edit).__name__}; edits_from reads lists")
    after, sector = EDITS[edit.name].function(label_map, sector, **edit.parameters)
    return _frozen(after.astype(np.uint8, copy=True)), _frozen(sector.astype(bool, copy=True))


def _checked(label_map, sector=None):
    label_map = np.asarray(label_map)
    require_labels(label_map, len(SDM_NAMES), "label map")
    if label_map.ndim != 2 or min(label_map.shape) < 8:
        raise ValueError(
            f"label map of shape {label_map.shape}, expected (rows, columns) of 8 or more each"
        )
    sector = find_sector(label_map) if sector is None else np.asarray(sector)
    if sector.shape != label_map.shape or sector.dtype != bool:
        raise ValueError(
            f"sector of shape {sector.shape} and {sector.dtype}, expected {label_map.shape} bool"
        )
    return _frozen(label_map.astype(np.uint8, copy=True)), _frozen(sector.copy())


def _frozen(array):
    array.flags.writeable = False
    return array


def _record(text):
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise EditError(f"not JSON ({error}); expected what Document.to_json wrote") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT or record.get("version") != VERSION:
        raise EditError(
            f"format {found!r}, expected {FORMAT!r} version {VERSION}; "
            "expected what Document.to_json wrote"
        )
    return record


def _stored_map(record):
    if "map_zlib_base64" not in record:
        raise EditError("the text holds the hash of its map alone; give the map as original=")
    values = zlib.decompress(base64.b64decode(record["map_zlib_base64"]))
    return np.frombuffer(values, dtype=np.uint8).reshape(record["shape"])
