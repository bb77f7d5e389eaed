"""An experiment: everything that decides what a run will be, in one frozen description."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..arithmetic import theory
from ..arithmetic.batches import TrainingBatches
from ..arithmetic.domains import Domain, domain
from ..arithmetic.formats import Format, format_
from ..arithmetic.tasks import Task, task
from ..errors import ArithlabError
from ..model.positions import table_rows
from ..model.transformer import Shape
from .recipe import Check, Recipe


@dataclass(frozen=True, kw_only=True)
class Experiment(Recipe):
    """What to train. Every field has the fast preset's value; `faithful` gives the paper's.

    >>> Experiment(task="add mod 101", positions="rope").id == Experiment(positions="rope", task="add mod 101").id
    True
    """

    PARSERS: ClassVar = {"task": task, "train": domain, "format": format_, **Recipe.PARSERS}
    LOWEST: ClassVar = {**Recipe.LOWEST, "pairs": 1, "context": 1}
    MEASURED: ClassVar = ("digits", "exact_match", "agreement")

    task: str = "add"  # what to compute: `add`, `mul`, `add mod 101`, `mul mod 50 base 7`
    train: str = "D_4"  # training domain: `D_4`, `D_ab4`, `D_4+D_5`, ...
    format: str = "padded 9"  # how examples are written: `padded 9`, `unpadded`, `p1`, `p2 5`, ...
    pairs: int | None = None  # so many distinct training pairs; None = fresh pairs at every step
    context: int | None = None  # longest sequence in tokens; None = what the test lengths need

    def _checks(self) -> Sequence[Check]:
        return [
            *super()._checks(),
            ({"format", "positions"}, self._check_layout),
            ({"task", "train"}, lambda: self.train_domain.check(self.base)),
            ({"task", "train", "format"}, lambda: self.format_.check(self.task_, self.train_domain.digits)),
            ({"train", "format"}, self._check_terms),
            ({"task", "train", "format", "size", "positions", "context"}, self._check_context),
        ]

    def _check_layout(self) -> None:
        """Positions that can only be known once the answer is written are of no use for writing it."""
        chosen, fmt = self.encoding, self.format_
        if chosen.name == "grid" and fmt.name not in ("schoolbook", "sums"):
            raise ArithlabError(
                f"positions {self.positions!r} need columns and rows, which the format {self.format!r} does not have: "
                "use the format 'schoolbook' or 'sums', or other positions."
            )
        if fmt.name == "unpadded" and (chosen.randomized or (chosen.places and fmt.answer == "high")):
            raise ArithlabError(
                f"positions {self.positions!r} need the length of the answer beforehand, and the format "
                f"{self.format!r} leaves it open: use 'aligned' instead."
            )

    def _check_terms(self) -> None:
        if self.train_domain.terms > 2 and self.format_.name != "sums":
            raise ArithlabError(
                f"{self.train!r} has {self.train_domain.terms} operands, which only the format 'sums' writes: use it, "
                "with the task 'add'."
            )

    def _check_context(self) -> None:
        needed = self.needed_context()
        have = self.shape.context or needed
        if self.positions == "learned" and have < needed:
            raise ArithlabError(
                f"a context of {have} tokens is too short: {self.task!r} in the format {self.format!r} needs {needed}."
            )
        self.check_length(self.train_domain.digits, self.train_domain.terms)

    def check_length(self, digits: int, terms: int = 2) -> None:
        """Raise ArithlabError where the model cannot even be shown so many operands of so many digits."""
        self.format_.check(self.task_, digits)
        rows = table_rows(self.encoding, self.shape.context or self.needed_context())
        if rows is None:
            return
        fmt, chosen = self.format_, self.encoding
        if chosen.places:  # rows from that of place -1; `coupled` and `abacus` keep one more for what has no place
            highest = fmt.highest_place(self.task_, digits, terms, signs=chosen.name != "abacus")
            needed = highest + (3 if chosen.kind == "offset" else 2)
        else:
            needed = fmt.length(self.task_, digits, terms) - 1
        if needed > rows:
            given = f"examples in the format {self.format!r}" if fmt.width else f"operands of {digits} digits"
            remedy = "use a format of fewer places" if fmt.width else "ask shorter questions"
            fixed = chosen.name != "learned" or chosen.randomized  # a table of the same size whatever the context
            raise ArithlabError(
                f"{given} need {needed:,} learned positions and this run has {rows:,}: "
                f"{remedy}, or train with {'other positions' if fixed else 'a larger context'}."
            )

    @classmethod
    def faithful(cls, **changes) -> "Experiment":
        """The settings of 2407.17963 (addition): 66 tokens, MiniGPT, AdamW, dropout 0.2, 8 million steps of 64."""
        paper = {
            "format": "p1", "size": "mini", "steps": 8_000_000, "batch": 64, "optimizer": "adamw", "lr": 1e-3,
            "weight_decay": 0.1, "dropout": 0.2, "warmup": 100, "schedule": "cosine",
        }  # fmt: skip
        return cls(**{**paper, **changes})

    @property
    def task_(self) -> Task:
        """The task itself."""
        return task(self.task)

    @property
    def base(self) -> int:
        """The number base."""
        return self.task_.base

    @property
    def train_domain(self) -> Domain:
        """The training domain itself."""
        return domain(self.train)

    @property
    def format_(self) -> Format:
        """The format itself."""
        return format_(self.format)

    @property
    def shape(self) -> Shape:
        """Size and make of the model; a `context` of the experiment replaces the size's own."""
        return replace(super().shape, context=self.context) if self.context else super().shape

    @property
    def predicted(self) -> theory.PredictedFunction:
        """The function that theory says the trained model computes."""
        return theory.predicted_function(self.task_, self.train_domain, self.positions, self.format_)

    @property
    def test_family(self) -> str:
        """The papers' test domains: D_n for plain arithmetic, D_ab for a modulus; D_n[b=1] where all training is so."""
        if all(part.b == 1 for part in self.train_domain.parts):
            return "D[b=1]"
        return "D" if self.task_.modulus is None else "D_ab"

    @property
    def test_lengths(self) -> list[int]:
        """Operand lengths followed during training: 1 to 9 where the format has room for them."""
        return list(range(1, min(self._longest_operand(), 9) + 1))

    def _longest_operand(self) -> int:
        """Digits of the longest operand that the automatic context has room for."""
        return self.format_.width or max(9, self.train_domain.digits)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The symbols that the token ids stand for."""
        return self.format_.vocabulary(self.task_)

    @property
    def sequence(self) -> int:
        """Tokens of the longest training example."""
        return self.format_.length(self.task_, self.train_domain.digits)

    @property
    def title(self) -> str:
        """Task, training domain and positions."""
        return f"{self.task}, {self.train}, {self.positions}"

    def training_batches(self, seed: int) -> TrainingBatches:
        """The encoded training examples of a step: a pure function of (seed, step)."""
        return TrainingBatches(self.task_, self.train_domain, self.format_, self.batch, seed, self.pairs)

    def needed_context(self) -> int:
        """Tokens of the longest example that the model can be shown."""
        return self.format_.length(self.task_, self._longest_operand(), self.train_domain.terms) - 1
