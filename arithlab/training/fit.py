"""Training: the one place where weights change.

`fit` is a generator. A script loops over it, a widget drives it in slices; either may stop between any
two steps, and starting again continues exactly where it stopped.
"""

import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..errors import CheckpointCorrupt, TrainingFailed
from .evaluate import exact_matches, test_sets
from .experiment import Experiment
from .runs import Run, read_tensors, write_file
from .trainer import Trainer, choose_device

FOLLOWED = 200  # test examples per length during training
LOOKS = 20  # looks at the test sets, and checkpoints, per run


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step.

    losses: mean cross-entropy per supervised token, one per run. rows: accuracies by length of every run at the
    steps that look at the test sets, with the run's seed.
    """

    step: int
    steps: int
    runs: tuple[Run, ...]
    losses: Tensor | None = None
    rows: list[dict] | None = None

    @property
    def run(self) -> Run:
        """The run, or the first of several."""
        return self.runs[0]

    @property
    def loss(self) -> float:
        """Mean cross-entropy per supervised token over all runs, in nats."""
        return float("nan") if self.losses is None else self.losses.mean().item()


def fit(experiment: Experiment, device: str = "auto", seeds: Sequence[int] = ()) -> Iterator[Progress]:
    """Train, yielding Progress after every step; stop it between any two steps and call it again to go on.

    A finished run yields once and costs nothing. Closing the generator writes a checkpoint. With `seeds` the
    experiment is trained for all of them together, as one model with a seed axis: what a GPU is good for.
    """
    wanted = [Run.of(experiment.with_(seed=seed)) for seed in seeds or (experiment.seed,)]
    runs = [run for run in wanted if not run.finished]
    if not runs:
        yield Progress(experiment.steps, experiment.steps, tuple(wanted))
        return
    place = choose_device(device)  # a device that is not there leaves nothing behind
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.lock())
            write_file(run.path / "config.json", json.dumps(run.experiment.to_json(), indent=1))
        trainer = Trainer(experiment, place, [run.experiment.seed for run in runs])
        sets = test_sets(experiment, experiment.test_lengths, FOLLOWED)
        start, seconds = _resume(runs, trainer)
        every = max(1, experiment.steps // LOOKS)
        done, clock = start, time.perf_counter()
        try:
            for step in range(start, experiment.steps):
                losses = trainer.step(step)
                rows = None
                if (step + 1) % every == 0 or step + 1 == experiment.steps:
                    rows = _look(runs, trainer, sets, step + 1, losses)
                    _save(runs, trainer, step + 1, seconds + time.perf_counter() - clock)
                done = step + 1
                yield Progress(done, experiment.steps, tuple(runs), losses, rows)
        except GeneratorExit:
            _save(runs, trainer, done, seconds + time.perf_counter() - clock)
            raise
        for k, run in enumerate(runs):
            run.finish(
                trainer.weights(k),
                {
                    "parameters": trainer.models[k].parameter_count(),
                    "steps": experiment.steps,
                    "seconds": round(seconds + time.perf_counter() - clock, 2),
                    "seeds_together": len(runs),
                    "device": str(trainer.device),
                    "precision": trainer.precision,
                    "threads": torch.get_num_threads(),
                    "versions": {
                        "arithlab": __version__,
                        "torch": torch.__version__,
                        "python": platform.python_version(),
                    },
                },
            )


def _look(runs: list[Run], trainer: Trainer, sets: list, step: int, losses: Tensor) -> list[dict]:
    """Accuracy by length on the followed test sets, written to each run's metrics.jsonl."""
    found = []
    for run, model, loss in zip(runs, trainer.models, losses.tolist(), strict=True):
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {loss} at step {step}: lower lr or matrix_lr. The last checkpoint in {run.path} is good."
            )
        model.eval()
        rows = [
            {
                "digits": digits,
                "exact_match": exact_matches(model, truth).mean(),
                "agreement": exact_matches(model, predicted).mean(),
            }
            for digits, truth, predicted in sets
        ]
        model.train()
        lines = _metric_lines(run, step)
        lines.append(json.dumps({"step": step, "loss": loss, "rows": rows}))
        write_file(run.path / "metrics.jsonl", "\n".join(lines) + "\n")
        found += [{"seed": run.experiment.seed, **row} for row in rows]
    return found


