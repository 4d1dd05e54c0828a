"""What a run ends by saying: the Dice table, where the figures are, how long each stage took."""

import argparse
from pathlib import Path

from echo_lib.config import load_profile
from echo_lib.provenance import manifests_of


def stage_seconds(folder):
    """Stage names to the seconds their manifests hold, in the order in which they finished.

    Args:
        folder: the run's folder, ``<run_root>/<profile>``.
    """
    return {manifest["stage"]: manifest["seconds"] for manifest in manifests_of(folder)}


def summary(folder):
    """The text; what is not there yet is said to be missing."""
    table = folder / "evaluation" / "table.md"
    figures = ", ".join(path.name for path in sorted((folder / "figures").glob("*.png")))
    lines = [
        table.read_text(encoding="utf-8").strip() if table.is_file() else f"no {table} yet",
        "",
        f"Figures: {figures or 'none yet'} in {folder / 'figures'}",
        f"Notebooks, as run: {folder / 'notebooks'}",
        "",
        f"{'Stage':<28}{'seconds':>10}",
    ]
    lines += [f"{stage:<28}{value:>10.1f}" for stage, value in stage_seconds(folder).items()]
    return "\n".join(lines)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    chosen = parser.parse_args(arguments)
    print(summary(chosen.run_root / load_profile(chosen.profile).name))


if __name__ == "__main__":
    main()
