"""The dataset browser of the first notebook, and the executed notebooks as pages."""

import subprocess
import sys

import pytest

from echo_lib.provenance import PACKAGE

NAME = "01_data_preparation"


@pytest.fixture
def run_root(tmp_path):
    return tmp_path / "runs"


def test_the_browser_of_frames_pages_and_filters(lab, watched, run_root):
    lab.add(NAME, profile="smoke", seed=0, data_root="", run_root=str(run_root))
    lab.open(watched, NAME)
    page = watched.page
    picture = page.locator(".jp-OutputArea-output .widget-image").first
    picture.wait_for(state="attached", timeout=180_000)
    before = picture.get_attribute("src")
    page.locator(".widget-dropdown select").first.select_option("validation")
    page.wait_for_function(
        "(before) => document.querySelector('.widget-image').src !== before", arg=before
    )
    picture.scroll_into_view_if_needed()
    watched.screenshot("explorer")
    assert watched.errors == []
    assert watched.elsewhere == []


def test_an_executed_notebook_opens_offline_with_its_figures(watched, run_root, tmp_path):
    executed = tmp_path / f"{NAME}.ipynb"
    command = [
        sys.executable, "workflow/run_notebook.py", f"notebooks/{NAME}.ipynb", str(executed),
        "-p", "profile", "smoke", "-p", "seed", "0", "-p", "data_root", "",
        "-p", "run_root", str(run_root),
    ]  # fmt: skip
    subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True)
    page = watched.page
    page.goto(executed.with_suffix(".html").as_uri())
    widths = page.evaluate(
        "Promise.all(Array.from(document.images, (i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(widths) >= 3
    assert min(widths) > 100
    watched.screenshot("exported")
    assert watched.errors == []
    assert watched.elsewhere == []
