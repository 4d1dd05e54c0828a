"""The rules of the notebooks: each is a report without outputs, short cells, plain parameters."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from echo_lib.labels import VIEWS

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PARAMETERS = {"profile": "demo", "seed": 0, "data_root": "", "run_root": "runs"}
MAY_IMPORT = {"echo_lib", "pathlib", "pandas", "matplotlib"}
# The one magic: figures made without pyplot are shown by it.
MAGIC = "%matplotlib inline"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parse(cell):
    return ast.parse("\n".join(line for line in cell.source.splitlines() if line != MAGIC))


@pytest.fixture(params=NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_the_sections_of_the_paper_are_there():
    found = {path.stem for path in NOTEBOOKS}
    assert {
        "01_data_preparation",
        "02_sdm_training",
        "03_sampling",
        "04_extreme_augmentation_gallery",
        "05_cyclegan_comparison",
        "06_dice_tables",
        "07_label_map_studio",
    } <= found


def test_is_valid_and_runs_on_the_standard_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


def test_holds_no_outputs(notebook):
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_has_8_to_12_code_cells_of_at_most_15_lines(notebook):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert 8 <= len(lengths) <= 12
    assert max(lengths) <= 15


def test_has_one_parameters_cell_of_plain_literals(notebook):
    tagged = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert tagged[0] is code_cells(notebook)[0]
    statements = ast.parse(tagged[0].source).body
    assert all(isinstance(node, ast.Assign) and len(node.targets) == 1 for node in statements)
    assert len(statements) == len(tagged[0].source.splitlines())
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in statements}
    assert {name: values[name] for name in PARAMETERS} == PARAMETERS


def test_defines_nothing_and_calls_no_shell(notebook):
    for cell in code_cells(notebook):
        specials = [x for x in cell.source.splitlines() if x.lstrip().startswith(("%", "!"))]
        assert specials in ([], [MAGIC])
        for node in ast.walk(parse(cell)):
            assert not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While))


def test_imports_the_library_and_little_else(notebook):
    for cell in code_cells(notebook):
        for node in ast.walk(parse(cell)):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.names[0].name != "*"
                roots = {node.module.partition(".")[0]}
            else:
                continue
            assert roots <= MAY_IMPORT


def test_checks_itself_with_messages_and_saves(notebook):
    trees = [parse(cell) for cell in code_cells(notebook)]
    checks = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert checks
    assert all(check.msg is not None for check in checks)
    calls = [node.func for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {"save_figure", "publish"} <= {getattr(function, "id", "") for function in calls}


def test_opens_with_its_question_and_what_it_reads_and_writes(notebook):
    opening = notebook.cells[0]
    assert opening.cell_type == "markdown"
    for word in ("# ", "**Question.**", "**Reads**", "**Writes**", "**Ends in**", "Minutes:"):
        assert word in opening.source


def test_names_no_path_of_a_machine(notebook):
    for cell in notebook.cells:
        assert not re.search(r"(?<![\w.])/(home|work|tmp|opt|mnt|data|Users)/", cell.source)


def test_views_are_not_typed_where_the_library_lists_them(notebook):
    for cell in code_cells(notebook):
        assert not all(f'"{view}"' in cell.source for view in VIEWS)
