"""Time the README's commands in this checkout and keep what they ended with.

    python3 workflow/time_commands.py                 # after make clean, or in a fresh clone
    python3 workflow/time_commands.py "make test"     # this one again; the others stay

Writes ``results/commands.json``, from which the README quotes. Needs no package.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = ("make .venv/stamp", "make test", "make smoke")


def timed(command):
    """Run a command; its seconds and its last line.

    Raises:
        SystemExit: the command fails.
    """
    begun = time.monotonic()
    found = subprocess.run(command.split(), cwd=REPOSITORY, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{command}: exit status {found.returncode}\n{found.stdout}\n{found.stderr}")
    lines = found.stdout.strip().splitlines() or [""]
    return {"seconds": round(time.monotonic() - begun), "last_line": lines[-1].strip("= ")}


def main():
    """Time all commands, the environment first, or those that are named."""
    path = REPOSITORY / "results" / "commands.json"
    record = json.loads(path.read_text(encoding="utf-8")) if sys.argv[1:] else {}
    record |= {"cpu_cores": os.cpu_count()}
    record |= {command: timed(command) for command in sys.argv[1:] or COMMANDS}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
