"""One source of dependencies: lock, conda file and imports agree with pyproject.toml."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_EXTRAS = ("workflow", "mesh", "browser", "dev")
CONDA_EXTRAS = ("workflow", "mesh", "dev")
CONDA_NAMES = {"matplotlib-base": "matplotlib", "pytorch": "torch"}
CONDA_NAMES["snakemake-minimal"] = "snakemake"
IMPORT_NAMES = {"PIL": "pillow", "yaml": "pyyaml", "SimpleITK": "simpleitk"}
# Build tools that conda lists and pip brings itself.
CONDA_ONLY = {"python", "pip"}


def requirements(*extras):
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {r.name: r for r in map(Requirement, lines)}


def locked():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    pins = [re.fullmatch(r"([a-z0-9.-]+)==([0-9A-Za-z.]+)", line) for line in lines]
    assert all(pins), "every line of the lock is name==version, in canonical spelling"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins}


def parse_conda(spec):
    """(name, SpecifierSet) of a conda spec ``name >=1,<2``; the part of MatchSpec used here."""
    match = re.fullmatch(r"([a-z0-9_.-]+)(?: ((?:[<>=!]=?[0-9.]+)(?:,[<>=!]=?[0-9.]+)*))?", spec)
    assert match, f"{spec!r} is not 'name' or 'name >=1,<2'"
    return match[1], SpecifierSet(match[2] or "")


def test_every_dependency_is_bounded_below_and_above():
    for name, requirement in requirements(*EXTRAS).items():
        operators = {s.operator for s in requirement.specifier}
        assert operators == {">=", "<"}, f"{name}: {requirement.specifier}"


def test_conda_environment_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    assert all(isinstance(spec, str) for spec in environment["dependencies"])
    conda = dict(parse_conda(spec) for spec in environment["dependencies"])
    assert conda["python"] == SpecifierSet(PROJECT["requires-python"])
    ours = {CONDA_NAMES.get(name, name): s for name, s in conda.items() if name not in CONDA_ONLY}
    assert ours == {name: r.specifier for name, r in requirements(*CONDA_EXTRAS).items()}


@pytest.mark.parametrize("spec", ["torch>=2", "torch >=2, <3", "torch 2.*", "Torch", "torch >=2,"])
def test_conda_parser_refuses_what_it_does_not_know(spec):
    with pytest.raises(AssertionError):
        parse_conda(spec)


def test_lock_lies_within_the_bounds():
    pins = locked()
    for name, requirement in requirements(*LOCKED_EXTRAS).items():
        assert pins[name] in requirement.specifier, f"{name}=={pins[name]}, {requirement.specifier}"


def test_lock_holds_what_is_needed_and_nothing_else():
    pins, needed = locked(), set()
    queue = [(r.name, r.extras) for r in requirements(*LOCKED_EXTRAS).values()]
    queue += [("setuptools", ())]  # builds the editable package
    while queue:
        name, extras = queue.pop()
        name = canonicalize_name(name)
        if (name, tuple(extras)) in needed:
            continue
        needed.add((name, tuple(extras)))
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed: this environment was not made from the lock")
        for child in map(Requirement, lines):
            environments = [{"extra": extra} for extra in ("", *extras)]
            if child.marker is None or any(child.marker.evaluate(e) for e in environments):
                queue.append((child.name, child.extras))
    # A CUDA build of torch brings libraries of its own, which no lock line names.
    ours = {name for name, _ in needed if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert ours == set(pins)


def test_every_import_of_the_library_is_a_dependency():
    found = set()
    for path in (ROOT / "echo_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    outside = {IMPORT_NAMES.get(n, n) for n in found - set(sys.stdlib_module_names) - {"echo_lib"}}
    assert outside - set(requirements()) <= {"pyvista"}  # extra "mesh"


def test_packages_that_users_expect_are_dependencies():
    named = "jupyterlab papermill torch monai matplotlib seaborn pandas ipywidgets"
    assert set(named.split()) <= set(requirements())


def test_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for key in ("cff-version", "message", "title", "authors", "type"):
        assert citation[key]
    assert citation["license"] == PROJECT["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert paper["doi"] == "10.1007/978-3-031-44521-7_4"
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Stojanovski", "Hermida", "Lamata", "Beqiri", "Gomez"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_version_is_the_library_s():
    import echo_lib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == echo_lib.__version__


def test_make_says_in_one_line_that_python_is_missing(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for python in ("", "false"):
        call = ["make", ".venv/stamp", f"PYTHON={python}"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if "Python 3.11 to 3.13" in line]
        assert done.returncode != 0
        assert len(said) == 1
        assert "venv" in said[0]
    assert not (tmp_path / ".venv").exists()


def test_makefile_lists_its_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("figures", "test", "lint", "lab", "smoke", "clean"):
        assert f"make {target} " in done.stdout


def test_no_package_index_is_named():
    for name in ("requirements.lock", "pyproject.toml", "environment.yml", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|index-url|find-links", text), name
