"""The studio under a real mouse and keyboard, in JupyterLab."""

import pytest

NAME = "07_label_map_studio"
TITLES = "Array.from(document.querySelectorAll('.echo-history li'), (li) => li.textContent)"
RESULTS = ".echo-strip figure"


@pytest.fixture
def page(lab, watched, tmp_path):
    """The notebook run to its end, the studio in sight."""
    lab.add(NAME, profile="smoke", seed=0, data_root="", run_root=str(tmp_path / "runs"))
    lab.open(watched, NAME)
    page = watched.page
    page.wait_for_selector(".echo-studio canvas", state="attached", timeout=180_000)
    page.wait_for_function(f"document.querySelectorAll('{RESULTS}').length === 4", timeout=180_000)
    page.locator(".echo-studio").scroll_into_view_if_needed()
    return page


def titles(page):
    return page.evaluate(TITLES)


def at(page, row, column):
    """The place on the screen of a place on the canvas, given in fractions."""
    box = page.locator("canvas.echo-canvas").bounding_box()
    return box["x"] + column * box["width"], box["y"] + row * box["height"]


def drag(page, start, end):
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2), steps=4)
    page.mouse.move(*at(page, *end), steps=4)
    page.mouse.up()


def wait_for_titles(page, expected):
    page.wait_for_function(f"JSON.stringify({TITLES}) === JSON.stringify({expected!r})")


def test_drag_paint_undo_and_generate(lab, page, watched):
    page.locator("canvas.echo-canvas").scroll_into_view_if_needed()
    assert titles(page) == []
    watched.screenshot("studio_opened")

    # drag a control point
    drag(page, (0.5, 0.5), (0.56, 0.58))
    wait_for_titles(page, ["Drag points"])
    (edit,) = lab.ask("[edit.as_dict() for edit in studio.document.edits]")
    row, column, down, right = edit["parameters"]["points"][0]
    assert (row, column) == (0.5, 0.5)
    assert (down, right) == pytest.approx((0.06, 0.08), abs=0.01)

    # paint, and take it back by key
    page.keyboard.press("b")
    page.keyboard.press("3")
    drag(page, (0.3, 0.3), (0.35, 0.4))
    wait_for_titles(page, ["Drag points", "Paint"])
    assert lab.ask("studio.document.edits[-1].parameters['label']") == "left atrium"
    page.keyboard.press("Control+z")
    wait_for_titles(page, ["Drag points"])
    page.keyboard.press("Control+y")
    wait_for_titles(page, ["Drag points", "Paint"])
    page.keyboard.press("Control+z")

    # generate, and wait for the image
    page.locator("[data-role=generate]").click()
    page.wait_for_function(f"document.querySelectorAll('{RESULTS}').length === 5", timeout=60_000)
    watched.screenshot("studio_generated")
    assert lab.ask("len(studio.results)") == 5
    assert lab.ask("[e['name'] for e in studio.history]") == ["elastic"]
    assert lab.ask("len(studio.image)") == lab.ask("studio.shape[0] * studio.shape[1]")
    assert lab.ask("bool((studio.results[-1].image != studio.results[0].image).any())")
    assert watched.errors == []
    assert watched.elsewhere == []


def test_keys_sliders_and_comparison(lab, page, watched):
    canvas = page.locator("canvas.echo-canvas")
    canvas.focus()

    # keys reach the studio and not JupyterLab: B would insert a cell below in command mode
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    page.keyboard.press("b")
    page.keyboard.press("b")
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells

    # arrows move the selected point; a second press goes on with the same edit
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_for_titles(page, ["Drag points"])
    page.wait_for_timeout(500)
    assert lab.ask("studio.document.edits[0].parameters['points'][0][3]") == pytest.approx(0.02)

    # + grows the structure of the brush
    page.keyboard.press("1")
    page.keyboard.press("+")
    wait_for_titles(page, ["Drag points", "Dilate or erode"])

    # a named defect by its slider
    page.locator("[data-role=edit]").select_option("missing_atrium")
    page.locator(".echo-sliders button").click()
    wait_for_titles(page, ["Drag points", "Dilate or erode", "Missing left atrium"])
    assert "no left atrium" in page.locator(".echo-findings").inner_text()

    # settings reach the kernel; the seed decides
    page.locator("[data-setting=seed]").fill("7")
    page.locator("[data-setting=seed]").blur()
    canvas.focus()
    page.keyboard.press("g")
    page.wait_for_function(f"document.querySelectorAll('{RESULTS}').length === 5", timeout=60_000)
    assert lab.ask("studio.results[-1].settings.seed") == 7

    # two results side by side, and the code of one
    page.keyboard.press("c")
    page.wait_for_function("document.querySelectorAll('.echo-compare canvas').length === 2")
    page.locator(RESULTS).last.get_by_text("Code").click()
    page.wait_for_function(
        "document.querySelector('.echo-studio textarea').value.includes('seed=7')"
    )
    page.keyboard.press("Escape")
    watched.screenshot("studio_compared")
    assert watched.errors == []
    assert watched.elsewhere == []


def test_an_own_map_is_mapped_and_taken(lab, page, watched, tmp_path):
    import numpy as np
    from PIL import Image

    mine = np.zeros((100, 100), dtype=np.uint8)
    mine[30:60, 40:60] = 7
    Image.fromarray(mine).save(tmp_path / "mine.png")
    page.locator(".echo-studio input[type=file]").set_input_files(tmp_path / "mine.png")
    page.wait_for_selector(".echo-dialog select")
    page.locator(".echo-dialog select[data-value='7']").select_option("LV cavity")
    page.get_by_text("Use this map").click()
    page.wait_for_function("document.querySelectorAll('.echo-dialog select').length === 0")
    share = lab.ask("float((studio.document.current == 1).mean())")
    assert share == pytest.approx(0.06, abs=0.01)
    assert watched.errors == []
