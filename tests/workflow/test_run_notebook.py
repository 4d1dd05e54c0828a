"""workflow/run_notebook.py: what papermill lets pass in silence must fail with a reason."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "run_notebook.py"
spec = importlib.util.spec_from_file_location("run_notebook", SCRIPT)
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)

PARAMETERS = 'profile = "demo"\nseed = 0'


def write_notebook(path, *sources, parameters=(PARAMETERS,)):
    notebook = nbformat.v4.new_notebook()
    for source in parameters:
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)
    return path


def run_main(tmp_path, notebook, *arguments):
    output = tmp_path / "out" / "made.ipynb"
    return runner.main([str(notebook), str(output), *arguments]), output


def test_finished_notebook_has_parameters_results_and_offline_html(tmp_path, monkeypatch):
    picture = "from IPython.display import Image\nImage(bytes.fromhex('89504e47'), format='png')"
    report = "import os, sys\nprint(profile, seed + 1, os.getcwd(), sys.executable)"
    notebook = write_notebook(tmp_path / "n.ipynb", report, picture)
    before = notebook.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, output = run_main(tmp_path, notebook, "-p", "profile", "1e5", "-p", "seed", "41")
    assert status == 0
    # A text parameter stays text; the kernel is this Python, in the repository's root.
    expected = f"1e5 42 {SCRIPT.parents[1]} {sys.executable}"
    cells = nbformat.read(output, as_version=4).cells
    assert any(expected in str(cell.outputs) for cell in cells)
    page = output.with_suffix(".html").read_text(encoding="utf-8")
    assert expected in page
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", page)
    assert notebook.read_bytes() == before
    assert sorted(p.name for p in output.parent.iterdir()) == ["made.html", "made.ipynb"]


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (["1 / 0", "2"], "ZeroDivisionError: division by zero"),
        (["import sys; sys.exit()", "2"], "SystemExit|left the kernel|did not finish"),
        (["import os; os.kill(os.getpid(), 9)", "2"], "the kernel died"),
    ],
    ids=["error", "exit", "killed"],
)
def test_notebook_that_stops_fails_and_is_kept_as_failed(tmp_path, capsys, sources, reason):
    status, output = run_main(tmp_path, write_notebook(tmp_path / "n.ipynb", *sources))
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 1
    assert message.startswith("n.ipynb: ")
    assert re.search(reason, message), message
    kept = sorted(path.name for path in output.parent.iterdir())
    assert kept == ["made.failed.html", "made.failed.ipynb"]


def test_exit_in_the_last_cell_fails(tmp_path):
    status, _ = run_main(tmp_path, write_notebook(tmp_path / "n.ipynb", "import sys; sys.exit(0)"))
    assert status == 1


def test_cell_that_takes_too_long_fails(tmp_path, capsys):
    notebook = write_notebook(tmp_path / "n.ipynb", "import time; time.sleep(30)")
    status, output = run_main(tmp_path, notebook, "--cell-timeout-s", "1")
    assert status == 1
    assert "timed out" in capsys.readouterr().err
    assert not output.exists()


def test_earlier_result_does_not_outlive_a_failure(tmp_path):
    output = tmp_path / "out" / "made.ipynb"
    output.parent.mkdir()
    output.write_text("finished earlier")
    status, _ = run_main(tmp_path, write_notebook(tmp_path / "n.ipynb"), "-p", "sede", "1")
    assert status == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("parameters", "arguments", "reason"),
    [
        ((PARAMETERS,), ["-p", "sede", "1"], "no parameter 'sede'; the parameters"),
        ((PARAMETERS,), ["-p", "seed", "one"], "'seed': expected int like 0, got 'one'"),
        ((PARAMETERS,), ["-p", "seed", "1", "-p", "seed", "2"], "'seed' is given twice"),
        ((), [], "0 cells are tagged 'parameters'"),
        ((PARAMETERS, PARAMETERS), [], "2 cells are tagged 'parameters'"),
        (("import os\nseed = 0",), [], "only lines of the form name = literal"),
        (("seed = 0\nfolder = str(seed)",), [], "only lines of the form name = literal"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path, capsys, parameters, arguments, reason):
    notebook = write_notebook(tmp_path / "n.ipynb", parameters=parameters)
    status, output = run_main(tmp_path, notebook, *arguments)
    assert status == 1
    assert reason in capsys.readouterr().err
    assert not output.parent.exists()


def test_unreadable_notebook_is_named(tmp_path):
    (tmp_path / "n.ipynb").write_text("{")
    call = [sys.executable, str(SCRIPT), "n.ipynb", "made.ipynb"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1
    assert "n.ipynb: not a readable notebook" in done.stderr
    assert "Traceback" not in done.stderr
