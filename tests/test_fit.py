"""Training: it learns, it can be stopped anywhere, and what interrupts it changes nothing."""

import os
import random
import signal

import numpy as np
import pytest
import torch
from training_fixtures import BRIEF, SETTINGS, advance, result, start

from arithlab import Experiment, train
from arithlab.arithmetic import batches
from arithlab.errors import ArithlabError, RunBusy, TrainingFailed
from arithlab.training import fit as fit_module
from arithlab.training.evaluate import FOLLOWED, exact_matches, test_sets
from arithlab.training.fit import fit
from arithlab.training.machine import choose_device
from arithlab.training.runs import Run
from arithlab.training.trainer import Trainer

pytest_plugins = ["training_fixtures"]
pytestmark = pytest.mark.usefixtures("out")

LONGER = BRIEF.with_(steps=120)


def whole(experiment, folder, monkeypatch):
    """What an uninterrupted training in another folder leaves."""
    with monkeypatch.context() as patch:
        patch.setenv("ARITHLAB_OUT", str(folder))
        return result(train(experiment))


def test_a_small_model_learns_32_pairs_by_heart():
    e = Experiment(**SETTINGS, train="D_2", format="padded 2", pairs=32, steps=120)
    a, b = batches.train_pool(e.train_domain, e.base, 32, e.seed)
    assert exact_matches(train(e).model, e.format_.encode(e.task_, a, b)).all()


def test_every_step_is_told_once_and_in_order():
    seen = list(fit(BRIEF))
    assert [now.step for now in seen] == list(range(1, 41))
    assert all(np.isfinite(now.loss) for now in seen)
    assert [now.step for now in seen if now.rows] == list(range(2, 41, 2))


def test_the_last_metrics_are_those_of_the_weights_that_were_kept(brief):
    last = brief.metrics[brief.metrics.step == BRIEF.steps]
    assert last.digits.tolist() == [1, 2]
    for row, (_, truth, predicted) in zip(last.itertuples(), test_sets(BRIEF, [1, 2], FOLLOWED), strict=True):
        assert row.exact_match == exact_matches(brief.model, truth).mean()
        assert row.agreement == exact_matches(brief.model, predicted).mean()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_stopping_between_any_two_steps_changes_nothing(optimizer, tmp_path, monkeypatch):
    e = BRIEF.with_(optimizer=optimizer)
    uninterrupted = whole(e, tmp_path / "other", monkeypatch)
    for stops in ([1, 1, 1], [6], [7, 20], [39], [40]):
        for steps in stops:
            advance(e, steps)
        assert not Run.of(e).finished
        run = train(e)
        assert result(run) == uninterrupted
        for path in sorted(run.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_random_numbers_drawn_by_others_change_nothing(brief):
    for _ in fit(BRIEF):
        torch.manual_seed(5)
        torch.rand(3)
    assert result(Run.of(BRIEF)) == result(brief)


def test_two_trainings_may_take_turns(brief, tmp_path, monkeypatch):
    other = BRIEF.with_(seed=2)
    alone = whole(other, tmp_path / "other", monkeypatch)
    for _ in zip(fit(BRIEF), fit(other), strict=True):
        pass
    assert result(train(BRIEF)) == result(brief)
    assert result(train(other)) == alone


def test_seeds_give_different_models(brief):
    assert result(train(BRIEF.with_(seed=2)))[2] != result(brief)[2]


def test_a_finished_run_tells_once_and_trains_nothing(brief, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(brief.path.parents[1]))
    monkeypatch.setattr(fit_module, "Trainer", None)
    (now,) = fit(BRIEF)
    assert (now.step, now.steps, now.run.path) == (40, 40, brief.path)
    assert train(BRIEF).path == brief.path


def test_a_killed_process_leaves_what_the_next_one_needs(out, tmp_path, monkeypatch):
    moments = random.Random(1)
    code = f"for now in fit(Experiment(**{LONGER.to_json()})): print(now.step, flush=True)"
    for _ in range(3):
        with start(code, out) as process:
            for _ in range(moments.randint(1, 25)):
                assert process.stdout.readline()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not Run.of(LONGER).finished
    assert Run.of(LONGER).checkpoints()
    assert result(train(LONGER)) == whole(LONGER, tmp_path / "other", monkeypatch)


def test_an_interrupted_process_leaves_a_checkpoint_and_ends(out, tmp_path, monkeypatch):
    code = f"train(Experiment(**{LONGER.to_json()}), watch=lambda now: print(now.step, flush=True))"
    with start(code, out) as process:
        for _ in range(11):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
        assert "train again to go on" in process.stderr.read()
    assert process.returncode in (-signal.SIGINT, 130)
    last = int(said.split()[-1]) if said else 11
    assert Run.of(LONGER).checkpoints()[0].stem == f"step-{last:09d}"
    assert result(train(LONGER)) == whole(LONGER, tmp_path / "other", monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_training_goes_on_later(number, brief):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 11"):
        train(BRIEF, watch=lambda now: os.kill(os.getpid(), number) if now.step == 11 else None)
    assert signal.getsignal(number) == before
    assert Run.of(BRIEF).checkpoints()[0].stem == "step-000000011"
    assert result(train(BRIEF)) == result(brief)


def test_a_run_is_trained_by_one_process_at_a_time(out, brief):
    mine = fit(BRIEF)
    next(mine)
    with pytest.raises(RunBusy):
        next(fit(BRIEF))
    with start(f"train(Experiment(**{BRIEF.to_json()}))", out) as process:
        said = process.stderr.read()
    assert process.returncode == 1
    assert f"RunBusy: run {BRIEF.id} is being trained by process {os.getpid()}" in said
    mine.close()
    assert result(train(BRIEF)) == result(brief)


def test_a_loss_that_is_no_number_ends_training_and_spoils_no_checkpoint():
    # every step multiplies the matrices by 1 - 0.1 * 900: they overflow within 25 steps
    wild = BRIEF.with_(optimizer="adamw", lr=900.0, weight_decay=0.1, schedule="constant", warmup=0)
    for _ in range(2):
        with pytest.raises(TrainingFailed, match="lower lr"):
            train(wild)
        assert not Run.of(wild).finished
    progress = fit(wild)
    with pytest.raises(TrainingFailed):
        list(progress)
    for path in Run.of(wild).checkpoints():
        tensors, _ = fit_module.read_tensors(path)
        assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())


def test_a_file_where_the_output_folder_should_be_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "file"))
    with pytest.raises(ArithlabError, match="ARITHLAB_OUT"):
        train(BRIEF)


