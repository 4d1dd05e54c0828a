"""No number that a run measured is typed by hand: README, notebooks' text and captions, figures."""

import ast
import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"<!-- results:\S+ -->\n.*?<!-- end -->", re.DOTALL)
# What is no prose: fenced and indented code, code in a line, addresses.
CODE = re.compile(r"```.*?```|^    .*$|`[^`]*`|\]\([^)]*\)|https?://\S+", re.DOTALL | re.MULTILINE)
# A decimal number, a percentage, a time.
NUMBER = re.compile(
    r"(?<![\w./-])\d+(?:\.\d+)+(?!\w)|(?<![\w.])\d+(?:\.\d+)?(?= ?%)"
    r"|\d+(?:\.\d+)?(?= (?:seconds|minutes|hours|days|points)\b)"
)
# The numbers that belong to the text itself.
KNOWN = {
    "README.md": {"3.11", "3.13", "4.0", "10.1007"},  # Python, a licence, a DOI
    "notebooks": {"2.1", "2.2", "2.3", "95"},  # sections of the paper, the level of intervals
}


def numbers(text):
    return set(NUMBER.findall(CODE.sub("", BLOCK.sub("", text))))


def strings(source):
    """The text constants of a notebook's code cell that have words in them."""
    code = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    return [n.value for n in nodes if isinstance(n.value, str) and n.value.count(" ") > 2]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a mean Dice of 88.1 and 4.9", {"88.1", "4.9"}),
        ("in 63 minutes, 90 % of it, 1.2 points", {"63", "90", "1.2"}),
        ("256 px, 1000 steps, 2,000 images", set()),
        ("`gamma` of `0.5`, see [docs](docs/v1.2.md)", set()),
        ("<!-- results:table:demo -->\n88.1\n<!-- end -->", set()),
    ],
)
def test_results_in_prose_are_seen(text, found):
    assert numbers(text) == found


def test_readme_types_no_result():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert numbers(text) <= KNOWN["README.md"]


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_notebooks_and_captions_type_no_result(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        texts = [source] if cell["cell_type"] == "markdown" else strings(source)
        for text in texts:
            assert numbers(text) <= KNOWN["notebooks"], text


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "figures").glob("*.json")), ids=lambda path: path.stem
)
def test_captions_of_published_figures_type_no_result(path):
    caption = json.loads(path.read_text(encoding="utf-8"))["caption"]
    assert numbers(caption) <= KNOWN["notebooks"]
