"""Exported pages: complete, escaped, and shown by a browser that is cut off from the network."""

import json
import re
from html.parser import HTMLParser

import nbformat
import pytest
from browser import NEEDS_BROWSER, browser, serious
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from arithlab.cli import main
from arithlab.errors import ArithlabError
from arithlab.notebook.execute import execute
from arithlab.notebook.export import _markdown, export

HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\">"
FIGURE = """
import plotly.graph_objects as go
import arithlab as al
figure = go.Figure(go.Scatter(y=[1, 3, 2], name=HOSTILE))
figure.update_layout(title="A figure", meta={"alt": "A line that rises and falls " + HOSTILE})
al.show(figure)
""".replace("HOSTILE", repr(HOSTILE))
WIDGET = "al.AskBox.__init__\nal.TheoryExplorer(modulus=7, digits=2)"
VIEWER = """
run = al.train(al.Experiment(train="D_1", format="padded 2", size="1-2-8", steps=1))
al.AttentionViewer(run, ["1+2"])
"""
MATHS = (
    "# 99. Two <b>words</b>\n\nBy the end: $a_i < b^2$ and `$5` and\n\n$$\\frac{\\gcd(p, b^n)}{p}$$\n\n"
    "$\\undefinedmacro{$ [next](98_next.ipynb) [paper](https://doi.org/10.1)\n\n"
    "![a picture from afar](https://example.invalid/x.png) <script src='https://example.invalid/y.js'></script>"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the exported pages of two notebooks that were really executed."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARITHLAB_OUT", str(folder / "out"))
        patch.chdir(folder)
        for name, cells in {
            "98_next": ["print('<i>text</i>')"],
            "99_fixture": [FIGURE, WIDGET, VIEWER, "1 < 2"],
        }.items():
            book = new_notebook(cells=[new_markdown_cell(MATHS), *map(new_code_cell, cells)])
            nbformat.write(book, folder / f"{name}.ipynb")
            execute(folder / f"{name}.ipynb", {})
        (folder / "out" / "notebooks" / "97_bad.failed.ipynb").write_text("{}")
        made = export()
        assert [path.name for path in made] == ["98_next.html", "99_fixture.html", "index.html"]
    return made[0].parent


