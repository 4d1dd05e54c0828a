"""Run a notebook, strictly: what papermill lets pass in silence stops here with one line.

    python workflow/run_notebook.py NOTEBOOK OUTPUT -p name value ...

OUTPUT and its HTML appear only when every cell has finished. Otherwise the notebook is kept, as far
as it came, as ``OUTPUT`` with ``.failed`` before its suffix, and the exit status is 1. The kernel
is the Python that runs this file, and starts in the repository's root wherever this is called from.
"""

import argparse
import ast
import contextlib
import copy
import json
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"
# Left empty, nbconvert would point these at the network; the HTML is read offline.
_OFFLINE = ("mathjax_url", "require_js_url", "jquery_url", "mermaid_js_url")


class NotebookError(RuntimeError):
    """A notebook that cannot be run or did not finish; the message is one line."""


def parameters_of(notebook):
    """Names to default values of the one cell tagged ``parameters``.

    Args:
        notebook: an nbformat notebook.

    Raises:
        NotebookError: no such cell, several, or one that holds more than plain literals.
    """
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{len(cells)} cells are tagged 'parameters'; expected exactly one")
    try:
        statements = ast.parse(cells[0].source).body
        return {node.targets[0].id: ast.literal_eval(node.value) for node in statements}
    except (SyntaxError, ValueError, AttributeError) as error:
        raise NotebookError(
            "the parameters cell may hold only lines of the form name = literal"
        ) from error


def typed_values(pairs, defaults):
    """Command-line values as the types of the parameters cell.

    Args:
        pairs: (name, text) of each ``-p``.
        defaults: what ``parameters_of`` gave.

    Raises:
        NotebookError: an unknown name, one given twice, or a value of another type.
    """
    values = {}
    for name, text in pairs:
        if name not in defaults:
            raise NotebookError(
                f"no parameter {name!r}; the parameters cell holds {', '.join(defaults)}"
            )
        if name in values:
            raise NotebookError(f"parameter {name!r} is given twice")
        values[name] = _typed(name, text, defaults[name])
    return values


def _typed(name, text, default):
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if type(value) is not type(default):
        wanted = f"{type(default).__name__} like {default!r}"
        raise NotebookError(f"parameter {name!r}: expected {wanted}, got {text!r}")
    return value


def run_notebook(source, output, pairs=(), *, cell_timeout_s=0):
    """Execute ``source`` with parameters and write ``output`` and its HTML.

    Args:
        source: the notebook; it is never written to.
        output: the executed notebook, ``.ipynb``; the HTML lies beside it.
        pairs: (name, text) of each parameter.
        cell_timeout_s: seconds a cell may take; 0 sets no limit.

    Raises:
        NotebookError: one line on why it did not run to its end.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    _remove_results(output)
    values = typed_values(pairs, parameters_of(_read(source)))
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{os.getpid()}.partial.{output.name}")
    try:
        reason = _execute(source, partial, values, cell_timeout_s)
        reason = reason or unfinished_cell(_read(partial))
        final = output if reason is None else failed_path(output)
        if partial.is_file():
            _write_html(partial, final.with_suffix(".html"))
            os.replace(partial, final)
        if reason is not None:
            raise NotebookError(f"{reason}; kept as {final}")
    finally:
        partial.unlink(missing_ok=True)


def failed_path(output):
    """Where a notebook that did not finish is kept: ``name.failed.ipynb``."""
    return output.with_suffix(f".failed{output.suffix}")


def unfinished_cell(notebook):
    """Why an executed notebook is not complete, or None where every cell finished."""
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    for number, cell in enumerate(code, 1):
        where = f"code cell {number} of {len(code)}"
        for item in cell.outputs:
            if item.output_type == "error":
                value = item.evalue.strip().partition("\n")[0]
                return f"{where} raised {item.ename}: {value}"
        record = cell.metadata.get("papermill", {})
        if cell.execution_count is None or record.get("status") != "completed":
            return f"{where} did not finish"
        if record.get("exception"):
            return f"{where} left the kernel (sys.exit?)"
    return None


def _remove_results(output):
    for path in (output, failed_path(output)):
        path.unlink(missing_ok=True)
        path.with_suffix(".html").unlink(missing_ok=True)


def _read(path):
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        raise NotebookError(f"{path}: not a readable notebook ({error})") from error


def _execute(source, partial, values, cell_timeout_s):
    """Run by papermill; the reason it stopped, or None."""
    import nbclient.exceptions
    import papermill

    stops = (nbclient.exceptions.DeadKernelError, nbclient.exceptions.CellTimeoutError)
    with _own_kernel():
        try:
            papermill.execute_notebook(
                str(source),
                str(partial),
                parameters=values,
                kernel_name="python3",
                language="python",
                cwd=str(REPOSITORY),
                progress_bar=False,
                log_output=True,
                start_timeout=120,
                execution_timeout=cell_timeout_s or None,
            )
        except papermill.PapermillExecutionError as error:
            value = str(error.evalue).strip().partition("\n")[0]
            return f"cell {error.cell_index + 1} raised {error.ename}: {value}"
        except stops as error:
            names = {"DeadKernelError": "the kernel died", "CellTimeoutError": "a cell timed out"}
            return names[type(error).__name__]
        except KeyboardInterrupt:
            return "interrupted"
    return None


@contextlib.contextmanager
def _own_kernel():
    """A ``python3`` kernelspec of this very interpreter, and no IPython profile of the user's."""
    launcher = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR"]
    kernel = {
        "argv": [*launcher, "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="run_notebook-") as folder:
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(kernel), encoding="utf-8")
        os.environ.update(JUPYTER_PATH=folder, IPYTHONDIR=str(Path(folder, "ipython")))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _without_widgets(notebook):
    """A copy in which a sentence stands for each widget: a page has no kernel to answer one."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(WIDGET, None) is not None:
                output["data"]["text/plain"] = (
                    "Interactive in JupyterLab; the figures stand for it."
                )
    return notebook


def _write_html(notebook, path):
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True, **dict.fromkeys(_OFFLINE, ""))
    resources = {"metadata": {"name": path.stem, "path": str(REPOSITORY / "notebooks")}}
    exporter.log.setLevel(logging.ERROR)  # it warns of every figure without alternative text
    shown = _without_widgets(_read(notebook))
    body, _ = exporter.from_notebook_node(shown, resources=resources)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    partial.write_text(body, encoding="utf-8")
    os.replace(partial, path)


def _log_plainly(name):
    """Progress as plain lines: the notebook's name, and what its cells print."""
    logging.basicConfig(format=f"{name}: %(message)s", stream=sys.stdout)
    logger = logging.getLogger("papermill")
    logger.setLevel(logging.INFO)
    logger.addFilter(
        lambda record: not str(record.msg).startswith(("Ending Cell", "Executing Cell"))
    )


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run a notebook, strictly.")
    parser.add_argument("notebook")
    parser.add_argument("output")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--cell-timeout-s", type=int, default=0, help="0 sets no limit")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # kept as an interrupted one
    _log_plainly(Path(chosen.notebook).stem)
    started = time.monotonic()
    try:
        run_notebook(chosen.notebook, chosen.output, chosen.p, cell_timeout_s=chosen.cell_timeout_s)
    except NotebookError as error:
        print(f"{Path(chosen.notebook).name}: {error}", file=sys.stderr)
        return 1
    print(f"{Path(chosen.notebook).name}: finished in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
