"""Training: the one place where weights change.

`fit` is a generator. A script loops over it, a widget drives it in slices; either may stop between any
two steps, and starting again continues exactly where it stopped.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..arithmetic import batches
from ..arithmetic.formats import Tokens
from ..errors import CannotWrite, CheckpointCorrupt, TrainingFailed
from .evaluate import exact_matches, test_sets
from .experiment import Experiment
from .interrupt import interruptible
from .machine import choose_device, conditions, memory_errors_told
from .runs import Run, read_tensors, write_file

FOLLOWED = 200  # test examples per length during training
DROPOUT = 3  # random stream of a seed, beside those of batches
LOOKS = 20  # looks at the test sets, and checkpoints, per run
_UNSAVED: dict[Path, tuple[dict[str, Tensor], dict]] = {}  # checkpoints that found no room on the disk, by run


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step. rows: accuracies by length at the steps that look at the test sets."""

    step: int
    steps: int
    run: Run
    loss_tensor: Tensor | None = None
    rows: list[dict] | None = None

    @property
    def loss(self) -> float:
        """Mean cross-entropy per supervised token, in nats."""
        return float("nan") if self.loss_tensor is None else self.loss_tensor.item()


class Trainer:
    """Model, optimisers and the step that changes them."""

    def __init__(self, experiment: Experiment, device: torch.device):
        self.experiment, self.device = experiment, device
        e = experiment
        torch.manual_seed(e.seed)
        self.model = e.model().to(device).train()
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2 and e.optimizer == "muon"]
        rest = [p for _, p in named if not any(p is m for m in matrices)]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": e.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizers = [torch.optim.AdamW(groups, lr=e.lr, betas=(0.9, 0.99), fused=True)]
        if matrices:
            self.optimizers.append(
                torch.optim.Muon(matrices, lr=e.matrix_lr, momentum=0.95, weight_decay=e.weight_decay)
            )
        self.peaks = [e.lr, e.matrix_lr]
        self.pool = None if e.pairs is None else batches.train_pool(e.train_domain, e.base, e.pairs, e.seed)
        self.task, self.domain, self.format = e.task_, e.train_domain, e.format_

    def rate(self, step: int) -> float:
        """The learning rate of a step as a fraction of its peak."""
        e = self.experiment
        rise = min(1.0, (step + 1) / max(1, e.warmup))
        left = 1 - step / e.steps
        if e.schedule == "cosine":
            return rise * (0.1 + 0.45 * (1 + math.cos(math.pi * (1 - left))))
        return rise * left if e.schedule == "linear" else rise

    def step(self, step: int) -> Tensor:
        """One optimiser step on the batch of this step number; returns the loss."""
        e = self.experiment
        if e.dropout:  # a function of (seed, step) as the batch is, whoever else draws random numbers between two steps
            torch.manual_seed(int(batches.stream(e.seed, DROPOUT, step).integers(2**63)))
        a, b = batches.train_pairs(self.domain, e.base, e.batch, e.seed, step, self.pool)
        loss = self.loss(self.format.encode(self.task, a, b))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * self.rate(step)
            optimizer.step()
        return loss.detach()

    def loss(self, tokens: Tokens) -> Tensor:
        """Mean cross-entropy over the supervised tokens."""
        ids = torch.from_numpy(tokens.ids).to(self.device, torch.long)
        logits = self.model(ids[:, :-1], tail=tokens.tail)
        targets = ids[:, -tokens.tail :]
        if not tokens.supervised[:, -tokens.tail :].all():
            supervised = torch.from_numpy(tokens.supervised[:, -tokens.tail :]).to(self.device)
            targets = targets.masked_fill(~supervised, -100)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that the next step depends on: tensors and scalars."""
        tensors = {f"model.{k}": v for k, v in self.weights().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{k}": torch.as_tensor(v) for k, v in values.items()}
        return tensors, {"experiment": self.experiment.to_json()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(weights, strict=not self.experiment.shape.tied)
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{i}."):
                    _, _, j, key = name.split(".", 3)
                    state.setdefault(int(j), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors; a tied output matrix is kept once."""
        state = self.model.state_dict()
        if self.experiment.shape.tied:
            del state["head.weight"]
        return state


