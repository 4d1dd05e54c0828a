"""What lies in a folder, whether it can be used, and the next command.

    python -m echo_lib.data.doctor PATH                     # exit status 0: usable, 1: not
    python -m echo_lib.data.doctor PATH --against OTHER     # are patients of one in the other?

Recognised are both releases of CAMUS, the authors' released images, EchoNet-Dynamic, heart meshes,
and a run of this library.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

from echo_lib.data.examinations import KINDS
from echo_lib.data.same_frames import compare

_SHOWN = 12  # lines of a list that the report prints


@dataclass
class Diagnosis:
    """What was found in a folder.

    Attributes:
        path: the folder.
        kind: in words; "" where nothing was recognised.
        tables: title to data frame: counts, sizes, values.
        problems: what makes it unusable, each with file, finding and remedy.
        remarks: what is worth knowing.
        next_command: to run next.
    """

    path: Path
    kind: str = ""
    tables: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    next_command: str = ""

    @property
    def usable(self):
        """True where something was recognised and nothing is wrong with it."""
        return bool(self.kind) and not self.problems

    def __str__(self):
        parts = [f"{self.path}: {self.kind or 'not recognised'}"]
        parts += [f"{title}\n{table.to_string()}" for title, table in self.tables.items()]
        for title, lines in (("Problems", self.problems), ("Remarks", self.remarks)):
            if lines:
                more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
                parts.append("\n* ".join([f"{title} ({len(lines)})", *lines[:_SHOWN], *more]))
        parts.append("Usable." if self.usable else "Not usable as it is.")
        if self.usable and self.next_command:
            parts.append(f"Next: {self.next_command}")
        return "\n\n".join(parts)


def diagnose(path, *, against=None):
    """Recognise and examine a folder.

    Args:
        path: the folder.
        against: another folder with CAMUS frames; the pictures of the two are compared, for
            patients that lie in both under whatever number and at whatever size.

    Returns:
        ``Diagnosis``.
    """
    found = Diagnosis(Path(path))
    if not found.path.is_dir():
        found.problems.append(f"{path}: no such folder; give the folder that holds the data set")
        return found
    recognised = [kind for kind, (marks, _) in KINDS.items() if marks(found.path)]
    if not recognised:
        found.problems.append(
            f"{path}: holds none of what is known here ({', '.join(KINDS)}); give the folder that "
            "holds its files, or see `python -m echo_lib.data.fetch` for where to get one"
        )
        return found
    found.kind = recognised[0]
    KINDS[found.kind][1](found)
    if against:
        compare(found, Path(against))
    return found


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="folder to examine")
    parser.add_argument("--against", type=Path, help="CAMUS folder to look for the same images in")
    options = parser.parse_args(arguments)
    found = diagnose(options.path, against=options.against)
    print(found)
    sys.exit(0 if found.usable else 1)


if __name__ == "__main__":
    main()
