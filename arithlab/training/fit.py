"""Training, from start or from where it stopped, to a finished run.

`fit` is a generator. A script loops over it, a widget drives it in slices; either may stop between any
two steps, and starting again continues exactly where it stopped.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import CannotWrite, CheckpointCorrupt, TrainingFailed
from .evaluate import followed
from .interrupt import interruptible
from .machine import choose_device, conditions, memory_errors_told
from .recipe import Recipe
from .runs import BEST, Run, read_tensors, write_file, write_tensors
from .trainer import Trainer

LOOKS = 20  # looks at the test sets, and checkpoints, per run
State = tuple[dict[str, Tensor], dict]  # tensors and scalars of a checkpoint
_UNSAVED: dict[Path, State] = {}  # checkpoints that found no room on the disk, by run


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


def fit(
    experiment: Recipe, device: str = "auto", seeds: Sequence[int] = (), *, weights: bool = False
) -> Iterator[Progress]:
    """Train, yielding Progress after every step; stop it between any two steps and call it again to go on.

    A finished run yields once and costs nothing. Closing the generator writes a checkpoint. Where the disk
    is full, CannotWrite is raised and the state stays in memory: the next call in this process goes on from it.
    With `seeds` the experiment is trained for all of them together, as one model with a seed axis: for a GPU.
    weights: not satisfied with a run that was recorded with its measurements only.
    """
    wanted = tuple(Run.of(experiment.with_(seed=seed), light=not weights) for seed in seeds or (experiment.seed,))
    runs = [run for run in wanted if not run.finished]
    if not runs:
        yield Progress(experiment.steps, experiment.steps, wanted)
        return
    place = choose_device(device)  # a device that is not there leaves nothing behind
    with ExitStack() as held, memory_errors_told(experiment):
        for run in runs:
            held.enter_context(run.lock())
            write_file(run.path / "config.json", json.dumps(run.experiment.to_json(), indent=1))
        trainer = Trainer(experiment, place, [run.experiment.seed for run in runs])
        looks = [followed(run.experiment) for run in runs]
        start, seconds, unsaved, changed = _resume(runs, trainer)
        here = {**conditions(place), "changed": changed}
        every = max(1, experiment.steps // LOOKS)
        clock = time.perf_counter() - seconds
        try:
            try:
                for step in range(start, experiment.steps):
                    losses, unsaved = trainer.step(step) if unsaved is None else unsaved, None
                    look = (step + 1) % every == 0 or step + 1 == experiment.steps
                    if look or place.type == "cpu":  # elsewhere, reading the loss would wait for the device
                        _check_losses(runs, step + 1, losses)
                    rows = None
                    if look:
                        rows = _look(runs, trainer, looks, step + 1, losses)
                        _save(runs, trainer, step + 1, time.perf_counter() - clock, here)
                    yield Progress(step + 1, experiment.steps, tuple(runs), losses, rows)
            except GeneratorExit:
                _save(runs, trainer, step + 1, time.perf_counter() - clock, here)
                raise
            spent = {"steps": experiment.steps, "seconds": round(time.perf_counter() - clock, 2)}
            spent |= {"seeds_together": len(runs), "precision": trainer.precision}
            for k, run in enumerate(runs):
                size = {"parameters": trainer.models[k].parameter_count()}
                run.finish(trainer.weights(k), {**size, **spent, **here})
        except CannotWrite:
            # one step back: the look and the checkpoint after this step are made again
            kept = {"step": step, "losses": losses.tolist(), "seconds": time.perf_counter() - clock, **here}
            for k, run in enumerate(runs):
                tensors, scalars = trainer.state(k)
                _UNSAVED[run.path] = tensors, {**scalars, **kept}
            raise


def _check_losses(runs: list[Run], step: int, losses: Tensor) -> None:
    for run, loss in zip(runs, losses.tolist(), strict=True):
        if not math.isfinite(loss):
            _add_metrics(run, {"step": step, "loss": None, "rows": []})
            raise TrainingFailed(
                f"the loss is {loss} at step {step}: lower lr or matrix_lr. The last checkpoint in {run.path} is good."
            )


def _look(runs: list[Run], trainer: Trainer, looks: list[Callable], step: int, losses: Tensor) -> list[dict]:
    """Accuracy on the followed test sets, written to each run's metrics.jsonl; the best weights, where asked for."""
    found = []
    for k, (run, model, look, loss) in enumerate(zip(runs, trainer.models, looks, losses.tolist(), strict=True)):
        model.eval()
        rows = look(model)
        model.train()
        _add_metrics(run, {"step": step, "loss": loss, "rows": rows})
        if (best := run.best_step) == step:
            write_tensors(run.path / BEST, trainer.weights(k), {"experiment": run.id, "step": best})
        found += [{"seed": run.experiment.seed, **row} for row in rows]
    return found


