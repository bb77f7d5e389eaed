"""The figures of an executed notebook as files beside it."""

import json
import sys

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from browser import NEEDS_BROWSER, browser
from nbformat.v4 import new_code_cell, new_notebook, new_output

from arithlab.notebook.export import FIGURE
from arithlab.notebook.figures import numbers, save_figures
from arithlab.notebook.setup import bundle


def coded(figure):
    return json.loads(figure.to_json())


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Writes an executed notebook that holds these figures, a cell each; returns its path."""
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))

    def write(*figures):
        cells = [
            new_code_cell(outputs=[new_output("display_data", {FIGURE: coded(figure), "text/plain": "alt"})])
            for figure in figures
        ]
        path = tmp_path / "notebooks" / "99_fixture.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=[new_code_cell("1"), *cells]), path)
        return path

    return write


def line(title="A <b>line</b>, 50 %", **more):
    figure = go.Figure(go.Scatter(x=np.arange(3), y=np.array([0.5, 1.25, 2]), name="seed 0", **more))
    return figure.update_layout(title={"text": title}, meta={"alt": "It rises."})


def test_every_figure_becomes_a_page_its_json_and_its_numbers(executed):
    path = executed(line(), line("Second"))
    pages = save_figures(path)
    assert [page.name for page in pages] == ["01-a-line-50.html", "02-second.html"]
    assert "It rises." in pages[0].read_text()
    assert json.loads(pages[0].with_suffix(".json").read_text()) == coded(line())
    table = pd.read_csv(pages[0].with_suffix(".csv"))
    assert table.to_dict("list") == {"trace": ["seed 0"] * 3, "x": [0, 1, 2], "y": [0.5, 1.25, 2.0]}


def test_a_second_execution_replaces_the_figures_of_the_first(executed):
    save_figures(executed(line(), line("Second")))
    (page,) = save_figures(executed(line("Other")))
    assert sorted(file.name for file in page.parent.iterdir()) == ["01-other.csv", "01-other.html", "01-other.json"]
    assert save_figures(executed()) == []
    assert not page.parent.exists()
    assert not [*page.parent.parent.glob(".*")]


def test_the_numbers_of_matrices_errors_and_unequal_lengths():
    matrix = np.arange(6.0).reshape(2, 3)
    table = numbers(coded(go.Figure(go.Heatmap(x=["a", "b", "c"], y=[10, 20], z=matrix, text=matrix.astype(str)))))
    assert list(table.x) == ["a", "b", "c"] * 2
    assert list(table.y) == [10] * 3 + [20] * 3
    assert list(table.z) == [0, 1, 2, 3, 4, 5]
    assert list(table.text) == [*map(str, map(float, range(6)))]
    bars = line(error_y={"array": [0.1, 0.2, 0.3], "arrayminus": np.array([1.0, 2.0, 3.0])})
    table = numbers(coded(bars))
    assert list(table.y_array) == [0.1, 0.2, 0.3]
    assert list(table.y_arrayminus) == [1, 2, 3]
    assert len(numbers(coded(go.Figure()))) == 0


def test_a_figure_asks_for_the_network_in_colab_only(monkeypatch):
    assert set(bundle(line())) == {FIGURE, "text/plain"}
    monkeypatch.setitem(sys.modules, "google.colab", object())
    forms = bundle(line())
    assert "cdn" in forms["text/html"]
    assert forms["text/plain"] == "It rises."


@NEEDS_BROWSER
def test_the_page_of_a_figure_draws_itself_without_a_network(executed, tmp_path):
    (page,) = save_figures(executed(line()))
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page, "document.querySelector('.js-plotly-plot .trace') !== null")
        assert chromium.problems == []
