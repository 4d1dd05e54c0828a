"""Who may import whom: rooms know the leaves and what stands to their left, nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from echo_lib.provenance import STAGE_CODE

PACKAGE = Path(__file__).resolve().parents[1] / "echo_lib"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
LEAVES = {name.removesuffix(".py") for name in FILES if "/" not in name}
ROOMS = {name.partition("/")[0] for name in FILES if "/" in name}
# The only modules of a room that read prepared data.
READERS = {
    "sdm/stream.py", "sdm/training.py", "sdm/sampling.py", "sdm/comparison.py", "sdm/copies.py",
    "sdm/generalisation.py", "sdm/denoiser.py", "sdm/verification.py", "segmentation/frames.py",
    "segmentation/prediction.py",
    "cyclegan/training.py", "cyclegan/translation.py",
}  # fmt: skip
EXTRA = {"studio": {"sdm/sampling.py", "sdm/samplers.py", "data/augment.py"}}
# Networks and the mathematics of diffusion: torch, and the config that describes them.
PURE = {
    "sdm/blocks.py", "sdm/unet.py", "sdm/diffusion.py", "sdm/samplers.py", "segmentation/unet.py",
    "cyclegan/networks.py",
}  # fmt: skip
# How a stage is called, logged and recorded; no result depends on it.
PLUMBING = {
    "allocation.py",
    "cli.py",
    "config.py",
    "provenance.py",
    "progress.py",
    "distributed.py",
}
ENTRY = {
    "cohort": "data/phantom.py", "prepared": "data/prepare.py", "sdm": "sdm/training.py",
    "synthetic": "sdm/sampling.py", "segmentation": "segmentation/training.py",
    "pseudo": "data/pseudo.py", "cyclegan": "cyclegan/training.py",
    "translated": "cyclegan/translation.py", "comparison": "sdm/comparison.py",
    "copies": "sdm/copies.py",
    "fidelity": "evaluation/fidelity.py",
}  # fmt: skip


BLOCK_TORCH = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" or name.startswith("torch."):
            raise ImportError("torch is not to be imported here")

sys.meta_path.insert(0, Block())
"""
GLOBAL_SEEDS = ("np.random.seed", "torch.manual_seed", "random.seed", "set_determinism")


def imports(name):
    """(files of echo_lib, names of other packages) that a file imports, anywhere in it."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            first, _, rest = module.partition(".")
            file = rest.replace(".", "/") + ".py"
            if first != "echo_lib":
                outside.add(first)
            elif file in FILES:
                inside.add(file)
    return inside, outside - set(sys.stdlib_module_names)


def closure(name):
    """The files of echo_lib that a file rests on, itself included."""
    found, queue = set(), [name]
    while queue:
        file = queue.pop()
        if file not in found:
            found.add(file)
            queue += imports(file)[0]
    return found


def allowed(name):
    room = name.partition("/")[0] if "/" in name else None
    files = {f"{leaf}.py" for leaf in LEAVES}
    if room:
        files |= {file for file in FILES if file.startswith(f"{room}/")} | EXTRA.get(room, set())
    return files | {"data/datasets.py"} if name in READERS else files


@pytest.mark.parametrize("name", sorted(FILES))
def test_file_imports_only_what_its_room_may(name):
    assert imports(name)[0] <= allowed(name)


@pytest.mark.parametrize("name", sorted(PURE & set(FILES)))
def test_networks_and_mathematics_import_torch_and_their_config_only(name):
    inside, outside = imports(name)
    assert inside <= {"config.py", "sdm/blocks.py"}
    assert outside <= {"torch", "numpy", "monai"}


def test_rooms_are_known():
    assert {"data", "sdm", "segmentation", "evaluation", "figures"} <= ROOMS
    known = {"data", "sdm", "cyclegan", "segmentation", "evaluation", "figures", "studio"}
    assert known >= ROOMS


def test_leaves_and_figures_load_without_torch():
    figures = [name for name in FILES if name.startswith("figures/")]
    names = ["labels.py", "config.py", "provenance.py", "seeding.py", "rows.py", "cli.py", *figures]
    modules = ["echo_lib." + n.removesuffix(".py").replace("/", ".") for n in names if n in FILES]
    modules = [module.removesuffix(".__init__") for module in modules]
    code = f"{BLOCK_TORCH}\nfor name in {modules}: importlib.import_module(name)"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", sorted(ENTRY))
def test_stage_code_holds_every_file_that_a_stage_rests_on(stage):
    # A file left out of STAGE_CODE could change while a stage's old result still counts as current.
    needed = {f for f in closure(ENTRY[stage]) - PLUMBING if not f.endswith("__init__.py")}
    if stage == "prepared":
        needed -= closure("data/phantom.py") - closure("data/camus.py")  # the cohort's own stage
    assert needed - set(STAGE_CODE[stage]) == set()


def test_stage_code_names_files_that_exist():
    named = {file for files in STAGE_CODE.values() for file in files}
    assert named - set(FILES) == set()


def test_no_global_random_state():
    wrong = []
    for name, path in FILES.items():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        # A layer's initial weights draw from global state: seeded, and put back afterwards.
        forks = [
            n for n in nodes if isinstance(n, ast.With) and "fork_rng" in ast.unparse(n.items[0])
        ]
        forked = {id(node) for fork in forks for node in ast.walk(fork)}
        calls = [n for n in nodes if isinstance(n, ast.Call) and id(n) not in forked]
        wrong += [f"{name}:{n.lineno}" for n in calls if ast.unparse(n.func) in GLOBAL_SEEDS]
    assert wrong == []
