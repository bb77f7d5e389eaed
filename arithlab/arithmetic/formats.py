"""Formats: how an example becomes tokens, and what each token stands for.

Text form: a name, then options in any order.

`padded 9`             every operand in 9 places; `a+b=c`, all numbers units first
`unpadded`             operands in as many places as they have digits; an end token closes the answer
`padded 9 answer high` the answer highest digit first; likewise `operands high`
`p1`                   2407.17963: operands in 20 places highest first, answer in 21 units first, 66 tokens
`p2 5`                 2308.08268: digits only, operands in 5 places highest first, answer units first
"""

import re
from dataclasses import dataclass

import numpy as np

from ..errors import ArithlabError, UnknownName, shorten
from . import digits as dg
from .tasks import Task

ROLES = ("a", "op", "b", "=", "c", "end", "bos", "eos", "pad")
ROLE = {name: code for code, name in enumerate(ROLES)}
ORDERS = ("high", "units")


@dataclass(frozen=True)
class Tokens:
    """A batch of examples as the model sees them. All arrays have shape (N, T), or (1, T) where all rows agree.

    ids: token ids. role: index into ROLES. place: the digit that a token stands for (0 = units); the
    separators carry the place before or after. supervised: the tokens that the model must predict.
    """

    ids: np.ndarray
    role: np.ndarray
    place: np.ndarray
    supervised: np.ndarray

    @property
    def tail(self) -> int:
        """How many tokens at the end hold every supervised one."""
        return self.ids.shape[1] - int(np.argmax(self.supervised.any(0)))


