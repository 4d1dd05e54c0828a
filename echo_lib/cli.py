"""The command-line arguments that every stage shares.

``python -m echo_lib.data.prepare --profile demo --seed 0 --set data.workers=1``
"""

from pathlib import Path

from echo_lib.config import load_profile, parse_overrides
from echo_lib.provenance import Run


def add_run_arguments(parser):
    """Add the arguments that name a run to an ``argparse.ArgumentParser``."""
    parser.add_argument("--profile", default="demo", help="name in config/ or path of a .yaml file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole run")
    parser.add_argument("--data-root", type=Path, help="folder of CAMUS; not needed for phantoms")
    parser.add_argument("--run-root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override one value of the profile, e.g. sdm.training.steps=10; may be repeated",
    )  # fmt: skip


def run_from(args):
    """The ``provenance.Run`` that parsed arguments name.

    Raises:
        ConfigError: the profile or an override cannot be used.
    """
    profile = load_profile(args.profile, parse_overrides(args.set))
    return Run(profile, args.seed, args.data_root, args.run_root)
