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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..arithmetic import batches
from ..arithmetic.formats import Tokens
from ..errors import ArithlabError, CheckpointCorrupt, TrainingFailed
from ..model.positions import Layout
from .evaluate import exact_matches, test_sets
from .experiment import Experiment
from .runs import Run, read_tensors, write_file

FOLLOWED = 200  # test examples per length during training
DROPOUT = 3  # random stream of a seed, beside those of batches: dropout, then random positions
LOOKS = 20  # looks at the test sets, and checkpoints, per run


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


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArithlabError(
            f"device {device!r} cannot be used here: choose 'auto', 'cpu', or 'cuda' where there is a GPU."
        ) from error


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
        if self.model.draws:  # a function of (seed, step) as the batch is, whoever else draws random numbers
            torch.manual_seed(int(batches.stream(e.seed, DROPOUT, step).integers(2**63)))
        a, b = batches.train_pairs(self.domain, e.base, e.batch, e.seed, step, self.pool, self.format.by_length)
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
        logits = self.model(ids[:, :-1], tail=tokens.tail, layout=Layout.of(tokens, self.device))
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

    A finished run yields once and costs nothing. Closing the generator writes a checkpoint.
    """
    run = Run.of(experiment)
    if run.finished:
        yield Progress(experiment.steps, experiment.steps, run)
        return
    place = choose_device(device)  # a device that is not there leaves nothing behind
    with run.lock():
        write_file(run.path / "config.json", json.dumps(experiment.to_json(), indent=1))
        trainer = Trainer(experiment, place)
        sets = test_sets(experiment, experiment.test_lengths, FOLLOWED)
        start, seconds = _resume(run, trainer)
        every = max(1, experiment.steps // LOOKS)
        done, clock = start, time.perf_counter()
        try:
            for step in range(start, experiment.steps):
                loss = trainer.step(step)
                rows = None
                if (step + 1) % every == 0 or step + 1 == experiment.steps:
                    rows = _look(run, trainer, sets, step + 1, loss)
                    _save(run, trainer, step + 1, seconds + time.perf_counter() - clock)
                done = step + 1
                yield Progress(done, experiment.steps, run, loss, rows)
        except GeneratorExit:
            _save(run, trainer, done, seconds + time.perf_counter() - clock)
            raise
        run.finish(
            trainer.weights(),
            {
                "parameters": trainer.model.parameter_count(),
                "steps": experiment.steps,
                "seconds": round(seconds + time.perf_counter() - clock, 2),
                "device": str(trainer.device),
                "threads": torch.get_num_threads(),
                "versions": {"arithlab": __version__, "torch": torch.__version__, "python": platform.python_version()},
            },
        )


def _look(run: Run, trainer: Trainer, sets: list, step: int, loss: Tensor) -> list[dict]:
    """Accuracy by length on the followed test sets, written to metrics.jsonl."""
    if not torch.isfinite(loss):
        raise TrainingFailed(
            f"the loss is {loss.item()} at step {step}: lower lr or matrix_lr. "
            f"The last checkpoint in {run.path} is good."
        )
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
    lines = _metric_lines(run, step)
    lines.append(json.dumps({"step": step, "loss": loss.item(), "rows": rows}))
    write_file(run.path / "metrics.jsonl", "\n".join(lines) + "\n")
    return rows


def _metric_lines(run: Run, before: int) -> list[str]:
    """The lines of metrics.jsonl about steps before this one, damaged lines left out."""
    path, lines = run.path / "metrics.jsonl", []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] < before:
                lines.append(line)
    return lines


def _save(run: Run, trainer: Trainer, step: int, seconds: float) -> None:
    tensors, scalars = trainer.state()
    run.save_checkpoint(step, tensors, {**scalars, "seconds": seconds})


def _resume(run: Run, trainer: Trainer) -> tuple[int, float]:
    """Load the newest checkpoint that is whole; returns its step and the seconds spent so far."""
    for path in run.checkpoints():
        try:
            tensors, scalars = read_tensors(path)
        except CheckpointCorrupt as error:
            print(f"{error} Going on from the one before it.", file=sys.stderr)
            continue
        if scalars["experiment"] == run.experiment.to_json():
            trainer.restore(tensors)
            return scalars["step"], scalars["seconds"]
    return 0, 0.0


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
    progress = fit(experiment, device)
    with bar, _interruptible() as interrupted:
        for now in progress:
            bar.update(now.step - bar.n)
            if now.rows:
                mean = sum(row["exact_match"] for row in now.rows) / len(now.rows)
                bar.set_postfix_str(f"loss {now.loss:.3f}, exact match {mean:.0%}", refresh=False)
            if watch:
                watch(now)
            if interrupted:
                progress.close()
                raise KeyboardInterrupt(f"stopped at step {now.step}; train again to go on from there")
    return run


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
