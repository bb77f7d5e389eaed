"""Headless execution: strict parameters, honest verdicts. Each fixture notebook is named for its fault."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from arithlab.errors import ArithlabError, StudyFailed
from arithlab.notebook.execute import (
    declared_parameters,
    execute,
    hidden_problem,
    parse_parameters,
    run_notebooks,
)
from arithlab.notebook.series import find_notebooks

PARAMETERS = 'QUICK: bool = False  # quick\nSEED: int = 0  # seed\nOUT: str = ""  # folder\nRATE: float = 0.1  # rate\n'


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Writes a notebook of these code cells below a parameters cell; returns its path."""
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)

    def make(name, *cells, parameters=PARAMETERS, tags=("parameters",)):
        first = [new_code_cell(parameters, metadata={"tags": list(tags)})] if parameters is not None else []
        book = new_notebook(cells=[new_markdown_cell("# 99. Fixture"), *first, *map(new_code_cell, cells)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(book, path)
        return path

    return make


def done(path):
    return path.parent / "out" / "notebooks" / path.name


def failed(path):
    return done(path).with_name(f"{path.stem}.failed.ipynb")


def leftovers(path):
    return [p.name for p in done(path).parent.glob(".*")]


def test_parameters_are_injected_and_the_executed_copy_is_complete(make):
    path = make("clean", "print(SEED, QUICK, RATE, OUT)")
    execute(path, parse_parameters(path, {"SEED": "7", "RATE": "1e-3", "QUICK": "True", "OUT": "{braces} and spaces"}))
    book = nbformat.read(done(path), as_version=4)
    assert book.cells[-1].outputs[0].text.strip() == "7 True 0.001 {braces} and spaces"
    assert hidden_problem(done(path)) is None
    assert leftovers(path) == []


def test_output_folders_with_braces_spaces_and_unicode_work(make, monkeypatch, tmp_path):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "a {b} \u00e9\u00e8"))
    path = make("braces{x}", "print(1)")
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "a {b} \u00e9\u00e8"))
    assert execute(path, {}).is_file()


def test_an_error_in_the_middle_fails_and_keeps_the_traceback_but_no_result(make):
    path = make("broken", "1 / 0", "print('never')")
    with pytest.raises(StudyFailed, match="ZeroDivisionError"):
        execute(path, {})
    assert not done(path).exists()
    assert "ZeroDivisionError" in failed(path).read_text()
    assert leftovers(path) == []


def test_a_failure_does_not_overwrite_a_good_result(make):
    path = make("sometimes", "assert SEED == 0")
    execute(path, {})
    good = done(path).read_bytes()
    with pytest.raises(StudyFailed):
        execute(path, {"SEED": 1})
    assert done(path).read_bytes() == good
    execute(path, {})
    assert not failed(path).exists()


def test_an_error_hidden_in_a_widget_fails(make):
    path = make("hidden_in_widget", "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    1 / 0\nout")
    with pytest.raises(StudyFailed, match="ZeroDivisionError"):
        execute(path, {})
    assert not done(path).exists()


def test_leaving_early_is_no_success(make):
    path = make("sysexit0", "raise SystemExit(0)", "print('never')")
    with pytest.raises(StudyFailed):
        execute(path, {})
    assert not done(path).exists()


def test_a_kernel_that_dies_is_a_failure_not_a_crash(make):
    path = make("kernel_dies", "import os\nos.kill(os.getpid(), 9)", "print('never')")
    with pytest.raises(StudyFailed, match="kernel"):
        execute(path, {})
    assert not done(path).exists()
    assert leftovers(path) == []


TRAINS = """
import os
import arithlab as al
QUICK = al.setup(QUICK, SEED)
experiment = al.Experiment(train="D_1+D_2", format="padded 2", size="1-2-16", steps=40, batch=16, seed=SEED)
run = al.train(experiment, watch=lambda now: now.step == DIES and os.kill(os.getpid(), 9))
"""


