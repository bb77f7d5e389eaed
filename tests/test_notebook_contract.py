"""The notebook contract, checked on the files: structure, parameters, cell sizes, no outputs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from arithlab.notebook.execute import TYPES, declared_parameters

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def test_every_notebook_has_a_number_of_its_own():
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert all(number.isdigit() for number in numbers)
    assert len(set(numbers)) == len(numbers)


def test_starts_with_title_claim_and_table(path, notebook):
    first, second = markdown(notebook)[:2]
    title, claim = first.split("\n\n", 1)
    assert re.fullmatch(rf"# {path.stem[:2]}\. .+", title)
    assert claim.startswith("By the end you will have shown")
    assert len(claim.split()) <= 50
    assert "| You need | Time | You learn |" in second
    assert "quick" in second
    assert "full" in second


def test_one_parameters_cell_with_simple_types_and_help(path, notebook):
    declared = declared_parameters(path)
    assert {"QUICK": bool, "SEED": int, "OUT": str}.items() <= {k: v[0] for k, v in declared.items()}.items()
    assert declared["QUICK"][1] is False
    cell = next(c for c in code(notebook) if "parameters" in c.metadata.get("tags", []))
    for line in cell.source.splitlines():
        assert re.fullmatch(rf"[A-Z_]+: ({'|'.join(TYPES)}) = .+  # .+", line), line


def test_papermill_sees_the_same_parameters(path):
    assert set(papermill.inspect_notebook(str(path))) == set(declared_parameters(path))


def test_where_the_kernel_lacks_the_kit_the_second_code_cell_installs_it_from_the_clone(notebook, tmp_path):
    cell = code(notebook)[1]
    assert cell.metadata.tags == ["install"]
    (tmp_path / "pip.py").write_text(
        "import sys; print(*sys.argv[1:])"
    )  # in place of the real one: says what it is asked
    for path, said in ((tmp_path, "install --quiet ..[lab]\n"), (FOLDER.parent, "")):
        words = [sys.executable, "-S", "-c", cell.source]  # -S: without what is installed beside this Python
        done = subprocess.run(
            words, env={"PYTHONPATH": str(path)}, capture_output=True, text=True, check=True, cwd=FOLDER
        )
        assert done.stdout == said


def test_third_code_cell_sets_up(notebook):
    source = code(notebook)[2].source
    assert "import arithlab as al" in source
    assert "QUICK = al.setup(QUICK, SEED, OUT)" in source


def test_cells_are_short_and_plain(notebook):
    cells = code(notebook)
    sizes = sorted(len(c.source.splitlines()) for c in cells)
    assert sizes[-1] <= 25
    assert sizes[int(0.95 * len(sizes))] <= 18
    assert 2 * len(markdown(notebook)) >= len(cells)
    for cell in cells:
        tree = ast.parse(cell.source)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        assert all(ast.unparse(c.decorator_list[0]).startswith("new_encoding(") for c in classes)
        assert not re.search(r"import \*|^[!%]|https?://|['\"]/\w+/", cell.source, re.M), cell.source
        assert max(map(len, cell.source.splitlines())) <= 125


def test_predicts_first_and_has_one_signature_a_baseline_and_a_control(notebook):
    text = "\n".join(markdown(notebook))
    assert re.search(r"## (Predict first|Guess)", text)
    assert "MY_GUESS" in "\n".join(c.source for c in code(notebook))
    assert text.count("**Signature result.**") == 1
    assert re.search(r"[Bb]aseline", text)
    assert re.search(r"[Nn]egative control|\*\*Control", text)


def test_has_three_to_five_exercises_with_words_for_difficulty_hint_and_solution(notebook):
    text = "\n".join(markdown(notebook))
    tags = [tag for c in code(notebook) for tag in c.metadata.get("tags", [])]
    exercises = [tag.split("-")[1] for tag in tags if tag.startswith("exercise-")]
    assert 3 <= len(exercises) <= 5
    for number in exercises:
        assert f"check-{number}" in tags
        assert re.search(rf"\*\*{re.escape(number)}\*\* \((easy|medium|hard), \d+ minutes?\)", text)
    assert text.count("<summary>Hint</summary>") == text.count("<summary>Solution</summary>") == len(exercises)


def test_ends_with_summary_limits_where_next_and_references_with_doi(notebook):
    text = "\n".join(markdown(notebook))
    places = [text.index(f"## {name}") for name in ("Summary", "Limits", "Where next", "References")]
    assert places == sorted(places)
    assert "https://doi.org/" in text[places[-1] :]


def test_is_stored_clean(notebook):
    assert notebook.nbformat == 4
    assert notebook.nbformat_minor == 5
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    for cell in code(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_links_to_other_notebooks_lead_somewhere(notebook):
    for target in re.findall(r"\]\(([\w.]+\.ipynb)\)", "\n".join(markdown(notebook))):
        assert (FOLDER / target).is_file(), target