class Loads(HTMLParser):
    """Collects what a page would load, and the text alternatives of its figures."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.labels = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("script", "img", "iframe", "video", "audio", "source", "embed", "object", "input"):
            self.addresses += [attributes[key] for key in ("src", "data", "srcset") if attributes.get(key)]
        elif tag == "link":
            self.addresses.append(attributes.get("href"))
        if attributes.get("role") == "group":
            self.labels.append(attributes["aria-label"])


def test_a_page_names_nothing_to_load_but_plotly_and_what_its_notebook_named(pages):
    text = (pages / "99_fixture.html").read_text()
    assert set(Loads(text).addresses) == {
        "plotly.js", "https://example.invalid/x.png", "https://example.invalid/y.js"
    }  # fmt: skip
    assert not re.search(r"@import|url\(\s*['\"]?https?:", text)
    assert Loads((pages / "index.html").read_text()).addresses == []


def test_figures_have_their_text_alternative_and_hostile_text_is_escaped(pages):
    text = (pages / "99_fixture.html").read_text()
    labels = Loads(text).labels
    assert labels[0] == "A line that rises and falls " + HOSTILE
    assert labels[1].startswith("Predicted accuracy of add mod 7")  # the figure inside the widget
    assert HOSTILE not in text
    assert "add mod 7, trained on 2 digits" in text  # the widget's words
    assert "&lt;i&gt;text&lt;/i&gt;" in (pages / "98_next.html").read_text()


def test_a_solution_stays_folded_away():
    """The code between <details> and </details> is Markdown of its own, and yet inside."""
    page = _markdown("<details><summary>Solution</summary>\n\n```python\nx = 1\n```\n</details>\n\nafter")
    inside = page[page.index("<details>") : page.index("</details>")]
    assert "highlight" in inside
    assert "after" not in inside
    assert page.count("details>") == 2


def test_formulas_become_mathml_and_what_cannot_be_read_stays(pages):
    text = (pages / "99_fixture.html").read_text()
    assert text.count("<math") == 2
    assert "<mfrac>" in text
    assert "<code>$5</code>" in text
    assert "undefinedmacro" in text


def test_pages_lead_to_each_other(pages):
    text = (pages / "99_fixture.html").read_text()
    assert 'href="98_next.html"' in text
    assert 'href="https://doi.org/10.1"' in text
    index = (pages / "index.html").read_text()
    assert 'href="99_fixture.html"' in index
    assert "97_bad" not in index


def test_nothing_to_export_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    assert main(["export"]) == 2
    assert "arithlab run all --quick" in capsys.readouterr().err
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_x.ipynb").write_text("{")
    with pytest.raises(ArithlabError, match="cannot be read"):
        export()


def test_a_folder_that_cannot_be_written_is_told(pages, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARITHLAB_OUT", str(pages.parent))
    (tmp_path / "file").write_text("")
    assert main(["export", "--out", str(tmp_path / "file" / "html")]) == 1
    assert "cannot write" in capsys.readouterr().err


@NEEDS_BROWSER
def test_without_a_network_a_browser_draws_everything_and_asks_for_nothing(pages, tmp_path):
    with browser(tmp_path) as page:
        page.open(pages / "99_fixture.html", "document.querySelectorAll('.main-svg').length >= 4")
        assert {url.split(":")[0] for url in page.requests} == {"file"}
        assert page.run("document.querySelectorAll('math mfrac').length") == 1
        assert page.run("document.querySelector('math').getBoundingClientRect().width > 10")
        assert page.run("document.title") == "99. Two <b>words</b>"
        refused = [problem for problem in page.problems if "Content Security Policy" not in problem]
        assert refused == []
        assert any("example.invalid/y.js" in problem for problem in page.problems)  # what the notebook named
        page.open(pages / "index.html")
        assert page.run("document.querySelectorAll('a').length") >= 2
        assert page.problems == []


@NEEDS_BROWSER
def test_a_head_can_be_chosen_in_a_page_without_a_kernel(pages, tmp_path):
    with browser(tmp_path) as page:
        page.open(pages / "99_fixture.html", "document.querySelectorAll('select').length === 1")
        figure = "document.querySelector('select').closest('figure')"
        shown = f"{figure}.querySelector('.plotly-graph-div').data.map(trace => trace.visible)"
        page.wait(f"{figure}.querySelector('.main-svg') !== null")
        before, words = page.run(shown), page.run(f"{figure}.querySelector('figcaption').textContent")
        chosen = page.run("document.querySelector('select').value")
        page.run("document.querySelector('select').focus()")
        page.press("ArrowUp" if chosen.endswith("2") else "ArrowDown")
        assert page.run("document.querySelector('select').value") != chosen
        page.wait(f"JSON.stringify({shown}) !== {json.dumps(json.dumps(before, separators=(',', ':')))}")
        assert page.run(f"{figure}.querySelector('figcaption').textContent") != words
        name = page.run("document.querySelector('select').value")  # the sentence and the table beside it follow
        assert page.run(f"{figure}.parentNode.querySelector('.words').textContent").lower().startswith(name)
        first = page.run(f"{figure}.parentNode.querySelector('.table td + td').textContent")
        assert first.split(",")[0] in page.run(f"{figure}.querySelector('figcaption').textContent")
        assert serious(page.axe("main")) == []


@NEEDS_BROWSER
def test_the_browser_does_notice_what_a_page_asks_for(tmp_path):
    (tmp_path / "asks.html").write_text("<img src='https://example.invalid/x.png'>")
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "asks.html")
        assert "https://example.invalid/x.png" in page.requests
