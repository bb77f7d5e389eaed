"""Measurements are made once; recorded runs bring theirs along, with or without weights."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from training_fixtures import BRIEF

from arithlab import evaluate, find_run, train
from arithlab.errors import RunMissing
from arithlab.model.transformer import Probe
from arithlab.training import evaluate as evaluate_module
from arithlab.training import remember, runs
from arithlab.training.grids import Grid
from arithlab.training.remember import MEASURED, record
from arithlab.training.runs import EVALUATIONS, Run, list_runs, write_tensors

pytest_plugins = ["training_fixtures"]


@pytest.fixture
def reference(out, tmp_path, monkeypatch):
    """A folder of recorded runs of its own."""
    folder = tmp_path / "checkout" / "outputs" / "reference"
    for module in (runs, remember):
        monkeypatch.setattr(module, "reference_folder", lambda: folder)
    return folder


@pytest.fixture
def run(reference):
    return train(BRIEF)


def test_a_second_evaluation_costs_nothing_and_says_the_same(run, monkeypatch):
    first = evaluate(run, [1, 2, "D_2[chain=1]"], n=50)
    monkeypatch.setattr(evaluate_module, "exact_matches", None)
    assert evaluate(run, [1, 2, "D_2[chain=1]"], n=50).equals(first)
    for other in ({"n": 51}, {"probe": Probe(temperature=2.0)}, {"predicted": lambda a, b: a}):
        with pytest.raises(TypeError):
            evaluate(run, [2], **{"n": 50, **other})


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": "0", "found": {}}', '{"version": 3}', "\0"])
def test_a_damaged_or_old_memory_is_measured_again(run, text):
    wanted = evaluate(run, [2], n=50)
    path = run.path / MEASURED
    kept = path.read_text()
    path.write_text(text)
    assert evaluate(run, [2], n=50).equals(wanted)
    assert path.read_text() == kept


def test_a_memory_of_another_version_does_not_count(run, monkeypatch):
    evaluate(run, [2], n=50)
    monkeypatch.setattr(remember, "__version__", "another")
    assert remember.recall(run, "D_2", 50) is None


def test_measurements_belong_to_the_weights(run, tmp_path):
    """A second run of the same experiment, somewhere else, is measured for itself."""
    mine = evaluate(run, [2], n=50)
    other = Run(tmp_path / "other" / run.id, BRIEF)
    zeros = {name: torch.zeros_like(value) for name, value in run.model.state_dict().items()}
    shutil.copytree(run.path, other.path)
    write_tensors(other.path / runs.WEIGHTS, zeros, {})
    manifest = json.loads((other.path / "manifest.json").read_text())
    manifest["sha256"][runs.WEIGHTS] = runs.digest(other.path / runs.WEIGHTS)
    (other.path / "manifest.json").write_text(json.dumps(manifest))
    assert other.finished
    assert remember.recall(other, "D_2", 50) is None
    remember.remember(other, "D_2", 50, {"n": 50, "right": 0, "agree": 0})
    assert evaluate(run, [2], n=50).equals(mine)


def test_two_that_measure_at_once_lose_nothing(run):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: remember.remember(run, "D_2", i, {"n": i, "right": 1, "agree": 1}), range(40)))
    assert all(remember.recall(run, "D_2", i)["n"] == i for i in range(40))


def test_a_recorded_run_that_is_copied_stays_finished(run, reference):
    evaluate(run, [2], n=50)
    made = record(run, weights=True)
    shutil.rmtree(run.path)
    shutil.copytree(made.path, run.path)
    shutil.rmtree(made.path)
    assert Run.of(BRIEF).path == run.path
    evaluate(run, [1], n=50)
    assert run.finished
    assert remember.recall(run, "D_2", 50)
    assert remember.recall(run, "D_1", 50)


def test_recording_again_keeps_all_that_was_measured(run):
    evaluate(run, [1], n=50)
    record(run, weights=True)
    evaluate(Run.of(BRIEF), [2], n=50)
    made = record(Run.of(BRIEF), weights=False)
    assert made.finished
    assert not made.has_weights
    assert remember.recall(made, "D_1", 50)
    assert remember.recall(made, "D_2", 50)


def test_where_nothing_can_be_written_it_is_measured_all_the_same(run, monkeypatch):
    def full(*_):
        raise remember.CannotWrite("full")

    monkeypatch.setattr(remember, "write_file", full)
    assert len(evaluate(run, [1, 2], n=50)) == 2


def test_a_run_recorded_with_weights_is_found_first(run, reference):
    wanted = evaluate(run, [2], n=50)
    made = record(run, weights=True)
    assert Run.of(BRIEF).path == made.path == reference / run.id
    assert made.recorded
    assert made.finished
    assert made.equals(run)
    assert evaluate(made, [2], n=50).equals(wanted)


def test_a_run_recorded_without_weights_answers_what_was_measured(run, reference):
    wanted = evaluate(run, [2], n=50)
    made = record(run, weights=False)
    assert Run.of(BRIEF).path == run.path  # one's own has the weights
    assert find_run(run.id).path == run.path
    for path in run.path.iterdir():
        path.unlink()
    light = Run.of(BRIEF)
    assert light.path == made.path == find_run(run.id).path
    assert train(BRIEF).path == made.path
    assert evaluate(light, [2], n=50).equals(wanted)
    assert light.metrics["step"].max() == BRIEF.steps
    assert [r.path for r in list_runs()] == [made.path]
    for call in (lambda: light.model, lambda: light.equals(light), lambda: evaluate(light, [2], n=51)):
        with pytest.raises(RunMissing, match="weights=True"):
            call()
    assert not (made.path / runs.WEIGHTS).exists()
    again = train(BRIEF, weights=True)
    assert again.path == run.path
    assert again.has_weights
    assert Run.of(BRIEF).path == run.path
    assert [r.path for r in list_runs()] == [run.path]


def test_a_grid_trains_what_was_recorded_without_the_tests_that_it_asks_for(run, reference):
    evaluate(run, [2], n=50)
    record(run, weights=False)
    assert Grid([BRIEF], (2,), 50).tested(Run.of(BRIEF, light=True))
    assert not Grid([BRIEF], (1, 2), 50).tested(Run.of(BRIEF))
    for path in run.path.iterdir():
        path.unlink()
    found = Grid([BRIEF], (1, 2), 50).test(Run.of(BRIEF))  # the other measurements are still told
    assert found["exact_match_1"] is None or found["exact_match_2"] is None


def test_without_weights_something_must_have_been_measured(run):
    with pytest.raises(RunMissing, match="measured"):
        record(run, weights=False)
    assert record(run, weights=True).finished


@pytest.mark.parametrize("change", ["altered", "more"])
def test_what_is_recorded_is_vouched_for(change, run, reference):
    evaluate(run, [2], n=50)
    made = record(run, weights=False)
    if change == "altered":
        path = made.path / EVALUATIONS
        path.write_text(path.read_text().replace('"right": ', '"right": 1'))
    else:
        manifest = json.loads((made.path / "manifest.json").read_text())
        manifest["sha256"]["../x"] = "0"
        (made.path / "manifest.json").write_text(json.dumps(manifest))
    assert not made.finished