def fit(experiment: Experiment, device: str = "auto") -> Iterator[Progress]:
    """Train, yielding Progress after every step; stop it between any two steps and call it again to go on.

    A finished run yields once and costs nothing. Closing the generator writes a checkpoint. Where the disk
    is full, CannotWrite is raised and the state stays in memory: the next call in this process goes on from it.
    """
    run = Run.of(experiment)
    if run.finished:
        yield Progress(experiment.steps, experiment.steps, run)
        return
    place = choose_device(device)  # a device that is not there leaves nothing behind
    with run.lock(), memory_errors_told(experiment):
        write_file(run.path / "config.json", json.dumps(experiment.to_json(), indent=1))
        trainer = Trainer(experiment, place)
        sets = test_sets(experiment, experiment.test_lengths, FOLLOWED)
        start, seconds, unsaved, changed = _resume(run, trainer)
        here = {**conditions(place), "changed": changed}
        every = max(1, experiment.steps // LOOKS)
        clock = time.perf_counter() - seconds
        try:
            try:
                for step in range(start, experiment.steps):
                    loss, unsaved = trainer.step(step) if unsaved is None else unsaved, None
                    look = (step + 1) % every == 0 or step + 1 == experiment.steps
                    if look or place.type == "cpu":  # elsewhere, reading the loss would wait for the device
                        _check_loss(run, step + 1, loss)
                    rows = None
                    if look:
                        rows = _look(run, trainer, sets, step + 1, loss)
                        _save(run, trainer, step + 1, time.perf_counter() - clock, here)
                    yield Progress(step + 1, experiment.steps, run, loss, rows)
            except GeneratorExit:
                _save(run, trainer, step + 1, time.perf_counter() - clock, here)
                raise
            spent = {"steps": experiment.steps, "seconds": round(time.perf_counter() - clock, 2)}
            run.finish(trainer.weights(), {"parameters": trainer.model.parameter_count(), **spent, **here})
        except CannotWrite:
            tensors, scalars = trainer.state()
            # one step back: the look and the checkpoint after this step are made again
            kept = {"step": step, "loss": loss.item(), "seconds": time.perf_counter() - clock, **here}
            _UNSAVED[run.path] = tensors, {**scalars, **kept}
            raise


def _check_loss(run: Run, step: int, loss: Tensor) -> None:
    if not torch.isfinite(loss):
        _add_metrics(run, {"step": step, "loss": None, "rows": []})
        raise TrainingFailed(
            f"the loss is {loss.item()} at step {step}: lower lr or matrix_lr. "
            f"The last checkpoint in {run.path} is good."
        )


def _look(run: Run, trainer: Trainer, sets: list, step: int, loss: Tensor) -> list[dict]:
    """Accuracy by length on the followed test sets, written to metrics.jsonl."""
    trainer.model.eval()
    rows = [
        {
            "digits": digits,
            "exact_match": exact_matches(trainer.model, truth).mean(),
            "agreement": exact_matches(trainer.model, predicted).mean(),
        }
        for digits, truth, predicted in sets
    ]
    trainer.model.train()
    _add_metrics(run, {"step": step, "loss": loss.item(), "rows": rows})
    return rows


def _add_metrics(run: Run, record: dict) -> None:
    """Write a record to metrics.jsonl, in place of damaged lines and of lines about this step and later ones."""
    path, lines = run.path / "metrics.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] < record["step"]:
                lines.append(line)
    write_file(path, "\n".join([*lines, json.dumps(record)]) + "\n")


def _save(run: Run, trainer: Trainer, step: int, seconds: float, here: dict) -> None:
    tensors, scalars = trainer.state()
    run.save_checkpoint(step, tensors, {**scalars, "seconds": seconds, **here})


def _resume(run: Run, trainer: Trainer) -> tuple[int, float, Tensor | None, list[dict]]:
    """Load the newest state that is whole, from memory or from the disk.

    Returns its step, the seconds spent so far, the loss of that step where its checkpoint could not be written,
    and the conditions under which earlier parts of this run were trained, where they were others.
    """
    for tensors, scalars in _states(run):
        if scalars["experiment"] != run.experiment.to_json():
            theirs, mine = scalars["experiment"], run.experiment.to_json()
            differ = [f"{k} {theirs.get(k)!r}, not {mine[k]!r}" for k in mine if theirs.get(k) != mine[k]]
            print(
                f"A checkpoint in {run.path} is of another experiment ({'; '.join(differ)}): left out.", file=sys.stderr
            )
            continue
        trainer.restore(tensors)
        changed, now = scalars.get("changed", []), conditions(trainer.device)
        differ = [f"{k}: then {scalars.get(k)}, now {now[k]}" for k in now if scalars.get(k) != now[k]]
        if differ:
            print(f"Run {run.id} goes on under other conditions ({'; '.join(differ)}): noted in it.", file=sys.stderr)
            changed = [*changed, {"from_step": scalars["step"], **{k: scalars.get(k) for k in now}}]
        loss = torch.tensor(scalars["loss"]) if "loss" in scalars else None
        return scalars["step"], scalars["seconds"], loss, changed
    return 0, 0.0, None, []


def _states(run: Run) -> Iterator[tuple[dict[str, Tensor], dict]]:
    """What training can go on from, newest first: what is held in memory, then the checkpoints that are whole."""
    paths = run.checkpoints()
    tensors, scalars = _UNSAVED.pop(run.path, ({}, {"step": -2}))
    if all(path.stem <= f"step-{scalars['step'] + 1:09d}" for path in paths) and tensors:  # nobody trained it further
        yield tensors, scalars
    for path in paths:
        try:
            yield read_tensors(path)
        except CheckpointCorrupt as error:
            print(f"{error} Going on from the one before it.", file=sys.stderr)


def train(experiment: Experiment, device: str = "auto", watch: Callable[[Progress], None] | None = None) -> Run:
    """Train under a progress bar and return the run; a finished run is returned at once.

    Ctrl-C or the Stop button ends the step, writes a checkpoint and raises KeyboardInterrupt;
    calling again goes on from there. `watch` is called with every Progress.
    """
    run = Run.of(experiment)
    label = f"{experiment.task}, {experiment.positions}, seed {experiment.seed}"
    if run.finished:
        print(f"{label}: run {run.id} is here already")
        return run
    quiet = os.environ.get("ARITHLAB_QUIET") == "1"
    bar = tqdm(
        total=experiment.steps, desc=label, unit="step", file=sys.stdout, disable=quiet, mininterval=0.5, ncols=100
    )
    with bar, interruptible() as interrupted, closing(fit(experiment, device)) as progress:
        for now in progress:
            bar.update(now.step - bar.n)
            if now.rows:
                mean = sum(row["exact_match"] for row in now.rows) / len(now.rows)
                bar.set_postfix_str(f"loss {now.loss:.3f}, exact match {mean:.0%}", refresh=False)
            if watch:
                watch(now)
            if interrupted:
                raise KeyboardInterrupt(f"stopped at step {now.step}; train again to go on from there")
    return run
