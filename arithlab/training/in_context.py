"""In-context experiments (2406.02550): sequences of examples (x, y, z) in place of sums.

The model, the training and the runs are those of every experiment; only what a sequence is made of differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pandas as pd

from ..arithmetic.in_context import InContext, is_prime
from ..arithmetic.tokens import Tokens
from ..errors import ArithlabError, ConfigError, shorten
from ..model.positions import table_rows
from .experiment import Experiment
from .recipe import Check, Recipe


@dataclass(frozen=True, kw_only=True)
class InContextExperiment(Recipe):
    """What to train in context: tasks z = a x + b y mod p, of which (a, b) is never shown. Laptop scale by default.

    >>> InContextExperiment(p=7, tasks=16, alpha=0.8, shots=8).title
    'in context mod 7, 16 tasks, alpha 0.8'
    """

    MEASURED: ClassVar = ("set", "exact_match", "by_shots", "losses")

    p: int = 7  # numbers are 0 to p - 1; there are p^2 tasks and p^2 inputs
    tasks: int = 40  # of pre-training
    alpha: float = 0.8  # share of the inputs that training uses
    shots: int = 12  # examples before the question
    rule: str = "rectangular"  # how the tasks are chosen: rectangular | random
    shared: bool = False  # whether all sequences of a batch have the same inputs (the paper's design)
    positions: str = "rope places"  # the place of a token is its shot
    steps: int = 1_200
    lr: float = 0.01  # with less, new tasks come late or not at all (grids/in_context_search.toml)
    weight_decay: float = 0.4  # times a learning rate of 0.01; with more, new tasks often do not come

    def _checks(self) -> Sequence[Check]:
        made = {"p", "tasks", "alpha", "shots", "rule", "shared"}
        return [(made, lambda: self.made), *super()._checks(), ({*made, "size", "positions"}, self._check_context)]

    def _check_context(self) -> None:
        self.check_shots(self.shots)

    def check_shots(self, shots: int) -> None:
        """Raise ArithlabError where the model has no positions for so many examples and a question."""
        rows = table_rows(self.encoding, self.shape.context or self.needed_context())
        needed = shots + 1 if self.encoding.places else 3 * (shots + 1) - 1
        if rows is not None and needed > rows:
            raise ArithlabError(
                f"{shots} shots need {needed:,} positions and this model has {rows:,}: give fewer examples, or train "
                "with positions that are not learned, such as rope."
            )

    @classmethod
    def faithful(cls, **changes) -> "InContextExperiment":
        """The paper's settings (appendix A): p = 29, 512 wide, AdamW, 200,000 steps of 1,024, shared inputs.

        AdamW's second beta is 0.99 here and 0.98 there. The weight decay of 2 is multiplied by the learning rate.
        """
        paper = {
            "p": 29, "tasks": 256, "alpha": 0.8, "shots": 31, "shared": True, "size": "in-context-4",
            "positions": "rope", "steps": 200_000, "batch": 1_024, "optimizer": "adamw", "lr": 1.5e-4,
            "weight_decay": 2.0, "warmup": 10_000, "schedule": "cosine", "precision": "bfloat16",
        }  # fmt: skip
        return cls(**{**paper, **changes})

    @property
    def made(self) -> InContext:
        """What its sequences are made of."""
        return InContext(
            p=self.p, tasks=self.tasks, alpha=self.alpha, shots=self.shots, rule=self.rule, shared=self.shared
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The numbers below p: each is a token."""
        return tuple(map(str, range(self.p)))

    @property
    def sequence(self) -> int:
        """Tokens of a training sequence."""
        return 3 * (self.shots + 1)

    @property
    def title(self) -> str:
        """Modulus, tasks and share of the inputs."""
        return f"in context mod {self.p}, {self.tasks} tasks, alpha {self.alpha:g}"

    @property
    def notice(self) -> str:
        """What a reader should know of this p before training; empty where it is a prime."""
        if is_prime(self.p):
            return ""
        return f"{self.p} is not a prime: not every ratio can be inverted mod {self.p}, and there are no logarithms."

    def training_batches(self, seed: int) -> Callable[[int], Tokens]:
        """The training sequences of a step: a pure function of (seed, step)."""
        return partial(self.made.batch, seed, count=self.batch)

    def best_step(self, metrics: pd.DataFrame) -> int | None:
        """Where early stopping ends: new tasks are answered best, on known and new inputs, before that may fade."""
        sets = ["ood train", "ood test"] if self.tasks < self.p**2 else ["id test"]
        curve = metrics[metrics.set.isin(sets)].groupby("step").exact_match.mean()
        return int(curve.idxmax()) if len(curve) else None

    def _named(self, changed: dict) -> dict:
        return {"in context": changed, "defaults": 2}  # counts what the defaults have been: ids tell them apart

    def __getattr__(self, name: str):
        if not name.startswith("_") and hasattr(Experiment, name):  # its operands, digits, format
            raise ArithlabError(
                f"this run learned {self.title}: it continues sequences of examples and answers no sums. "
                "Use al.by_shots and what else notebook 07 shows."
            )
        raise AttributeError(name)


def read_experiment(data: dict) -> Recipe:
    """The experiment that a JSON object describes: one with a `p` is in context."""
    if not isinstance(data, dict):
        raise ConfigError(f"an experiment is a JSON object, not {shorten(data)}.")
    return (InContextExperiment if "p" in data else Experiment).from_json(data)
