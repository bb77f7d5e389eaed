"""Sweeps: a grid becomes runs, whoever trains them and whatever happens to the workers."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from training_fixtures import BRIEF, result

from arithlab import evaluate, results, train
from arithlab.cli import main
from arithlab.errors import ArithlabError, RunBusy
from arithlab.training.fit import fit
from arithlab.training.grids import LOG, Grid, read_grid
from arithlab.training.runs import Run, find_run, list_runs
from arithlab.training.sweep import do, sweep

pytest_plugins = ["training_fixtures"]
pytestmark = pytest.mark.usefixtures("out")

GRID = """
[common]
train = "D_2"
format = "padded 2"
size = "1-1-8"
optimizer = "adamw"
steps = {steps}
batch = 16

[[runs]]
task = ["add", "add mod 7"]
seed = [0, 1]

[[runs]]
task = "mul"
format = "padded 4"
"""


@pytest.fixture
def grid(tmp_path):
    """Writes a grid file of 5 runs; returns its path."""

    def write(steps=40, text=GRID, name="small"):
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace("{steps}", str(steps)))
        return path

    return write


@pytest.fixture
def in_this_process(monkeypatch):
    """Sweeps train in a thread of the test, which spares them the seconds that a new process takes to begin."""
    monkeypatch.setattr("arithlab.training.sweep.Processes", ThreadPoolExecutor)


@pytest.fixture
def slow(grid):
    """A grid file of 3 runs that take long enough to be killed."""
    return grid(400, GRID.replace("[0, 1]", "0"))


@pytest.fixture(scope="module")
def serial(zoo):
    """What training one run of `slow` after the other leaves: bytes by run id."""
    (zoo / "slow.toml").write_text(GRID.replace("{steps}", "400").replace("[0, 1]", "0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARITHLAB_OUT", str(zoo))
        patch.setenv("ARITHLAB_QUIET", "1")
        return {e.id: result(train(e)) for e in read_grid(zoo / "slow.toml").experiments}


def swept(path):
    return {e.id: result(find_run(e.id)) for e in read_grid(path).experiments}


@contextlib.contextmanager
def command(path, *words):
    """`arithlab sweep` in a process of its own, in a process group of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    words = [Path(sys.executable).with_name("arithlab"), "sweep", path, *words]
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition, seconds=60):
    """Wait for something to be true; returns it."""
    for _ in range(20 * seconds):
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail("waited in vain")


def trainers(out):
    """The processes that hold a run and have written a checkpoint of it."""
    holders = [p for p in out.glob("runs/*.holder") if list(p.with_suffix("").glob("checkpoints/*.safetensors"))]
    return [int(text.split()[1]) for p in holders if (text := p.read_text())]


def test_a_list_means_each_of_its_values_and_tables_add_up(grid):
    found = read_grid(grid()).experiments
    assert [(e.task, e.seed, e.format) for e in found] == [
        ("add", 0, "padded 2"), ("add", 1, "padded 2"), ("add mod 7", 0, "padded 2"), ("add mod 7", 1, "padded 2"),
        ("mul", 0, "padded 4"),
    ]  # fmt: skip
    assert [e.steps for e in found] == [40] * 5


BAD = {
    "no TOML": ("task = ", "no TOML"),
    "a table that does not exist": ("[comon]\nseed = 1", "did you mean 'common'"),
    "a field that does not exist": ("[common]\nsteeps = 1", "did you mean 'steps'"),
    "a wrong value": ('[[runs]]\nseed = 1\n[[runs]]\ntask = ["add", "cook"]', "table 2"),
    "a wrong type": ("[common]\nsteps = true", "steps"),
    "a date": ("[common]\nseed = 2020-01-01", "seed"),
    "an empty list": ("[common]\nseed = []", "empty list"),
    "too many": ("[common]\n" + "\n".join(f"{f} = [{'1,' * 99}]" for f in ("seed", "steps", "batch")), "970,299"),
    "runs that is no list": ("runs = 3", "any number of"),
    "a test of no lengths": ("[test]\ndigits = 5", "[test]"),
    "a test of length 0": ("[test]\ndigits = [0]", "[test]"),
    "a test of a length too long": ("[test]\ndigits = [5, 5_000_000]", "digits 5000000, allowed are 1 to 20,000"),
    "a test that does not exist": ("[test]\ndigts = [5]", "[test]"),
    "a deep nest": ("seed = " + "[" * 100_000, "no TOML"),
    "a number too long to read": ("[common]\nseed = " + "9" * 5_000, "no TOML"),
}