@dataclass(frozen=True)
class Format:
    """How examples are written. Made by `format_(text)`; `width` is None where operands are not padded."""

    name: str = "padded"
    width: int | None = 9
    operands: str = "units"
    answer: str = "units"

    def __str__(self) -> str:
        if self.name == "p1":
            return "p1"
        if self.name == "p2":
            return f"p2 {self.width}"
        text = self.name + (f" {self.width}" if self.width else "")
        text += "" if self.operands == "units" else " operands high"
        return text + ("" if self.answer == "units" else " answer high")

    def vocabulary(self, task: Task) -> tuple[str, ...]:
        """The tokens, in the order of their ids.

        >>> format_("p1").vocabulary(Task("add"))
        ('\\n', '+', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ';', '=', '<bos>', '<eos>')
        """
        digits = tuple(dg.SYMBOLS[: task.base])
        if self.name == "p2":
            return digits
        if self.name == "p1":  # sorted characters of the paper's files; products are written with + there too
            return ("\n", "+", *digits, ";", "=", "<bos>", "<eos>")
        return (*digits, task.symbol, "=", ";", "<pad>")

    def answer_width(self, task: Task) -> int:
        """Places of the answer, padded formats; for unpadded ones the most that the operands can need."""
        return 21 if self.name == "p1" else task.answer_width(self.width)

    def length(self, task: Task, operand_digits: int | None = None) -> int:
        """Tokens of the longest example; unpadded formats need the digits of the operands."""
        if self.width is None:
            return 2 * operand_digits + task.answer_width(operand_digits) + 3
        extra = {"p1": 5, "p2": 0}.get(self.name, 2)
        return 2 * self.width + self.answer_width(task) + extra

    def check(self, task: Task, operand_digits: int) -> None:
        """Raise ArithlabError where operands of so many digits cannot be written."""
        if self.width is not None and operand_digits > self.width:
            raise ArithlabError(
                f"operands of {operand_digits} digits do not fit the format {str(self)!r}, which has {self.width} "
                f"places: "
                f"use a width of at least {operand_digits}, or 'unpadded'."
            )
        if self.name == "p1" and task.answer_width(operand_digits) > 21:
            raise ArithlabError(
                f"answers to {str(task)!r} with operands of {operand_digits} digits do not fit the 21 places of 'p1': "
                "use shorter operands or a padded format."
            )

    def encode(self, task: Task, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> Tokens:
        """Tokens of examples; a, b, c are digit arrays (N, W). c defaults to the exact answer."""
        c = task.compute_digits(a, b) if c is None else c
        self.check(task, int(max(dg.lengths(a).max(), dg.lengths(b).max())))
        count, vocabulary = len(a), self.vocabulary(task)
        columns: list[np.ndarray] = []  # ids, then role, place, supervised, of each segment

        def number(role: str, digits: np.ndarray, order: str) -> None:
            slots = np.arange(digits.shape[1])
            place = slots if order == "units" else slots[::-1]
            ids = digits[:, place] + zero
            columns.append((ids, ROLE[role], place, role == "c"))

        def mark(role: str, symbol: str, place: int, supervised: bool = False) -> None:
            ids = np.full((count, 1), vocabulary.index(symbol))
            columns.append((ids, ROLE[role], np.array([place]), supervised))

        if self.width is None:
            return self._encode_unpadded(task, a, b, c)
        zero = vocabulary.index("0")
        width, answer_width = self.width, self.answer_width(task)
        a, b, c = dg.fit_width(a, width), dg.fit_width(b, width), dg.fit_width(c, answer_width)
        after = width if self.operands == "units" else -1
        before = -1 if self.answer == "units" else answer_width
        if self.name == "p1":
            mark("bos", "<bos>", width)
        number("a", a, self.operands)
        if self.name != "p2":
            mark("op", "+" if self.name == "p1" else task.symbol, after)
        number("b", b, self.operands)
        if self.name != "p2":
            mark("=", "=", before)
        number("c", c, self.answer)
        if self.name == "p1":
            mark("end", ";", answer_width, True)
            mark("eos", "<eos>", answer_width + 1, True)
        ids = np.concatenate([ids for ids, *_ in columns], 1).astype(np.uint8)
        return Tokens(
            ids,
            np.concatenate([np.full(ids.shape[1], role) for ids, role, *_ in columns])[None],
            np.concatenate([place for *_, place, _ in columns])[None],
            np.concatenate([np.full(ids.shape[1], flag) for ids, _, _, flag in columns])[None],
        )

    def _encode_unpadded(self, task: Task, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
        """Every number in as many places as it has digits; the batch is padded on the right."""
        vocabulary = self.vocabulary(task)
        la, lb, lc = dg.lengths(a)[:, None], dg.lengths(b)[:, None], dg.lengths(c)[:, None]
        total = int((la + lb + lc).max()) + 3
        slot = np.arange(total)[None]
        ids = np.full((len(a), total), vocabulary.index("<pad>"))
        role = np.full(ids.shape, ROLE["pad"])
        place = np.zeros(ids.shape, np.int64)
        start = np.zeros_like(la)
        for name, digits, length, order, sign in (
            ("a", a, la, self.operands, "op"),
            ("b", b, lb, self.operands, "="),
            ("c", c, lc, self.answer, "end"),
        ):
            offset = slot - start
            here = (offset >= 0) & (offset < length)
            at = offset if order == "units" else length - 1 - offset
            values = np.take_along_axis(digits, np.clip(at, 0, digits.shape[1] - 1), 1)
            ids, role, place = np.where(here, values, ids), np.where(here, ROLE[name], role), np.where(here, at, place)
            closing = offset == length
            symbol = {"op": task.symbol, "=": "=", "end": ";"}[sign]
            if sign == "=":  # stands before the first answer digit
                closing_place = np.full_like(length, -1) if self.answer == "units" else lc
            else:
                closing_place = length if order == "units" else np.full_like(length, -1)
            ids = np.where(closing, vocabulary.index(symbol), ids)
            role, place = np.where(closing, ROLE[sign], role), np.where(closing, closing_place, place)
            start = start + length + 1
        supervised = (role == ROLE["c"]) | (role == ROLE["end"])
        return Tokens(ids.astype(np.uint8), role, place, supervised)

    def decode(self, task: Task, answer: np.ndarray) -> str:
        """The answer that a row of generated token ids spells; anything that is no digit shows as `?`.

        Padding zeros are left out; an unpadded answer is given as it is written, wrong zeros included.
        """
        vocabulary = self.vocabulary(task)
        symbols = [vocabulary[i] for i in answer]
        if self.width is not None:
            symbols = symbols[: self.answer_width(task)]
        elif ";" in symbols:
            symbols = symbols[: symbols.index(";")]
        text = "".join(s if len(s) == 1 and s in dg.SYMBOLS else "?" for s in symbols)
        text = text[::-1] if self.answer == "units" else text
        return text or "?" if self.width is None else text.lstrip("0") or "0"


def format_(text: str) -> Format:
    """The format written as text; see the head of this file for the grammar.

    >>> str(format_("padded 9 answer high"))
    'padded 9 answer high'
    """
    if isinstance(text, Format):
        return text
    words = text.split() if isinstance(text, str) and len(text) < 200 else []
    name, rest = (words[0], " ".join(words[1:])) if words else ("", "")
    names = ("padded", "unpadded", "p1", "p2")
    if name not in names:
        raise UnknownName("format", text, names)
    match = re.fullmatch(r"(?:([0-9]{1,6}) ?)?((?:(?:operands|answer) (?:high|units) ?)*)", rest)
    options = dict(re.findall(r"(operands|answer) (high|units)", rest))
    wants_width = name in ("padded", "p2")
    if not match or wants_width != bool(match[1]) or (name in ("p1", "p2") and options):
        raise ArithlabError(
            f"format {shorten(text)}: write for example 'padded 9', 'padded 9 answer high', "
            "'unpadded operands high', 'p1' or 'p2 5'."
        )
    width = int(match[1]) if match[1] else 20 if name == "p1" else None
    if width is not None and not 1 <= width <= dg.MAX_DIGITS:
        raise ArithlabError(f"format {shorten(text)}: the width must be 1 to {dg.MAX_DIGITS:,} places.")
    if name in ("p1", "p2"):
        return Format(name, width, "high", "units")
    return Format(name, width, options.get("operands", "units"), options.get("answer", "units"))
