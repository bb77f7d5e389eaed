"""An experiment: everything that decides what a run will be, in one frozen description."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace

from ..arithmetic import theory
from ..arithmetic.domains import Domain, domain
from ..arithmetic.encodings import CODE, Encoding, encoding
from ..arithmetic.formats import Format, format_
from ..arithmetic.tasks import Task, task
from ..errors import ArithlabError, ConfigError, UnknownName, shorten
from ..model.positions import table_rows
from ..model.transformer import Shape, Transformer, check_rope, shape_of

OPTIMIZERS = ("muon", "adamw")
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to train. Every field has the fast preset's value; `faithful` gives the paper's.

    >>> Experiment(task="add mod 101", positions="rope").id == Experiment(positions="rope", task="add mod 101").id
    True
    """

    task: str = "add"  # what to compute: `add`, `mul`, `add mod 101`, `mul mod 50 base 7`
    train: str = "D_4"  # training domain: `D_4`, `D_ab4`, `D_4+D_5`, ...
    format: str = "padded 9"  # how examples are written: `padded 9`, `unpadded`, `p1`, `p2 5`, ...
    size: str = "tiny"  # a name from SIZES, or layers-heads-width
    positions: str = "learned"  # `learned`, `rope`, `clipped places window 1`, ...: see arithmetic.encodings
    steps: int = 600  # optimiser steps
    batch: int = 256  # examples per step
    optimizer: str = "muon"  # muon: Muon for the blocks' matrices, AdamW for the rest | adamw
    lr: float = 3e-3  # peak learning rate of AdamW
    matrix_lr: float = 0.02  # peak learning rate of Muon
    weight_decay: float = 0.5  # decoupled, on matrices and embeddings
    dropout: float = 0.0  # on embeddings, attention and both outputs of a block
    warmup: int = 50  # steps of linear rise
    schedule: str = "linear"  # fall after the warm-up: linear (to 0) | cosine (to a tenth) | constant
    precision: str = "float32"  # of the products: float32 | bfloat16 (weights and optimiser stay float32)
    pairs: int | None = None  # so many distinct training pairs; None = fresh pairs at every step
    context: int | None = None  # longest sequence in tokens; None = what the test lengths need
    seed: int = 0  # of initialisation, batches and dropout

    def __post_init__(self):
        problems = [str(problem) for problem in self._problems()]
        if problems:
            raise ConfigError(" ".join(problems))

    def _problems(self):
        """Yields every reason why this experiment cannot run; text fields get their canonical form here."""
        wrong: set[str] = set()  # fields already complained about: nothing that needs them is asked
        parsers = {"task": task, "train": domain, "format": format_, "positions": encoding}
        for f in fields(self):
            value, kind = getattr(self, f.name), f.type
            try:
                if f.name in parsers:
                    object.__setattr__(self, f.name, str(parsers[f.name](value)))
                elif isinstance(value, bool) or not isinstance(value, (float, int) if kind is float else kind):
                    raise ArithlabError(f"{f.name} {shorten(value)}: allowed is {getattr(kind, '__name__', kind)}.")
                elif kind is float and abs(value) < 2**63:
                    object.__setattr__(self, f.name, float(value) + 0.0)  # -0.0 becomes 0.0
            except ArithlabError as error:
                wrong.add(f.name)
                yield error
        lowest = {"steps": 1, "batch": 1, "pairs": 1, "context": 1, "seed": 0, "warmup": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if name not in wrong and value is not None and not low <= value < 2**63:
                wrong.add(name)
                yield f"{name} {shorten(value)}: allowed are whole numbers from {low}."
        for name in ("lr", "matrix_lr", "weight_decay"):
            if name not in wrong and not 0 <= getattr(self, name) < 1e3:
                yield f"{name} {shorten(getattr(self, name))}: allowed are numbers from 0, usually far below 1."
        if "dropout" not in wrong and not 0 <= self.dropout < 1:
            yield f"dropout {shorten(self.dropout)}: allowed are numbers from 0 to below 1."
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if name not in wrong and getattr(self, name) not in known:
                yield UnknownName(name, getattr(self, name), known)
        for needs, check in (
            ({"size"}, lambda: self.shape),
            ({"size", "positions"}, lambda: check_rope(self.shape, self.positions)),
            ({"format", "positions"}, self._check_layout),
            ({"task", "train"}, lambda: self.train_domain.check(self.base)),
            ({"task", "train", "format"}, lambda: self.format_.check(self.task_, self.train_domain.digits)),
            ({"train", "format"}, self._check_terms),
            ({"task", "train", "format", "size", "positions", "context"}, self._check_context),
        ):
            if not wrong & needs:
                try:
                    check()
                except ArithlabError as error:
                    wrong |= needs
                    yield error

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
        needed = self._needed_context()
        have = self.shape.context or needed
        if self.positions == "learned" and have < needed:
            raise ArithlabError(
                f"a context of {have} tokens is too short: {self.task!r} in the format {self.format!r} needs {needed}."
            )
        self.check_length(self.train_domain.digits, self.train_domain.terms)

    def check_length(self, digits: int, terms: int = 2) -> None:
        """Raise ArithlabError where the model cannot even be shown so many operands of so many digits."""
        self.format_.check(self.task_, digits)
        rows = table_rows(self.encoding, self.shape.context or self._needed_context())
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

    def with_(self, /, **changes) -> "Experiment":
        """The same experiment with some fields changed."""
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            raise UnknownName("experiment field", unknown[0], [f.name for f in fields(self)])
        return replace(self, **changes)

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
    def encoding(self) -> Encoding:
        """The positional encoding itself."""
        return encoding(self.positions)

    @property
    def shape(self) -> Shape:
        """Size and make of the model; a `context` of the experiment replaces the size's own."""
        shape = shape_of(self.size)
        return replace(shape, context=self.context) if self.context else shape

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

    def _needed_context(self) -> int:
        return self.format_.length(self.task_, self._longest_operand(), self.train_domain.terms) - 1

    def model(self) -> Transformer:
        """A freshly initialised model (the caller seeds torch)."""
        vocabulary = self.format_.vocabulary(self.task_)
        return Transformer(self.shape, len(vocabulary), self._needed_context(), self.positions, self.dropout)

    @property
    def id(self) -> str:
        """The run id: a hash of every field that differs from its default, so that new fields change no id.

        The code of an encoding that the reader added (`new_encoding`) counts as well.
        """
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.encoding.name in CODE:
            changed["code"] = CODE[self.encoding.name]
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "Experiment":
        """The inverse of `to_json`."""
        if not isinstance(data, dict):
            raise ConfigError(f"an experiment is a JSON object, not {shorten(data)}.")
        return cls().with_(**data)
