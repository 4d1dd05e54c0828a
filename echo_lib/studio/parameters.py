"""What an edit takes: its parameters with ranges, defaults and units, and the checks on them.

Nothing here knows an edit. The widget builds its sliders from these records.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

SIDE = "of the image's side"  # rows count in heights, columns in widths; lengths in heights
LENGTH = "of the ventricle's length"


class EditError(ValueError):
    """An edit that cannot be made; the message says why, and what to do."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an edit.

    Attributes:
        name: keyword of the edit's function.
        kind: ``number``, ``choice``, ``points`` (control points: row, column, down, right) or
            ``path`` (places of a stroke: row, column).
        default: the value where none is given.
        low, high: of a number, or of every number of a point.
        unit: for the reader.
        choices: of a choice.
    """

    name: str
    kind: str
    default: object
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    choices: tuple = ()

    def checked(self, value, where):
        """``value`` as plain immutable data.

        Raises:
            EditError: of the wrong kind, or out of range.
        """
        where = f"{where}: {self.name}"
        if self.kind == "number":
            return self._number(value, where)
        if self.kind == "choice":
            if value not in self.choices:
                raise EditError(f"{where}: {value!r}{nearest(value, self.choices)}")
            return value
        width = {"points": 4, "path": 2}[self.kind]
        rows = value if isinstance(value, (list, tuple)) else None
        if rows is None or any(not isinstance(r, (list, tuple)) or len(r) != width for r in rows):
            raise EditError(
                f"{where}: expected a list of lists of {width} numbers, found {value!r}"
            )
        return tuple(tuple(self._number(number, where) for number in row) for row in rows)

    def _number(self, value, where):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EditError(f"{where}: expected a number, found {value!r}")
        if not self.low <= value <= self.high:
            allowed = f"{self.low:g} to {self.high:g} {self.unit}".rstrip()
            raise EditError(f"{where}: {value:g} is out of range; expected {allowed}")
        return float(value)


@dataclass(frozen=True)
class EditKind:
    """An edit that can be made.

    Attributes:
        name: as in JSON.
        title: as on a button.
        group: ``deformation``, ``structure``, ``defect`` or ``brush``.
        parameters: what it takes, in the order of the sliders.
        function: ``function(label_map, sector, **parameters)`` to the two of the same kind: (H, W)
            uint8 SDM ids and (H, W) bool; it changes neither of what it is given.
        strength: the one parameter that says how much, "" where there is none.
    """

    name: str
    title: str
    group: str
    parameters: tuple[Parameter, ...]
    function: Callable
    strength: str = ""

    def checked(self, values):
        """All parameters by name: those given, checked, and the defaults of the others."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in values:
            if name not in known:
                raise EditError(f"edit {self.name!r}: no parameter {name!r}{nearest(name, known)}")
        given = {name: p.default for name, p in known.items()} | dict(values)
        return {name: p.checked(given[name], f"edit {self.name!r}") for name, p in known.items()}


def number(name, default, low, high, unit=""):
    """A ``Parameter`` between ``low`` and ``high``."""
    return Parameter(name, "number", float(default), float(low), float(high), unit)


def choice(name, choices):
    """A ``Parameter`` out of ``choices``; the first is the default."""
    return Parameter(name, "choice", choices[0], choices=tuple(choices))


def nearest(name, known):
    """The end of a message: the known name that is nearest, or all of them."""
    names = [str(each) for each in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(names)}"
