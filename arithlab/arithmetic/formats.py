"""Formats: how an example becomes tokens, and what each token stands for.

Text form: a name, then options in any order.

`padded 9`             every operand in 9 places; `a+b=c`, all numbers units first
`unpadded`             operands in as many places as they have digits; an end token closes the answer
`padded 9 answer high` the answer highest digit first; likewise `operands high`
`aligned`              both operands in as many places as the longer one has, the answer in as many as that can need
`aligned repeated`     the second operand, of one digit, is written at every place of the first
`remainders`           for `add mod p`: aligned operands, then a scratchpad: from the highest place down the running
                       remainder r_j = (base r_(j+1) + a_j + b_j) mod p, one token each; the last one is the answer
`schoolbook`           for `mul`: aligned operands, then a row for every digit of b, a comma before all but the first:
                       for each digit of a the product of both and the total (scratchpads.py); totals spell the answer
`sums`                 for `add`, of two or more operands: aligned, and a zero on top; then the sum of the first two, of
                       the first three ..., a comma between; the last is the answer
`p1`                   2407.17963: operands in 20 places highest first, answer in 21 units first, 66 tokens
`p2 5`                 2308.08268: digits only, operands in 5 places highest first, answer units first
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from ..errors import ArithlabError, UnknownName, shorten
from . import digits as dg
from . import scratchpads, tables
from .tasks import Task
from .tokens import ROLE, Tokens, id_type

ORDERS = ("high", "units")
NAMES = ("padded", "unpadded", "aligned", "remainders", "schoolbook", "sums", "p1", "p2")
MAX_REMAINDERS = 10_000  # one token each


@dataclass(frozen=True)
class Format:
    """How examples are written. Made by `format_(text)`; `width` is None where operands are not padded."""

    name: str = "padded"
    width: int | None = 9
    operands: str = "units"
    answer: str = "units"
    repeated: bool = False

    @property
    def by_length(self) -> bool:
        """Whether examples of one length share one layout, so that training takes one length at a time."""
        return self.name in ("aligned", "remainders", "schoolbook", "sums")

    def __str__(self) -> str:
        if self.name == "p1":
            return "p1"
        if self.name == "p2":
            return f"p2 {self.width}"
        text = self.name + (f" {self.width}" if self.width else "") + " repeated" * self.repeated
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
        if self.by_length:
            cells = {"remainders": task.modulus, "schoolbook": task.base**2}.get(self.name, 0)
            comma = (",",) * (self.name in tables.MAKERS)
            return (*digits, task.symbol, "=", "<pad>", *comma, *(f"[{cell}]" for cell in range(cells)))
        return (*digits, task.symbol, "=", ";", "<pad>")

    def answer_places(self, task: Task, operand_digits: int | np.ndarray, terms: int = 2) -> int | np.ndarray:
        """Places that the answer, or the scratchpad that ends in it, takes where layouts go by length."""
        if self.name == "remainders":
            return operand_digits
        if self.name == "schoolbook":
            return 2 * operand_digits * (operand_digits + 1) - 1
        if self.name == "sums":
            return (terms - 1) * (operand_digits + 2) - 1
        return operand_digits + 1 if self.repeated and task.modulus is None else task.answer_width(operand_digits)

    def answer_width(self, task: Task) -> int:
        """Places of the answer, padded formats; for unpadded ones the most that the operands can need."""
        return 21 if self.name == "p1" else task.answer_width(self.width)

    def length(self, task: Task, operand_digits: int | None = None, terms: int = 2) -> int:
        """Tokens of the longest example; unpadded formats need the digits of the operands, and how many there are."""
        if self.by_length:
            above = terms * (self.name == "sums")  # its operands have one place more
            return terms * (operand_digits + 1) + above + self.answer_places(task, operand_digits, terms)
        if self.width is None:
            return 2 * operand_digits + task.answer_width(operand_digits) + 3
        extra = {"p1": 5, "p2": 0}.get(self.name, 2)
        return 2 * self.width + self.answer_width(task) + extra

    def highest_place(self, task: Task, operand_digits: int, terms: int = 2, signs: bool = True) -> int:
        """The highest place of any token where operands have at most so many digits; `signs`: those count too.

        The very last token counts as well: where a batch has several lengths, padding follows it in some rows.

        >>> format_("aligned").highest_place(Task("mul"), 4), format_("padded 9").highest_place(Task("add"), 4)
        (7, 9)
        """
        if self.name in tables.MAKERS:  # columns; `sums` writes a zero on top of every operand
            return operand_digits + (signs and self.name == "sums")
        operands = self.width or operand_digits
        answer = self.answer_width(task) if self.width else self.answer_places(task, operand_digits)
        found = [operands - 1, answer - 1]
        if signs:
            found += [operands] * (self.operands == "units")  # behind an operand
            found += [answer] * (self.answer == "high" or self.name in ("unpadded", "remainders"))  # around the answer
            found += [answer + 1] * (self.name == "p1")  # its end has two signs
        return max(found)

    def check(self, task: Task, operand_digits: int) -> None:
        """Raise ArithlabError where operands of so many digits cannot be written."""
        if self.name == "remainders" and (task.operation != "add" or not 1 < (task.modulus or 0) <= MAX_REMAINDERS):
            raise ArithlabError(
                f"the format 'remainders' writes running remainders of a sum, not of {str(task)!r}: "
                f"use it with 'add mod p', p at most {MAX_REMAINDERS:,}."
            )
        if self.name == "sums" and (task.operation, task.modulus) != ("add", None):
            raise ArithlabError(f"the format 'sums' writes a plain sum, not {str(task)!r}: use it with 'add'.")
        if self.name == "schoolbook" and (task.operation, task.modulus) != ("mul", None):
            raise ArithlabError(f"the format 'schoolbook' writes a product, not {str(task)!r}: use it with 'mul'.")
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
        self.check(task, max(dg.longest(a), dg.longest(b)))
        if self.repeated and b[:, 1:].any():
            raise ArithlabError(
                f"the format {str(self)!r} repeats a second operand of one digit: use a domain such as D_5[b=1]."
            )
        if b.ndim > 2 and self.name != "sums":
            raise ArithlabError(f"the format {str(self)!r} writes two operands, not {b.shape[2] + 1}: use 'sums'.")
        if self.name in tables.MAKERS:
            return tables.encode(self.name, task, self.vocabulary(task), a, b, c)
        return self._encode_rows(task, a, b, c) if self.width is None else self._encode_columns(task, a, b, c)

    def _encode_columns(self, task: Task, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
        """Padded formats: every example has the same roles and places."""
        vocabulary, width, answer_width = self.vocabulary(task), self.width, self.answer_width(task)
        operands = np.arange(width)[:: 1 if self.operands == "units" else -1]
        answer = np.arange(answer_width)[:: 1 if self.answer == "units" else -1]
        after = width if self.operands == "units" else -1
        before = -1 if self.answer == "units" else answer_width
        plus = "+" if self.name == "p1" else task.symbol
        segments = [  # role, digits or symbol, places, supervised
            ("a", a, operands, False),
            ("op", plus, [after], False),
            ("b", b, operands, False),
            ("=", "=", [before], False),
            ("c", c, answer, True),
        ]
        if self.name == "p2":
            segments = segments[::2]
        if self.name == "p1":
            segments = [("bos", "<bos>", [width], False), *segments]
            segments += [("end", ";", [answer_width], True), ("eos", "<eos>", [answer_width + 1], True)]
        place = np.concatenate([places for *_, places, _ in segments])
        role = np.concatenate([[ROLE[role]] * len(places) for role, _, places, _ in segments])
        supervised = np.concatenate([[flag] * len(places) for *_, places, flag in segments])
        zero, ids, start = vocabulary.index("0"), np.empty((len(a), len(place)), np.uint8), 0
        for _, content, places, _ in segments:
            columns = ids[:, start : start + len(places)]
            start += len(places)
            if isinstance(content, str):
                columns[:] = vocabulary.index(content)
                continue
            # digit arrays may have fewer places than the format, or more, all of them zero
            columns[:] = zero
            have = min(content.shape[1], len(places))
            target = columns if places[0] == 0 else columns[:, ::-1]
            target[:, :have] += content[:, :have]
        return Tokens(ids, role[None], place[None], supervised[None])

    def _encode_rows(self, task: Task, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
        """Formats in which the places depend on the example: rows of one batch are padded on the right."""
        vocabulary = self.vocabulary(task)
        if self.repeated:
            b = np.repeat(b[:, :1], a.shape[1], 1)
        la, lb, lc = dg.lengths(a)[:, None], dg.lengths(b)[:, None], dg.lengths(c)[:, None]
        if self.by_length:
            la = lb = np.maximum(la, lb)
            lc = np.broadcast_to(self.answer_places(task, la), la.shape)
        role, place_after = "c", lc if self.answer == "high" else np.full_like(lc, -1)
        if self.name == "remainders":
            c, role, place_after = self._remainders(task, a, b, c), "r", lc
        after_a = la if self.operands == "units" else np.full_like(la, -1)
        segments = [
            ("a", a, la, self.operands, "op", task.symbol, after_a),
            ("b", b, lb, self.operands, "=", "=", place_after),
            (role, c, lc, "high" if role == "r" else self.answer, *self._closing(lc)),
        ]
        total = int((la + lb + lc).max()) + (2 if self.by_length else 3)
        slot = np.arange(total)[None]
        ids = np.full((len(a), total), vocabulary.index("<pad>"))
        roles, places = np.full(ids.shape, ROLE["pad"]), np.zeros(ids.shape, np.int64)
        start = np.zeros_like(la)
        for name, digits, length, order, sign, symbol, sign_place in segments:
            digits = dg.fit_width(digits, max(digits.shape[1], int(length.max())))
            offset = slot - start
            here = (offset >= 0) & (offset < length)
            at = offset if order == "units" else length - 1 - offset
            values = np.take_along_axis(digits, np.clip(at, 0, digits.shape[1] - 1), 1)
            ids, roles = np.where(here, values, ids), np.where(here, ROLE[name], roles)
            places = np.where(here, at, places)
            if sign:
                closing = offset == length
                ids = np.where(closing, vocabulary.index(symbol), ids)
                roles, places = np.where(closing, ROLE[sign], roles), np.where(closing, sign_place, places)
            start = start + length + 1
        supervised = np.isin(roles, [ROLE[role], ROLE["end"]])
        ids = ids.astype(id_type(vocabulary))
        if (roles == roles[:1]).all() and (places == places[:1]).all():
            roles, places, supervised = roles[:1], places[:1], supervised[:1]
        return Tokens(ids, roles, places, supervised)

    def _closing(self, length: np.ndarray) -> tuple[str | None, str, np.ndarray]:
        """What stands behind the answer: role, symbol and place; nothing where the length is known beforehand."""
        if self.by_length:
            return None, "", length
        return "end", ";", length if self.answer == "units" else np.full_like(length, -1)

    def _remainders(self, task: Task, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """The running remainders as token ids, by place; the last, at place 0, is what c says."""
        out = scratchpads.running_remainders(a, b, task.modulus, task.base)
        out[:, 0] = dg.remainder(c, task.modulus, task.base)
        return out + self.vocabulary(task).index("[0]")

    def decode(self, task: Task, answer: np.ndarray, terms: int = 2) -> str:
        """The answer that a row of generated token ids spells; anything that is no digit shows as `?`.

        Padding zeros are left out; an unpadded answer is given as it is written, wrong zeros included. terms: how many
        operands the question has.

        >>> format_("sums").decode(Task("add"), np.array([9, 13, 5]))  # a comma where a digit belongs
        '5?9'
        """
        vocabulary = self.vocabulary(task)
        symbols = [vocabulary[i] for i in answer]
        if self.name == "remainders":
            last = symbols[-1]
            return dg.write(dg.from_ints([int(last[1:-1])], task.base)[0]) if last[0] == "[" else "?"
        if self.name == "schoolbook":
            n = round((math.sqrt(2 * len(symbols) + 3) - 1) / 2)  # the inverse of answer_places
            row, column = scratchpads.spelt(n)
            totals = [symbols[at] for at in row * (2 * n + 2) + np.minimum(2 * column + 1, 2 * n)]
            symbols = [dg.SYMBOLS[int(total[1:-1]) % task.base] if total[0] == "[" else "?" for total in totals]
        if self.name == "sums":
            # the layout says where the last sum begins, not the model's commas, which may be misplaced
            symbols = symbols[-((len(symbols) + 1) // (terms - 1) - 1) :]
        if self.width is not None:
            symbols = symbols[: self.answer_width(task)]
        elif ";" in symbols:
            symbols = symbols[: symbols.index(";")]
        text = "".join(s if len(s) == 1 and s in dg.SYMBOLS else "?" for s in symbols)
        text = text[::-1] if self.answer == "units" else text
        return text or "?" if self.name == "unpadded" else text.lstrip("0") or "0"


def format_(text: str) -> Format:
    """The format written as text; see the head of this file for the grammar.

    >>> str(format_("padded 9 answer high"))
    'padded 9 answer high'
    """
    if isinstance(text, Format):
        return text
    words = text.split() if isinstance(text, str) and len(text) < 200 else []
    name, rest = (words[0], " ".join(words[1:])) if words else ("", "")
    if name not in NAMES:
        raise UnknownName("format", text, NAMES)
    match = re.fullmatch(r"(?:([0-9]{1,6}) ?)?(repeated ?)?((?:(?:operands|answer) (?:high|units) ?)*)", rest)
    options = dict(re.findall(r"(operands|answer) (high|units)", rest))
    wants_width = name in ("padded", "p2")
    fixed = name in ("p1", "p2", *tables.MAKERS) or (name == "remainders" and "answer" in options)
    if not match or wants_width != bool(match[1]) or (fixed and options) or (match[2] and name != "aligned"):
        raise ArithlabError(
            f"format {shorten(text)}: write for example 'padded 9', 'padded 9 answer high', 'unpadded operands high', "
            "'aligned', 'aligned repeated', 'remainders', 'schoolbook', 'sums', 'p1' or 'p2 5'."
        )
    width = int(match[1]) if match[1] else 20 if name == "p1" else None
    if width is not None and not 1 <= width <= dg.MAX_DIGITS:
        raise ArithlabError(f"format {shorten(text)}: the width must be 1 to {dg.MAX_DIGITS:,} places.")
    if name in ("p1", "p2"):
        return Format(name, width, "high", "units")
    return Format(name, width, options.get("operands", "units"), options.get("answer", "units"), bool(match[2]))
