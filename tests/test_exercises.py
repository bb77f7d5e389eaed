"""Every exercise: the placeholder runs and is not accepted, the printed solution is."""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from arithlab.notebook.exercises import EXERCISES, check, judge

FOLDER = Path(__file__).parent.parent / "notebooks"


def in_notebook(path):
    """A notebook and its exercises: {number: (placeholder cell, check cell, printed solution)}."""
    book = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    solutions = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    tagged = {tag: cell for cell in book.cells for tag in cell.metadata.get("tags", [])}
    numbers = [tag.removeprefix("exercise-") for tag in tagged if tag.startswith("exercise-")]
    cells = zip(numbers, solutions, strict=True)
    return book, {number: (tagged[f"exercise-{number}"], tagged[f"check-{number}"], text) for number, text in cells}


def exercises():
    for path in sorted(FOLDER.glob("*.ipynb")):
        for number, (placeholder, checking, solution) in in_notebook(path)[1].items():
            yield pytest.param(number, placeholder.source, checking.source, solution, id=number)


@pytest.fixture
def space():
    """What the exercise cells find defined: the package, a table of cuts for 05.3 and a carry map for 05.4."""
    import arithlab as al

    cut = pd.DataFrame({"layer": [-1, 0, 0, 1], "head": [-1, 0, 1, 0], "place": 0, "exact_match": [1.0, 0.9, 0.1, 0.5]})
    cut["part"] = ["whole", "head", "head", "head"]
    rows = [(0, "resid_pre", "a₁", 0.5), (0, "attn_out", "c₁", 0.95), (1, "resid_pre", "c₁", 1.0)]
    made = pd.DataFrame(rows, columns=["layer", "site", "label", "restored"])
    return {"al": al, "cut": cut, "made": made}


@pytest.mark.parametrize(("number", "placeholder", "checking", "solution"), exercises())
def test_the_solution_is_accepted_and_the_placeholder_is_not(number, placeholder, checking, solution, space, capsys):
    exec(placeholder, space)
    exec(checking, space)
    assert "not yet" in capsys.readouterr().out
    exec(solution, space)
    exec(checking, space)
    assert f"Exercise {number}: right." in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer", [None, ..., 0, -1, "x", "", [], {}, {1}, lambda: 1, lambda q: 1, (1,), (1, 2), 1e300, float("nan")]
)
def test_no_answer_makes_a_check_raise(answer):
    for number in EXERCISES:
        right, why = judge(number, answer)
        assert isinstance(why, str)
        assert why
        if answer not in (0,):
            assert not right


def test_an_unknown_exercise_is_named(capsys):
    check("99.9", 1)
    assert "no such exercise" in capsys.readouterr().out