def test_a_lock_that_cannot_be_opened_is_told(out):
    (out / "runs" / f"{BRIEF.id}.lock").mkdir(parents=True)
    with pytest.raises(ArithlabError, match="ARITHLAB_OUT"):
        train(BRIEF)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(ArithlabError, match="device"):
        choose_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, and it works")
def test_a_gpu_that_cannot_be_used_is_told_and_the_cpu_taken(brief, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    run = train(BRIEF)
    assert "The GPU cannot be used" in capsys.readouterr().err
    assert run.summary["device"] == "cpu"
    assert result(run) == result(brief)


@pytest.mark.parametrize(
    ("schedule", "middle", "last"), [("linear", 0.5, 0.01), ("cosine", 0.55, 0.1), ("constant", 1, 1)]
)
def test_the_learning_rate_rises_and_falls_as_told(schedule, middle, last):
    trainer = Trainer(BRIEF.with_(schedule=schedule, steps=100, warmup=10), torch.device("cpu"))
    early = [trainer.rate(step) for step in range(10)]
    assert early == sorted(early)
    assert trainer.rate(0) <= 0.1
    assert trainer.rate(50) == pytest.approx(middle, abs=1e-9)
    assert trainer.rate(99) == pytest.approx(last, abs=1e-3)


def test_a_pool_larger_than_its_domain_is_refused():
    with pytest.raises(ArithlabError, match="distinct training pairs"):
        train(BRIEF.with_(train="D_1", pairs=1_000))


@pytest.mark.parametrize("task", ["add mod 3 base 2", "mul base 2", "add base 36", "mul mod 7 base 3"])
def test_a_task_in_any_base_can_be_trained(task):
    assert train(BRIEF.with_(task=task, train="D_2", format="padded 4", steps=2)).finished