def _metric_lines(run: Run, before: int) -> list[str]:
    """The lines of metrics.jsonl about steps before this one, damaged lines left out."""
    path, lines = run.path / "metrics.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] < before:
                lines.append(line)
    return lines


def _save(runs: list[Run], trainer: Trainer, step: int, seconds: float) -> None:
    for k, run in enumerate(runs):
        tensors, scalars = trainer.state(k)
        run.save_checkpoint(step, tensors, {**scalars, "seconds": seconds})


def _resume(runs: list[Run], trainer: Trainer) -> tuple[int, float]:
    """Load the newest step of which every run has a whole checkpoint; returns it and the seconds spent so far."""
    whole: list[dict[int, tuple]] = []
    for run in runs:
        whole.append({})
        for path in run.checkpoints():
            try:
                tensors, scalars = read_tensors(path)
            except CheckpointCorrupt as error:
                print(f"{error} Going on from the one before it.", file=sys.stderr)
                continue
            if scalars["experiment"] == run.experiment.to_json():
                whole[-1][scalars["step"]] = tensors, scalars
    common = set.intersection(*map(set, whole))
    if not common:
        return 0, 0.0
    states = [steps[max(common)] for steps in whole]
    trainer.restore([tensors for tensors, _ in states])
    return max(common), states[0][1]["seconds"]


def train(experiment: Experiment, device: str = "auto", watch: Callable[[Progress], None] | None = None) -> Run:
    """Train under a progress bar and return the run; a finished run is returned at once.

    Ctrl-C or the Stop button ends the step, writes a checkpoint and raises KeyboardInterrupt;
    calling again goes on from there. `watch` is called with every Progress.
    """
    run = Run.of(experiment)
    if run.finished:
        print(f"{experiment.task}, {experiment.positions}, seed {experiment.seed}: run {run.id} is here already")
        return run
    for now in _shown(experiment, fit(experiment, device), f"seed {experiment.seed}"):
        if watch:
            watch(now)
    return run


def _shown(experiment: Experiment, progress: Iterator[Progress], who: str) -> Iterator[Progress]:
    """The same progress under a bar; an interrupt ends the step and closes the training with a checkpoint."""
    quiet = os.environ.get("ARITHLAB_QUIET") == "1"
    label = f"{experiment.task}, {experiment.positions}, {who}"
    bar = tqdm(
        total=experiment.steps, desc=label, unit="step", file=sys.stdout, disable=quiet, mininterval=0.5, ncols=100
    )
    with bar, _interruptible() as interrupted:
        for now in progress:
            bar.update(now.step - bar.n)
            if now.rows:
                mean = sum(row["exact_match"] for row in now.rows) / len(now.rows)
                bar.set_postfix_str(f"loss {now.loss:.3f}, exact match {mean:.0%}", refresh=False)
            yield now
            if interrupted:
                progress.close()
                raise KeyboardInterrupt(f"stopped at step {now.step}; train again to go on from there")


def train_seeds(experiment: Experiment, seeds: Sequence[int], device: str = "auto") -> list[Run]:
    """Train an experiment for several seeds, together on a GPU and one after the other on a CPU."""
    if choose_device(device).type == "cpu":
        return [train(experiment.with_(seed=seed), device) for seed in seeds]
    for _ in _shown(experiment, fit(experiment, device, seeds), f"{len(seeds)} seeds"):
        pass
    return [Run.of(experiment.with_(seed=seed)) for seed in seeds]


@contextmanager
def _interruptible() -> Iterator[list]:
    """Turns the first SIGINT or SIGTERM into a list entry, so that a step can end first; the second acts at once."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = {}

    def note(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
