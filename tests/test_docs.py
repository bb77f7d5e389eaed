"""What is written beside the notebooks: every notebook on the map, every word in the glossary, no dead link."""

import re
from pathlib import Path

import nbformat
import pytest

from arithlab.model.positions import POSITIONS

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def links(text):
    """The addresses of a page's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_dead(page):
    found = [link for link in links(page.read_text()) if "://" not in link]
    assert found
    for link in found:
        assert (page.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("page", ["README.md", "docs/map.md"])
def test_every_notebook_is_named(page):
    text = (ROOT / page).read_text()
    for path in NOTEBOOKS:
        assert path.stem in text, path.stem


def test_map_and_graph_show_the_same_notebooks():
    text = (ROOT / "docs" / "map.md").read_text()
    graph = text[text.index("```mermaid") : text.index("```\n", text.index("```mermaid") + 3)]
    assert set(re.findall(r'n(\d\d)\["', graph)) == set(re.findall(r"^\| \[?(\d\d) [A-Z]", text, re.M))
    assert {number for arrow in re.findall(r"n(\d\d) -->.* n(\d\d)", graph) for number in arrow} <= set(
        re.findall(r'n(\d\d)\["', graph)
    )


def test_recorded_runs_that_the_map_names_are_there():
    named = re.findall(r"arithlab ask (\w{12})", (ROOT / "docs" / "map.md").read_text())
    assert named
    for run in named:
        assert (ROOT / "outputs" / "reference" / run / "final.safetensors").is_file(), run


def test_readme_and_the_first_notebook_lead_to_map_and_glossary():
    assert {"docs/map.md", "docs/glossary.md"} <= set(links((ROOT / "README.md").read_text()))
    first = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS[0], as_version=4).cells)
    assert {"../docs/map.md", "../docs/glossary.md"} <= set(links(first))


def test_every_word_of_the_glossary_is_explained_and_leads_to_a_notebook():
    rows = GLOSSARY.split("\n\n", 2)[2].strip().splitlines()
    entries = [
        re.fullmatch(r"- \*\*(.+)\*\* \(\[(\d\d)\]\(\.\./notebooks/(\d\d)_\w+\.ipynb\)\): .{10,}\.", row)
        for row in rows
    ]
    assert all(entries), [row for row, entry in zip(rows, entries, strict=True) if not entry]
    assert all(entry[2] == entry[3] for entry in entries)
    words = [entry[1].lower() for entry in entries]
    assert words == sorted(set(words))


def test_every_positional_encoding_of_the_notebooks_is_in_the_glossary():
    used = " ".join(path.read_text() for path in NOTEBOOKS)
    for name in POSITIONS:
        if re.search(rf'[\\"]{name}\b', used):
            assert re.search(rf"\*\*[^*]*\b{name}\b", GLOSSARY), name
