"""Fixtures of the tests that train. A test file asks for them with `pytest_plugins = ["training_fixtures"]`.

PYTEST_DONT_REWRITE: they import from it as well, before pytest can rewrite it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arithlab import Experiment, train
from arithlab.training.fit import fit
from arithlab.training.in_context import InContextExperiment

SETTINGS = {
    "optimizer": "muon", "lr": 3e-3, "matrix_lr": 0.02, "weight_decay": 0.1, "warmup": 20, "schedule": "linear",
    "size": "2-2-32", "batch": 64,
}  # fmt: skip
# right on every pair of 2 digits, on some of 1 digit, on next to none of 3
PADDED = Experiment(task="add", train="D_2", format="padded 3", positions="learned", steps=600, **SETTINGS)
# right on some pairs of 1 to 3 digits
UNPADDED = Experiment(
    task="add base 3", train="D_1+D_2+D_3", format="unpadded", positions="rope", steps=200, **SETTINGS
)  # fmt: skip
# learns nothing in so short a time, but passes through everything that a long training does
BRIEF = Experiment(train="D_1+D_2", format="padded 2", size="1-2-16", steps=40, batch=16, dropout=0.1, seed=1)
# tasks in context: knows some of its training answers
CONTEXT = InContextExperiment(p=5, tasks=8, alpha=0.6, shots=6, size="1-2-16", steps=40, batch=16, warmup=5)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in a fixed order, and so the same bytes every time; small models are faster this way, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def out(tmp_path, monkeypatch):
    """An output folder of the test's own, far from the recorded runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    monkeypatch.setenv("ARITHLAB_QUIET", "1")
    return tmp_path


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """The output folder that holds the runs trained once for all tests."""
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="session")
def padded(zoo):
    return _trained(PADDED, zoo)


@pytest.fixture(scope="session")
def unpadded(zoo):
    return _trained(UNPADDED, zoo)


@pytest.fixture(scope="session")
def brief(zoo):
    """What BRIEF leaves behind when nothing interrupts it."""
    return _trained(BRIEF, zoo)


@pytest.fixture(scope="session")
def learner(zoo):
    """A run in context."""
    return _trained(CONTEXT, zoo)


def _trained(experiment, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARITHLAB_OUT", str(folder))
        patch.setenv("ARITHLAB_QUIET", "1")
        return train(experiment)


def result(run):
    """What two runs that are the same must share, to the byte."""
    return [(run.path / name).read_bytes() for name in ("config.json", "metrics.jsonl", "final.safetensors")]


def advance(experiment, steps):
    """Train so many steps further, then stop."""
    progress = fit(experiment)
    for _ in range(steps):
        next(progress)
    progress.close()


def start(code, folder):
    """Another Python process that trains into `folder`; it speaks through its standard output."""
    head = "import torch\nfrom arithlab import Experiment, fit, train\ntorch.set_num_threads(1)\n"
    env = {**os.environ, "ARITHLAB_OUT": str(folder), "ARITHLAB_QUIET": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", head + code], cwd=Path(__file__).parents[1], env=env, **pipes)
