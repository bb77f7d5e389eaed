"""The notebooks themselves, executed in quick mode: nbval, plain papermill, and a look at what came out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_exercises import in_notebook

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BIN = Path(sys.executable).parent


CUT_OFF = """
import socket

real = socket.socket.connect

def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"the network is cut off: {address}")
    return real(self, address)

def getaddrinfo(host, *given, real=socket.getaddrinfo, **more):
    if host not in (None, "", "127.0.0.1", "::1", "localhost"):
        raise OSError(f"the network is cut off: {host}")
    return real(host, *given, **more)

socket.socket.connect, socket.getaddrinfo = connect, getaddrinfo
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Quick mode without a network, and one output folder for all, so that what one trained the next one finds."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "sitecustomize.py").write_text(CUT_OFF)  # Python runs it at every start, in kernels too
    return {**os.environ, "ARITHLAB_QUICK": "1", "ARITHLAB_OUT": str(folder), "PYTHONPATH": str(folder)}


def test_the_network_is_cut_off(environment):
    code = "import urllib.request; urllib.request.urlopen('http://example.invalid')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "the network is cut off" in done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_passes_nbval_lax(path, environment):
    words = [
        "--nbval-lax",
        "--nbval-cell-timeout=3000",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        ROOT,
        path,
    ]
    done = subprocess.run(
        [BIN / "pytest", *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def run_by_papermill(source, target, environment, *words):
    """Execute a notebook as the README says, from another folder; returns what came out."""
    words = [BIN / "papermill", source, target, *words, "--no-progress-bar"]
    done = subprocess.run(words, env=environment, cwd=target.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(target, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_with_its_solutions_typed_in_every_exercise_is_right(path, environment, tmp_path):
    book, exercises = in_notebook(path)
    for placeholder, _, solution in exercises.values():
        placeholder.source = solution
    nbformat.write(book, tmp_path / "solved.ipynb")
    words = "--cwd", FOLDER  # where it finds the recorded runs
    done = run_by_papermill(tmp_path / "solved.ipynb", tmp_path / "out.ipynb", environment, *words)
    said = "".join(o.text for c in done.cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stdout")
    assert exercises
    assert [number for number in exercises if f"Exercise {number}: right." not in said] == []


@pytest.fixture(scope="module")
def executed(environment, tmp_path_factory):
    """02 under plain papermill, with a seed of its own."""
    target = tmp_path_factory.mktemp("papermill") / "out.ipynb"
    words = "-p SEED 1 -p STEPS 40".split()
    return run_by_papermill(FOLDER / "02_ape_vs_rpe.ipynb", target, environment, *words)


def test_plain_papermill_executes_02_with_its_own_seed(executed):
    text = json.dumps(executed)
    assert "seed 1" in text
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")


def figures(book):
    key = "application/vnd.plotly.v1+json"
    return [o.data[key] for c in book.cells if c.cell_type == "code" for o in c.outputs if key in o.get("data", {})]


def test_every_figure_says_in_words_what_it_shows_and_sends_nothing_away(executed):
    found = figures(executed)
    assert len(found) >= 4
    for figure in found:
        assert len(figure["layout"]["meta"]["alt"]) > 40
        assert figure["config"]["showSendToCloud"] is False
        assert figure["layout"]["title"]["text"]


def test_an_executed_notebook_stays_small_and_names_no_home_folder(executed):
    text = json.dumps(executed)
    assert len(text) < 2_000_000
    assert str(Path.home()) not in text.replace(str(ROOT), "")


def test_arithlab_run_executes_the_first_notebook_and_ends_with_a_table(environment):
    words = [BIN / "arithlab", "run", "00", "--quick", "-p", "STEPS", "20"]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("00_start_here")
    assert " ok " in last
    assert (Path(environment["ARITHLAB_OUT"]) / "notebooks" / "00_start_here.ipynb").is_file()
