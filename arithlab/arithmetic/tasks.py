"""Tasks: functions of two numbers in a number base, exact at any length."""

import re
from dataclasses import dataclass

import numpy as np

from ..errors import ArithlabError, UnknownName, shorten
from . import digits as dg

OPERATIONS = {"add": "+", "mul": "*"}
MAX_MODULUS_DIGITS = 1_000
_TEXT = re.compile(r"(\S+)(?: mod (-?[0-9]+))?(?: base (-?[0-9]+))?")


@dataclass(frozen=True)
class Task:
    """A function of two numbers: addition or multiplication, plain or modulo `modulus`, in `base`.

    >>> Task("add", modulus=101, base=7).compute(100, 5)
    4
    >>> str(Task("mul"))
    'mul'
    """

    operation: str
    modulus: int | None = None
    base: int = 10

    def __post_init__(self):
        if self.operation not in tuple(OPERATIONS):  # a tuple takes what cannot be hashed
            raise UnknownName("operation", self.operation, OPERATIONS)
        if not _is_int(self.base) or not 2 <= self.base <= 36:
            raise ArithlabError(f"base {shorten(self.base)}: allowed are whole numbers from 2 to 36.")
        if self.modulus is not None:
            if not _is_int(self.modulus) or self.modulus < 2:
                raise ArithlabError(
                    f"modulus {shorten(self.modulus)}: allowed are whole numbers from 2 "
                    "(leave the modulus out for plain arithmetic)."
                )
            if self.modulus >= 10**MAX_MODULUS_DIGITS:
                raise ArithlabError(f"a modulus above {MAX_MODULUS_DIGITS:,} digits: use a smaller one.")

    def __str__(self) -> str:
        mod = "" if self.modulus is None else f" mod {self.modulus}"
        base = "" if self.base == 10 else f" base {self.base}"
        return self.operation + mod + base

    @property
    def symbol(self) -> str:
        """The sign between the operands: `+` or `*`."""
        return OPERATIONS[self.operation]

    def compute(self, a: int, b: int) -> int:
        """The exact answer for Python integers of any size.

        >>> Task("mul", modulus=50).compute(12, 13)
        6
        """
        for operand in (a, b):
            if not isinstance(operand, (int, np.integer)) or isinstance(operand, bool) or operand < 0:
                raise ArithlabError(f"operand {shorten(operand)}: allowed are whole numbers from 0.")
        a, b = int(a), int(b)
        exact = a + b if self.operation == "add" else a * b
        return exact if self.modulus is None else exact % self.modulus

    def answer_width(self, operand_width: int) -> int:
        """Places that the answer needs for operands of `operand_width` places.

        >>> Task("add").answer_width(9), Task("mul").answer_width(9), Task("add", 101).answer_width(9)
        (10, 18, 3)
        """
        if self.modulus is not None:
            return dg.from_ints([self.modulus - 1], self.base).shape[1]
        return operand_width + 1 if self.operation == "add" else 2 * operand_width

    def compute_digits(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The exact answers for digit arrays (N, W): shape (N, answer_width(W)).

        A plain sum may have more terms: b of shape (N, W, K) holds K numbers a row.

        >>> Task("add").compute_digits(np.array([[9, 4, 3]]), np.array([[5, 0, 7]])).tolist()
        [[4, 5, 0, 1]]
        """
        if b.ndim > 2:
            return self._sum(a, b)
        if self.modulus is None:
            exact = dg.add if self.operation == "add" else dg.multiply
            return exact(a, b, self.base)
        ra = dg.remainder(a, self.modulus, self.base)
        rb = dg.remainder(b, self.modulus, self.base)
        residues = (ra + rb if self.operation == "add" else ra * rb) % self.modulus
        return dg.from_residues(residues, self.base, self.answer_width(a.shape[1]))

    def _sum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if (self.operation, self.modulus) != ("add", None) or b.shape[2] >= self.base:
            raise ArithlabError(
                f"{b.shape[2] + 1} operands for {str(self)!r}: plain 'add' takes up to {self.base} of them in base "
                f"{self.base}, all else takes two."
            )
        width, total = max(a.shape[1], b.shape[1]) + 1, a
        for term in range(b.shape[2]):
            total = dg.fit_width(dg.add(total, b[:, :, term], self.base), width)
        return total

    def parse_question(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The operands of a question such as `349+705`, as digit arrays of shape (W,).

        Of more than two, as in `349+705+8`, the second array holds all but the first, shape (W, K).

        >>> [d.tolist() for d in Task("add").parse_question("349+7")]
        [[9, 4, 3], [7]]
        """
        parts = text.strip().split(self.symbol) if isinstance(text, str) else []
        if len(parts) != 2 and not (2 < len(parts) <= self.base and self.operation == "add" and not self.modulus):
            raise ArithlabError(
                f"{shorten(text)} is no question for the task {str(self)!r}: write two numbers with "
                f"{self.symbol!r} between them, for example 349{self.symbol}705."
            )
        first, *others = (dg.parse(part.strip(), self.base) for part in parts)
        width = max(map(len, others))
        others = [dg.fit_width(other[None], width)[0] for other in others]
        return first, others[0] if len(others) == 1 else np.stack(others, 1)

    def write_question(self, a: np.ndarray, b: np.ndarray) -> str:
        """The question as text: the inverse of `parse_question`."""
        return self.symbol.join(map(dg.write, [a, *(b[None] if b.ndim == 1 else b.T)]))


def task(text: str) -> Task:
    """The task written as text: `add`, `mul`, `add mod 101`, `mul mod 50`, with `base 7` at the end if not 10.

    >>> task("add mod 101 base 7")
    Task(operation='add', modulus=101, base=7)
    """
    if isinstance(text, Task):
        return text
    if not isinstance(text, str) or len(text) > MAX_MODULUS_DIGITS + 50:
        raise ArithlabError(f"task {shorten(text)}: write it as text, for example 'add mod 101 base 7'.")
    match = _TEXT.fullmatch(" ".join(text.split()))
    if not match:
        raise ArithlabError(
            f"task {shorten(text)}: write 'add' or 'mul', then, where wanted, 'mod 101' and 'base 7', in this order."
        )
    operation, modulus, base = match.groups()
    return Task(operation, None if modulus is None else int(modulus), 10 if base is None else int(base))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
