"""Killed at any moment, disk full, interrupted twice: training goes on to the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
from training_fixtures import BRIEF, advance, result, start

from arithlab import train
from arithlab.errors import ArithlabError, CannotWrite, TrainingFailed
from arithlab.training import fit as fit_module
from arithlab.training import runs
from arithlab.training.fit import fit
from arithlab.training.runs import Run, find_run

pytest_plugins = ["training_fixtures"]
pytestmark = pytest.mark.usefixtures("out")

KILLS = 50


def dies(how, code=lambda: train(BRIEF)):
    """Run `code` in a forked process that `how` kills; returns whether it was killed before it ended."""
    child = os.fork()
    if child == 0:
        try:
            how(None)
            code()
            os._exit(0)
        except BaseException:
            os._exit(1)
    how(child)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status != 0


def after(seconds):
    """Kill the process after so long."""

    def how(child):
        if child:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)

    return how


def at_write(number):
    """Kill the process at its n-th fsync or rename: in the middle of a checkpoint, of metrics, of the manifest."""

    def how(child):
        if child is None:
            count = iter(range(number))
            for module, name in ((os, "fsync"), (runs.Path, "replace")):
                real = getattr(module, name)

                def counted(*given, real=real):
                    if next(count, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*given)

                setattr(module, name, counted)

    return how


def test_killed_at_fifty_random_moments_a_run_ends_with_the_same_bytes(out, brief):
    moments = random.Random(4)
    kills = {"by the clock": 0, "while writing": 0}
    torn = 0
    while sum(kills.values()) < KILLS:
        kind = min(kills, key=kills.get)
        how = after(moments.uniform(0.005, 0.15)) if kind == "by the clock" else at_write(moments.randrange(1, 60))
        if dies(how):
            kills[kind] += 1
            torn += bool(list(out.rglob("*.tmp")))
        if Run.of(BRIEF).finished:  # whole, whenever it was killed
            assert result(Run.of(BRIEF)) == result(brief)
            shutil.rmtree(Run.of(BRIEF).path)
    run = train(BRIEF)
    assert result(run) == result(brief)
    assert run.equals(brief)
    assert torn >= KILLS // 4  # files were half written, and none was ever taken for whole
    assert not list(out.rglob("*.tmp"))


def test_killed_in_the_middle_of_every_single_write(out):
    short = BRIEF.with_(steps=2)
    whole = result(train(short))
    for number in range(100):
        shutil.rmtree(out / "runs")
        if not dies(at_write(number), lambda: train(short)):
            break
        assert number >= 22 or not Run.of(short).finished  # after the rename of the manifest, it is
        assert result(train(short)) == whole
    assert number >= 22  # config, 2 x (metrics, sha256, tensors), final, summary, manifest: each fsync and rename


def test_two_runs_are_called_equal_only_where_equal_bytes_were_promised(out, brief, monkeypatch):
    mine = train(BRIEF)
    assert mine.equals(brief)
    shutil.rmtree(mine.path)
    torch.set_num_threads(2)
    try:
        two = train(BRIEF)
    finally:
        torch.set_num_threads(1)
    with pytest.raises(ArithlabError, match=r"threads: 2 and 1.+tolerance"):
        two.equals(brief)


def test_going_on_with_another_version_is_told_and_noted(out, brief, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("arithlab.training.machine.__version__", "0.0.9")
        advance(BRIEF, 10)
    assert capsys.readouterr().err == ""
    run = train(BRIEF)
    assert "goes on under other conditions (versions: then {'arithlab': '0.0.9'" in capsys.readouterr().err
    (changed,) = run.summary["changed"]
    assert (changed["from_step"], changed["versions"]["arithlab"]) == (10, "0.0.9")
    with pytest.raises(ArithlabError, match="changed"):
        run.equals(brief)


def test_a_checkpoint_of_another_experiment_is_named_field_by_field(out, capsys):
    advance(BRIEF.with_(seed=5, lr=0.1), 10)
    shutil.copytree(Run.of(BRIEF.with_(seed=5, lr=0.1)).path, Run.of(BRIEF).path)
    advance(BRIEF, 1)
    assert "another experiment (lr 0.1, not 0.003; seed 5, not 1)" in capsys.readouterr().err


def test_the_flags_of_torch_are_noted_and_change_no_byte_here(out, brief):
    assert brief.summary["flags"]["deterministic"] is False
    torch.use_deterministic_algorithms(True)
    try:
        run = train(BRIEF)
    finally:
        torch.use_deterministic_algorithms(False)
    assert run.summary["flags"]["deterministic"] is True
    assert result(run) == result(brief)
    with pytest.raises(ArithlabError, match="flags"):
        run.equals(brief)


def test_a_second_interrupt_stops_at_once_and_the_last_whole_checkpoint_counts(out, brief):
    def watch(now):
        if now.step == 11:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(BRIEF, watch=watch)
    assert result(train(BRIEF)) == result(brief)


def test_an_interrupt_during_a_checkpoint_write_spoils_nothing(out, brief, monkeypatch):
    real = os.fsync

    def interrupted(file):
        if list((Run.of(BRIEF).path / "checkpoints").glob("step-000000010.*")):
            raise KeyboardInterrupt
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(BRIEF)
    assert not list(out.rglob("*.tmp"))
    assert result(train(BRIEF)) == result(brief)


@pytest.fixture
def small_disk(out, monkeypatch):
    """A file system of 200 kB as the output folder; the test is skipped where none may be mounted."""
    folder = out / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    monkeypatch.setenv("ARITHLAB_OUT", str(folder))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_keeps_the_state_in_memory_until_there_is_room(small_disk, brief, monkeypatch, capsys):
    advance(BRIEF, 10)
    kept = {p.name: p.read_bytes() for p in Run.of(BRIEF).checkpoints()}
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(200_000))
    steps = []
    with pytest.raises(CannotWrite, match=r"No space left on device \(0\.0 MB are free there\)"):
        train(BRIEF, watch=lambda now: steps.append(now.step))
    assert {p.name: p.read_bytes() for p in Run.of(BRIEF).checkpoints()} == kept
    assert not list(small_disk.rglob("*.tmp"))
    filler.unlink()
    assert result(train(BRIEF, watch=lambda now: steps.append(now.step))) == result(brief)
    assert steps == list(range(11, 41))  # no step was made twice: what found no room was still in memory
    assert capsys.readouterr().err == ""


def test_no_room_for_the_last_files_loses_no_step(out, brief, monkeypatch):
    real = runs.Path.replace

    def replace(path, to):
        if to.name == "manifest.json":
            raise OSError(28, "No space left on device")
        real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", replace)
        with pytest.raises(CannotWrite):
            train(BRIEF)
    made = []
    monkeypatch.setattr(fit_module.Trainer, "step", lambda *given: made.append(given))
    assert result(train(BRIEF)) == result(brief)
    assert made == []


def test_a_quota_is_told_in_one_sentence_and_the_same_command_goes_on(out, brief):
    code = (
        "import resource\nfrom arithlab.errors import CannotWrite\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"try: train(Experiment(**{BRIEF.to_json()}))\n"
        "except CannotWrite as error: print(error)"
    )
    with start(code, out) as process:
        said, errors = process.communicate(timeout=60)
    assert "File too large" in said, errors
    assert "nothing that was there is lost" in said
    assert not list(out.rglob("*.tmp"))
    assert result(train(BRIEF)) == result(brief)


def test_a_folder_that_is_read_only_is_told(small_disk, brief):
    advance(BRIEF, 10)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = {p.name: p.read_bytes() for p in Run.of(BRIEF).path.rglob("*.safetensors")}
    with pytest.raises(CannotWrite, match=r"Read-only file system.+ARITHLAB_OUT"):
        train(BRIEF)
    assert {p.name: p.read_bytes() for p in Run.of(BRIEF).path.rglob("*.safetensors")} == before
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert result(train(BRIEF)) == result(brief)


def test_memory_that_does_not_suffice_is_told_with_half_the_batch(out):
    code = (
        "import resource\nfrom arithlab.errors import TrainingFailed\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        f"try: train(Experiment(**{BRIEF.with_(batch=8_000_000).to_json()}))\n"
        "except TrainingFailed as e: print(e)"
    )
    with start(code, out) as process:
        said, errors = process.communicate(timeout=60)
    assert "out of memory with size 1-2-16 and batch 8000000: try batch 4000000" in said, errors


def test_a_gpu_without_memory_is_told_too(out, monkeypatch):
    def step(*given):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(fit_module.Trainer, "step", step)
    with pytest.raises(TrainingFailed, match="try batch 8"):
        train(BRIEF)


def test_a_loss_that_is_no_number_is_seen_at_its_step_and_marked_in_the_figure(out):
    from arithlab.notebook.plots import training_curves

    wild = BRIEF.with_(optimizer="adamw", lr=900.0, weight_decay=0.1, schedule="constant", warmup=0)
    last = []
    with pytest.raises(TrainingFailed, match=r"the loss is (nan|inf) at step (\d+)") as failure:
        train(wild, watch=lambda now: last.append(now))
    step = last[-1].step + 1
    assert f"at step {step}:" in str(failure.value)
    metrics = Run.of(wild).metrics
    assert metrics.attrs["stopped"] == step
    assert f"step {step}" in training_curves(metrics, title="x").layout.meta["alt"]


@pytest.mark.parametrize("name", ["runs", "run", "checkpoints"])
def test_no_symbolic_link_leads_out_of_the_output_folder(name, out, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    run = Run.of(BRIEF).path
    place = {"runs": run.parent, "run": run, "checkpoints": run / "checkpoints"}[name]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    with pytest.raises(ArithlabError, match="leads out of"):
        train(BRIEF)
    assert list(elsewhere.iterdir()) == []


def test_a_pickle_offered_as_a_checkpoint_is_refused_with_a_way_out(out):
    torch.save({"weights": torch.ones(2)}, out / "model.pt")
    for offered in (out / "model.pt", str(out / "model.pt")):
        with pytest.raises(ArithlabError, match=r"is a pickle.+save_file"):
            find_run(offered)


def test_a_stale_holder_does_not_hold_a_run(out, brief):
    code = f"for now in fit(Experiment(**{BRIEF.to_json()})): print(now.step, flush=True)"
    with start(code, out) as process:
        assert process.stdout.readline()
        process.kill()
    holder = Run.of(BRIEF).path.with_suffix(".holder")
    assert holder.exists()
    assert next(fit(BRIEF)).step
    assert result(train(BRIEF)) == result(brief)
    assert not holder.exists()