def _add_metrics(run: Run, record: dict) -> None:
    """Write a record to metrics.jsonl, in place of damaged lines and of lines about this step and later ones."""
    path, lines = run.path / "metrics.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] < record["step"]:
                lines.append(line)
    write_file(path, "\n".join([*lines, json.dumps(record)]) + "\n")


def _save(runs: list[Run], trainer: Trainer, step: int, seconds: float, here: dict) -> None:
    for k, run in enumerate(runs):
        tensors, scalars = trainer.state(k)
        run.save_checkpoint(step, tensors, {**scalars, "seconds": seconds, **here})


def _resume(runs: list[Run], trainer: Trainer) -> tuple[int, float, Tensor | None, list[dict]]:
    """Load the newest state that is whole and that every run has.

    Returns its step, the seconds spent so far, the losses of that step where its checkpoint could not be written,
    and the conditions under which earlier parts of this run were trained, where they were others.
    """
    several = len(runs) > 1
    found = [{state[1]["step"]: state for state in islice(_states(run), None if several else 1)} for run in runs]
    common = set.intersection(*map(set, found))
    if not common:
        return 0, 0.0, None, []
    states = [of_run[max(common)] for of_run in found]
    trainer.restore([tensors for tensors, _ in states])
    scalars, now = states[0][1], conditions(trainer.device)
    changed = scalars.get("changed", [])
    differ = [f"{k}: then {scalars.get(k)}, now {now[k]}" for k in now if scalars.get(k) != now[k]]
    if differ:
        print(f"Run {runs[0].id} goes on under other conditions ({'; '.join(differ)}): noted in it.", file=sys.stderr)
        changed = [*changed, {"from_step": scalars["step"], **{k: scalars.get(k) for k in now}}]
    losses = torch.tensor(scalars["losses"]) if "losses" in scalars else None
    return scalars["step"], scalars["seconds"], losses, changed


def _states(run: Run) -> Iterator[State]:
    """What training can go on from, newest first: what is held in memory, then the checkpoints that are whole."""
    paths = run.checkpoints()
    tensors, scalars = _UNSAVED.pop(run.path, ({}, {"step": -2}))
    if all(path.stem <= f"step-{scalars['step'] + 1:09d}" for path in paths) and tensors:  # nobody trained it further
        yield tensors, scalars
    mine = run.experiment.to_json()
    for path in paths:
        try:
            tensors, scalars = read_tensors(path)
        except CheckpointCorrupt as error:
            print(f"{error} Going on from the one before it.", file=sys.stderr)
            continue
        theirs = scalars["experiment"]
        if theirs == mine:
            yield tensors, scalars
            continue
        differ = [f"{k} {theirs.get(k)!r}, not {mine[k]!r}" for k in mine if theirs.get(k) != mine[k]]
        print(f"A checkpoint in {run.path} is of another experiment ({'; '.join(differ)}): left out.", file=sys.stderr)


def train(
    experiment: Recipe,
    device: str = "auto",
    watch: Callable[[Progress], None] | None = None,
    *,
    weights: bool = False,
) -> Run:
    """Train under a progress bar and return the run; a finished run is returned at once.

    weights: not satisfied with a run that was recorded with its measurements only.

    Ctrl-C or the Stop button ends the step, writes a checkpoint and raises KeyboardInterrupt;
    calling again goes on from there. `watch` is called with every Progress.
    """
    run = Run.of(experiment, light=not weights)
    if run.finished:
        print(f"{experiment.title}, seed {experiment.seed}: run {run.id} is here already")
        return run
    for now in _shown(experiment, fit(experiment, device, weights=weights), f"seed {experiment.seed}"):
        if watch:
            watch(now)
    return run


def train_seeds(experiment: Recipe, seeds: Sequence[int], device: str = "auto") -> list[Run]:
    """Train an experiment for several seeds, together on a GPU and one after the other on a CPU."""
    if choose_device(device).type == "cpu":
        return [train(experiment.with_(seed=seed), device) for seed in seeds]
    for _ in _shown(experiment, fit(experiment, device, seeds), f"{len(seeds)} seeds"):
        pass
    return [Run.of(experiment.with_(seed=seed)) for seed in seeds]


def _shown(experiment: Recipe, progress: Iterator[Progress], who: str) -> Iterator[Progress]:
    """The same progress under a bar; an interrupt ends the step and closes the training with a checkpoint."""
    quiet = os.environ.get("ARITHLAB_QUIET") == "1"
    label = f"{experiment.title}, {who}"
    bar = tqdm(
        total=experiment.steps, desc=label, unit="step", file=sys.stdout, disable=quiet, mininterval=0.5, ncols=100
    )
    with bar, interruptible() as interrupted, closing(progress):
        for now in progress:
            bar.update(now.step - bar.n)
            if now.rows:
                mean = sum(row["exact_match"] for row in now.rows) / len(now.rows)
                bar.set_postfix_str(f"loss {now.loss:.3f}, exact match {mean:.0%}", refresh=False)
            yield now
            if interrupted:
                raise KeyboardInterrupt(f"stopped at step {now.step}; train again to go on from there")