def test_lengths_that_hold_no_test_pairs_are_left_out(tmp_path):
    made = Grid([], (2, 3))
    few, many = (Run(tmp_path, BRIEF.with_(task=f"add mod 3 base {base}", format="aligned")) for base in (2, 3))
    assert (made.possible(few), made.possible(many)) == ([3], [2, 3])


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_a_grid_that_cannot_run_is_refused_in_one_sentence(text, words, grid, capsys):
    assert main(["sweep", str(grid(text=text))]) == 2
    said = capsys.readouterr().err
    assert words.lower() in said.lower()
    assert len(said) < 700


@pytest.mark.parametrize("name", ["../x", "a b", "x" * 100, "{x}", ".hidden", "\u00e9"])
def test_a_grid_whose_name_would_make_a_strange_path_is_refused(name, tmp_path):
    with pytest.raises(ArithlabError):
        read_grid(tmp_path / f"{name}.toml")


def test_a_grid_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ArithlabError, match="No such file"):
        read_grid(tmp_path / "nowhere.toml")


def test_two_processes_share_the_runs_and_a_second_sweep_trains_nothing(grid, out, tmp_path, monkeypatch, capsys):
    path = grid()
    assert main(["sweep", str(path), "--workers", "2", "--json"]) == 0
    printed = capsys.readouterr()
    assert "[5/5]" in printed.err
    rows = json.loads(printed.out)["rows"]
    assert [row["state"] for row in rows] == ["finished"] * 5
    assert {"run", "task", "seed", "format", "seconds", "exact_match_1", "exact_match_4"} <= set(rows[0])
    assert "steps" not in rows[0]  # all have the same
    assert (out / "sweeps" / "small.csv").read_text().count("finished") == 5
    with monkeypatch.context() as patch:
        patch.setattr("arithlab.training.sweep.Processes", None)
        assert main(["sweep", str(path)]) == 0
    assert "exact match in %" in capsys.readouterr().out
    assert len(swept(path)) == 5
    assert sorted(results()["run"]) == sorted(e.id for e in read_grid(path).experiments)  # of every run there is


def test_finished_runs_are_tested_once_at_the_lengths_that_the_grid_names(grid, out, in_this_process):
    sweep(grid())  # trained before anybody asked for tests
    asked = grid(text=GRID + "\n[test]\ndigits = [1, 2, 3]\nn = 50\n")
    found = sweep(asked)
    assert [name for name in found if name.startswith("exact")] == [f"exact_match_{n}" for n in (1, 2, 3)]
    for row in found.to_dict("records"):
        run = find_run(row["run"])
        for name in ("exact_match", "agreement"):
            assert row[f"{name}_2"] == evaluate(run, [2], n=50)[name][0]
        if run.experiment.format == "padded 2":
            assert math.isnan(row["exact_match_3"])  # three digits do not fit
    files = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/measured.json")}
    sweep(asked)
    assert len(files) == 5
    assert files == {path: path.stat().st_mtime_ns for path in out.glob("runs/*/measured.json")}
    sweep(grid(text=GRID + "\n[test]\ndigits = [1, 2]\n"))
    assert all(path.stat().st_mtime_ns > before for path, before in files.items())


def test_a_worker_that_is_killed_loses_nothing(slow, serial, out):
    with command(slow, "--workers", "2") as process:
        for _ in range(2):
            victim = until(lambda: trainers(out))[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in trainers(out))  # noqa: B023
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert swept(slow) == serial


