"""A recipe: how a model is made and trained, whatever it learns."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar

import pandas as pd

from ..arithmetic.encodings import CODE, Encoding, encoding
from ..errors import ArithlabError, ConfigError, UnknownName, shorten
from ..model.transformer import Shape, Transformer, check_rope, shape_of

OPTIMIZERS = ("muon", "adamw")
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
Check = tuple[set[str], Callable[[], object]]  # fields that must be sound, and what raises if they do not fit


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Model, positions, optimiser, budget and seed. Subclasses say what is learned: Experiment, InContextExperiment.

    They have vocabulary (what the token ids stand for), sequence (tokens of the longest training sequence), title (what
    is learned, with which positions, in a few words) and training_batches(seed), a pure function of (seed, step).
    """

    PARSERS: ClassVar[dict[str, Callable]] = {"positions": encoding}  # of the fields that are text with a grammar
    LOWEST: ClassVar[dict[str, int]] = {"steps": 1, "batch": 1, "seed": 0, "warmup": 0}
    MEASURED: ClassVar[tuple[str, ...]]  # what is measured of each test set during training

    size: str = "tiny"  # a name from SIZES, or layers-heads-width
    positions: str = "learned"  # `learned`, `rope`, `clipped places window 1`, ...: see arithmetic.encodings
    steps: int = 600  # optimiser steps
    batch: int = 256  # examples per step
    optimizer: str = "muon"  # muon: Muon for the blocks' matrices, AdamW for the rest | adamw
    lr: float = 3e-3  # peak learning rate of AdamW
    matrix_lr: float = 0.02  # peak learning rate of Muon
    weight_decay: float = 0.5  # decoupled, on matrices and embeddings
    dropout: float = 0.0  # on embeddings, attention and both outputs of a block
    sink: float = 0.0  # added to the denominator of every attention softmax: what a head must outweigh to read
    warmup: int = 50  # steps of linear rise
    schedule: str = "linear"  # fall after the warm-up: linear (to 0) | cosine (to a tenth) | constant
    precision: str = "float32"  # of the products: float32 | bfloat16 (weights and optimiser stay float32)
    seed: int = 0  # of initialisation, batches and dropout

    def __post_init__(self):
        problems = [str(problem) for problem in self._problems()]
        if problems:
            raise ConfigError(" ".join(problems))

    def _problems(self) -> Iterator[ArithlabError | str]:
        """Yields every reason why this cannot run; text fields get their canonical form here."""
        wrong: set[str] = set()  # fields already complained about: nothing that needs them is asked
        for f in fields(self):
            value, kind = getattr(self, f.name), f.type
            try:
                if f.name in self.PARSERS:
                    object.__setattr__(self, f.name, str(self.PARSERS[f.name](value)))
                elif isinstance(value, bool) is not (kind is bool) or not isinstance(
                    value, (float, int) if kind is float else kind
                ):
                    raise ArithlabError(f"{f.name} {shorten(value)}: allowed is {getattr(kind, '__name__', kind)}.")
                elif kind is float and abs(value) < 2**63:
                    object.__setattr__(self, f.name, float(value) + 0.0)  # -0.0 becomes 0.0
            except ArithlabError as error:
                wrong.add(f.name)
                yield error
        for name, low in self.LOWEST.items():
            value = getattr(self, name)
            if name not in wrong and value is not None and not low <= value < 2**63:
                wrong.add(name)
                yield f"{name} {shorten(value)}: allowed are whole numbers from {low}."
        for name in ("lr", "matrix_lr", "weight_decay"):
            if name not in wrong and not 0 <= getattr(self, name) < 1e3:
                yield f"{name} {shorten(getattr(self, name))}: allowed are numbers from 0, usually far below 1."
        if "sink" not in wrong and not 0 <= self.sink < 1e6:
            yield f"sink {shorten(self.sink)}: allowed are numbers from 0 (none) to below a million, such as 100."
        if "dropout" not in wrong and not 0 <= self.dropout < 1:
            yield f"dropout {shorten(self.dropout)}: allowed are numbers from 0 to below 1."
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if name not in wrong and getattr(self, name) not in known:
                yield UnknownName(name, getattr(self, name), known)
        for needs, check in self._checks():
            if not wrong & needs:
                try:
                    check()
                except ArithlabError as error:
                    wrong |= needs
                    yield error

    def _checks(self) -> Sequence[Check]:
        """What must hold between fields."""
        return [
            ({"size"}, lambda: self.shape),
            ({"size", "positions"}, lambda: check_rope(self.shape, self.positions)),
        ]

    def with_(self, /, **changes):
        """The same experiment with some fields changed."""
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            raise UnknownName("experiment field", unknown[0], [f.name for f in fields(self)])
        return replace(self, **changes)

    @property
    def encoding(self) -> Encoding:
        """The positional encoding itself."""
        return encoding(self.positions)

    @property
    def shape(self) -> Shape:
        """Size and make of the model."""
        return replace(shape_of(self.size), sink=self.sink)

    def best_step(self, metrics: pd.DataFrame) -> int | None:
        """The step whose weights are kept beside the last ones, going by the training curve; None = no such step."""
        return None

    def needed_context(self) -> int:
        """Tokens that a table of learned positions must have room for."""
        return self.sequence - 1

    def model(self) -> Transformer:
        """A freshly initialised model (the caller seeds torch)."""
        return Transformer(self.shape, len(self.vocabulary), self.needed_context(), self.positions, self.dropout)

    @property
    def id(self) -> str:
        """The run id: a hash of every field that differs from its default, so that new fields change no id.

        The code of an encoding that the reader added (`new_encoding`) counts as well.
        """
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.encoding.name in CODE:
            changed["code"] = CODE[self.encoding.name]
        return hashlib.sha256(json.dumps(self._named(changed), sort_keys=True).encode()).hexdigest()[:12]

    def _named(self, changed: dict) -> dict:
        """The changed fields, with what tells one kind of experiment from another."""
        return changed

    def to_json(self) -> dict:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict):
        """The inverse of `to_json`."""
        if not isinstance(data, dict):
            raise ConfigError(f"an experiment is a JSON object, not {shorten(data)}.")
        return cls().with_(**data)