def test_a_run_whose_kernel_was_killed_goes_on_and_a_finished_one_is_loaded_not_trained(make, monkeypatch):
    path = make("trains", TRAINS, TRAINS,
        parameters=PARAMETERS + "DIES: int = 0  # step\n")  # fmt: skip
    with pytest.raises(StudyFailed, match="kernel"):
        execute(path, {"DIES": 25})
    (checkpoint, *_) = sorted((path.parent / "out" / "runs").glob("*/checkpoints/*.safetensors"), reverse=True)
    assert checkpoint.stem == "step-000000024"
    text = execute(path, {}).read_text()
    assert text.count("is here already") == 1  # the second cell, though both say the same
    assert execute(path, {}).read_text().count("is here already") == 2


def test_executed_notebooks_do_not_follow_a_link_out_of_the_output_folder(make, tmp_path):
    path = make("linked", "print(1)")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notebooks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArithlabError, match="leads out of"):
        execute(path, {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "given",
    [
        {"sede": "7"},
        {"SEED": "abc"},
        {"SEED": "1.5"},
        {"SEED": "True"},
        {"QUICK": "true"},
        {"QUICK": "1"},
        {"RATE": "fast"},
        {"SEED\nimport os": "1"},
        {"__class__": "1"},
        {"": "1"},
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(make, given):
    path = make("parameters", "print(1)")
    with pytest.raises(ArithlabError):
        parse_parameters(path, given)


def test_a_misspelt_parameter_gets_a_suggestion(make):
    with pytest.raises(ArithlabError, match="SEED"):
        parse_parameters(make("parameters", "print(1)"), {"SEDE": "7"})


def test_no_or_two_parameters_cells_are_refused(make):
    with pytest.raises(ArithlabError, match="exactly one"):
        declared_parameters(make("no_parameters", "print(1)", parameters=None))
    two = make("two_parameters", "print(1)")
    book = nbformat.read(two, as_version=4)
    book.cells.append(new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    nbformat.write(book, two)
    with pytest.raises(ArithlabError, match="exactly one"):
        declared_parameters(two)


def test_what_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "text.ipynb").write_text("not JSON")
    with pytest.raises(ArithlabError):
        declared_parameters(tmp_path / "text.ipynb")


def test_the_table_and_the_status_tell_the_truth(make, capsys):
    good, bad = make("good", "print(1)"), make("bad", "1 / 0")
    assert run_notebooks(str(good), {}, quick=True) == 0
    assert "ok" in capsys.readouterr().out
    assert run_notebooks(str(bad), {}, quick=True) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "ZeroDivisionError" in printed.err


def test_notebooks_are_found_by_number_name_and_all(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert (
        [p.stem for p in find_notebooks("02")] == [p.stem for p in find_notebooks("02_ape_vs_rpe")] == ["02_ape_vs_rpe"]
    )
    assert len(find_notebooks("all")) >= 6
    with pytest.raises(ArithlabError, match="02_ape_vs_rpe"):
        find_notebooks("02_ape_vs_rp")


def test_interrupted_it_ends_with_130_and_leaves_nothing(make, tmp_path):
    path = make("sleeps", "open('begun', 'w').close()", "import time\ntime.sleep(120)")
    words = [Path(sys.executable).with_name("arithlab"), "run", path]
    running = subprocess.Popen(
        words, cwd=tmp_path, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        time.sleep(0.1)
        if (tmp_path / "begun").exists():
            break
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert not done(path).exists()
    assert leftovers(path) == []


def test_the_figures_of_an_executed_notebook_are_kept_beside_it(make):
    draw = """
import plotly.graph_objects as go
from arithlab.notebook.setup import show
show(go.Figure(go.Scatter(y=[1, 4]), layout={"title": {"text": "Growth"}, "meta": {"alt": "Grows."}}))
"""
    path = make("figure", draw)
    assert run_notebooks(str(path), {}) == 0
    kept = done(path).with_suffix(".figures")
    assert sorted(file.name for file in kept.iterdir()) == ["01-growth.csv", "01-growth.html", "01-growth.json"]