@pytest.mark.usefixtures("in_this_process")
def test_a_failed_run_is_listed_with_its_log_and_trained_again_on_request_only(grid, out, capsys):
    wild = 'lr = 900.0\nweight_decay = 0.1\nschedule = "constant"\nwarmup = 0'
    path = grid(text=GRID.replace('task = "mul"', f'task = "mul"\n{wild}'))
    assert main(["sweep", str(path), "--workers", "2"]) == 1
    said = capsys.readouterr().err
    (log,) = out.glob(f"runs/*/{LOG}")
    assert "TrainingFailed: the loss is" in log.read_text()
    assert str(log) in said
    assert results(path)["state"].tolist() == ["finished"] * 4 + ["failed"]
    before = log.stat().st_mtime_ns
    assert main(["sweep", str(path), "--workers", "2"]) == 1
    assert log.stat().st_mtime_ns == before
    assert main(["sweep", str(path), "--workers", "2", "--retry"]) == 1
    assert log.stat().st_mtime_ns > before


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("everyone", [False, True], ids=["the sweep", "the whole process group"])
def test_interrupted_it_leaves_checkpoints_and_the_same_command_goes_on(everyone, slow, serial, out):
    with command(slow, "--workers", "2") as process:
        until(lambda: trainers(out))
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "repeat the command" in said
    assert "Traceback" not in said
    assert not list(out.rglob("*.holder"))
    assert not list(out.rglob("*.stop"))
    checkpoints = sorted(out.glob("runs/*/checkpoints/*.safetensors"))
    assert any(int(p.stem[5:]) % (400 // 20) for p in checkpoints), checkpoints  # written at the interruption
    sweep(slow, workers=2)
    assert swept(slow) == serial


def test_a_sweep_that_is_killed_takes_its_workers_with_it(grid, out):
    with command(grid(steps=2_000), "--workers", "1") as process:
        (worker,) = until(lambda: trainers(out))
        process.kill()
    until(lambda: not trainers(out))
    (run,) = [p for p in out.glob("runs/*") if p.is_dir()]
    assert list((run / "checkpoints").glob("*.safetensors"))
    until(lambda: not Path(f"/proc/{worker}").exists())


def test_a_job_given_twice_is_done_once(out, brief, tmp_path):
    job = (BRIEF.to_json(), str(out), 1, str(tmp_path / "stop"))
    mine = fit(BRIEF)
    next(mine)
    busy = subprocess.Popen([sys.executable, "-c", f"from arithlab.training.sweep import do; print(do(*{job!r}))"],
        stdout=subprocess.PIPE, text=True, env=os.environ)  # fmt: skip
    with busy:
        time.sleep(3)
        assert busy.poll() is None  # it waits for us
        for _ in mine:
            pass
        assert "finished" in busy.communicate(timeout=60)[0]
    manifest = (Run.of(BRIEF).path / "manifest.json").stat().st_mtime_ns
    assert do(*job)["state"] == "finished"
    assert (Run.of(BRIEF).path / "manifest.json").stat().st_mtime_ns == manifest
    assert result(Run.of(BRIEF)) == result(brief)


def test_who_holds_a_run_and_for_how_long_is_told(out):
    mine = fit(BRIEF)
    next(mine)
    holder = Run.of(BRIEF).path.with_suffix(".holder")
    os.utime(holder, (time.time() - 600, time.time() - 600))
    with pytest.raises(RunBusy, match=rf"process {os.getpid()} on .+ for 10 minutes"):
        next(fit(BRIEF))
    mine.close()


def test_while_eight_write_the_index_shows_finished_runs_only(out):
    children, seen = [], []
    for seed in range(8):
        if not (child := os.fork()):
            for more in range(3):
                do(BRIEF.with_(seed=8 * more + seed).to_json(), str(out), 1, str(out / "stop"))
            os._exit(0)
        children.append(child)
    while children:
        children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
        found = list_runs()  # reads every file that its manifest vouches for
        assert all(run.finished and run.summary["steps"] == 40 for run in found)
        assert len(found) >= max(seen, default=0)
        seen.append(len(found))
    assert seen[-1] == 24
    assert len(set(seen)) > 2  # it was read in between
    assert results().equals(results())
    assert sorted(results()["seed"]) == list(range(24))


@pytest.mark.parametrize("words", [["--dask", "tcp://127.0.0.1:9"], ["--dask", "nowhere"], ["--dask", ""]])
def test_a_scheduler_that_is_not_there_is_told(words, grid, capsys, monkeypatch):
    monkeypatch.setattr("arithlab.training.sweep.ANSWER_SECONDS", 1)
    assert main(["sweep", str(grid()), *words]) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers on the loopback, as processes; returns its address."""
    python, quiet = (
        [sys.executable, "-m"],
        {"stderr": subprocess.DEVNULL, "env": {**os.environ, "OMP_NUM_THREADS": "1"}},
    )
    file = tmp_path / "scheduler.json"
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*python, "distributed.cli.dask_worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard"]
    worker += ["--no-nanny", "--host", "127.0.0.1", "--local-directory", tmp_path]
    processes = [subprocess.Popen([*scheduler, "--scheduler-file", file], **quiet)]
    until(file.exists)
    processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]
    yield json.loads(file.read_text())["address"]
    for process in processes:
        process.kill()
        process.wait()


def test_on_a_cluster_that_loses_a_worker_nothing_is_lost_or_doubled(slow, serial, out, cluster):
    with command(slow, "--dask", cluster, "--json") as process:
        victim = until(lambda: trainers(out))[0]
        os.kill(victim, signal.SIGKILL)
        printed, said = process.communicate(timeout=150)
    assert process.returncode == 0, said
    assert [row["state"] for row in json.loads(printed)["rows"]] == ["finished"] * 3
    assert said.count("finished after") == 3
    assert len([p for p in out.glob("runs/*") if p.is_dir()]) == 3
    assert swept(slow) == serial


@pytest.mark.usefixtures("in_this_process")
def test_a_cluster_of_our_own_stops_with_checkpoints_and_goes_on(slow, serial, out):
    with command(slow, "--dask", "local") as process:
        until(lambda: trainers(out))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert any(int(p.stem[5:]) % (400 // 20) for p in out.glob("runs/*/checkpoints/*.safetensors"))
    sweep(slow, workers=2)
    assert swept(slow) == serial
