"""Domains: which pairs of operands. The names are those of the papers, with a few options added.

`D_4`                  one operand has exactly 4 digits, the other at most 4 (the other side chosen by a coin)
`D_ab4`                both have exactly 4 digits (0 counts as a number of one digit, as in the papers)
`D_4+D_5`, `3*D_4+D_5` unions, with weights
`D_3[digits=6-9]`      a gap: only these digits occur (a range, or a list such as 02468)
`D_3[place0=0]`        only these digits occur at this place (place 0 = units)
`D_9[chain=4]`         a + b has exactly 4 carries, at neighbouring places
`D_9[ripple=8]`        the same, but every carry behind the first is only passed on (digits that sum to base - 1): what
                       stands at one place decides the next 8, as in 99999999 + 1
`D_5[b=1]`             a has exactly 5 digits, b at most 1
`D_4[terms=3]`         a has exactly 4 digits, and so many operands in all, the others of at most 4
`D_1-5`                short for D_1+D_2+D_3+D_4+D_5; weights and options go to each
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ArithlabError, shorten
from . import chains
from . import digits as dg

ENUMERABLE = 20_000  # domains of at most this many pairs are tested whole, larger ones by sampling
MAX_WEIGHT = 1_000_000_000
MAX_PARTS = 100  # of a range
MAX_TEXT = 2_000
_PART = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)\*)?D_(ab)?([0-9]{1,6})(?:-([0-9]{1,6}))?(?:\[([^\[\]]*)\])?")
_HELP = (
    "write for example D_4, D_ab4, D_4+D_5, D_1-5, 3*D_4+D_5, D_3[digits=6-9], D_3[place0=0], D_9[chain=4], "
    "D_9[ripple=8], D_5[b=1] or D_4[terms=3]"
)


@dataclass(frozen=True)
class Part:
    """One member of a union: `both` operands, or one of them, have exactly `n` digits."""

    n: int
    both: bool = False
    digits: str | None = None  # symbols that may occur; None = all
    places: tuple[tuple[int, str], ...] = ()  # (place, symbols that may occur there)
    chain: int | None = None  # exactly this many carries, all neighbours
    ripple: bool = False  # all of them but the first only passed on
    b: int | None = None  # the second operand has at most so many digits, the first exactly n; None = see `both`
    terms: int = 2  # operands in all
    weight: float = 1.0

    def __str__(self) -> str:
        options = [f"digits={self.digits}"] if self.digits is not None else []
        options += [f"place{place}={symbols}" for place, symbols in self.places]
        options += [f"{'ripple' if self.ripple else 'chain'}={self.chain}"] if self.chain is not None else []
        options += [f"b={self.b}"] if self.b is not None else []
        options += [f"terms={self.terms}"] if self.terms != 2 else []
        weight = "" if self.weight == 1 else np.format_float_positional(self.weight, trim="-") + "*"
        return f"{weight}D_{'ab' if self.both else ''}{self.n}" + (f"[{','.join(options)}]" if options else "")

    def allowed(self, place: int, base: int) -> np.ndarray:
        """Digits that may occur at `place`, ascending."""
        symbols = dict(self.places).get(place, self.digits)
        return np.arange(base, dtype=np.uint8) if symbols is None else _digit_set(symbols, base)

    def tops(self, place: int, base: int) -> np.ndarray:
        """Digits that may stand at `place` as the highest digit of a number."""
        allowed = self.allowed(place, base)
        return allowed[allowed > 0] if place else allowed

    def sizes(self, base: int) -> list[int]:
        """How many numbers have exactly 1, 2, ... n digits, all of them allowed."""
        below, out = 1, []
        for place in range(self.n):
            out.append(len(self.tops(place, base)) * below)
            below *= len(self.allowed(place, base))
        return out

    def count(self, base: int) -> int | None:
        """Number of distinct ordered pairs, or None where carry chains or more terms are asked for."""
        if self.chain is not None or self.terms > 2:
            return None
        sizes = self.sizes(base)
        if self.b is not None:
            return sizes[-1] * sum(sizes[: self.b])
        return sizes[-1] ** 2 if self.both else sum(sizes) ** 2 - sum(sizes[:-1]) ** 2

    def check(self, base: int) -> None:
        """Raise ArithlabError where no pair fits."""
        for symbols in [self.digits, *dict(self.places).values()]:
            if symbols is not None:
                _digit_set(symbols, base)
        if any(place >= self.n for place, _ in self.places):
            raise ArithlabError(
                f"domain {str(self)!r} speaks of a place above its {self.n} digits: place 0 is the units."
            )
        if self.chain is None and not self.sizes(base)[-1]:
            raise ArithlabError(
                f"domain {str(self)!r} is empty: no number of {self.n} digits is left. Allow more digits."
            )
        if self.chain is not None:
            chains.tables(self, base)
        if self.b is not None and (self.both or self.chain is not None or not 1 <= self.b <= self.n):
            raise ArithlabError(f"domain {str(self)!r}: b is 1 to {self.n} here, and goes with neither ab nor chain.")

        if self.terms != 2 and (
            self.both or self.b is not None or self.chain is not None or not 2 < self.terms <= base
        ):
            raise ArithlabError(
                f"domain {str(self)!r}: terms is 2 to {base} in base {base}, and goes with neither ab, b nor chain."
            )

    def sample(self, rng: np.random.Generator, count: int, base: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` pairs, operands of shape (count, n); of more terms, all but the first as (count, n, terms - 1)."""
        if self.terms > 2:
            others = self._at_most(rng, count * (self.terms - 1), base).reshape(count, self.terms - 1, self.n)
            return self._exact(rng, count, base), others.transpose(0, 2, 1)
        if self.chain is not None:
            x, y = chains.sample(self, rng, count, base)
        elif self.both:
            return self._exact(rng, count, base), self._exact(rng, count, base)
        else:
            x, y = self._exact(rng, count, base), self._at_most(rng, count, base)
        if self.b is not None:
            return x, dg.fit_width(replace(self, n=self.b, b=None)._at_most(rng, count, base), self.n)
        swap = rng.random(count)[:, None] < 0.5
        return np.where(swap, y, x), np.where(swap, x, y)

    def _free(self, rng: np.random.Generator, count: int, base: int) -> np.ndarray:
        """Every place on its own, zeros on top not excluded."""
        if self.digits is None and not self.places:
            return rng.integers(base, size=(count, self.n), dtype=np.uint8)
        columns = [rng.choice(self.allowed(place, base), count) for place in range(self.n)]
        return np.stack(columns, 1)

    def _exact(self, rng: np.random.Generator, count: int, base: int) -> np.ndarray:
        out = self._free(rng, count, base)
        out[:, -1] = rng.choice(self.tops(self.n - 1, base), count)
        return out

    def _at_most(self, rng: np.random.Generator, count: int, base: int) -> np.ndarray:
        out = self._free(rng, count, base)
        if self.digits is None and not self.places:
            return out
        sizes = self.sizes(base)
        total = sum(sizes)
        length = 1 + rng.choice(self.n, count, p=[size / total for size in sizes])
        for place in range(self.n):
            ends = length == place + 1
            if ends.any():
                out[ends, place] = rng.choice(self.tops(place, base), int(ends.sum()))
            out[length <= place, place] = 0
        return out

    def pairs(self, base: int) -> tuple[np.ndarray, np.ndarray]:
        """Every pair once; only for parts of at most ENUMERABLE pairs."""
        numbers = np.zeros((1, 0), np.uint8)
        short, exact = [], numbers
        for place in range(self.n):
            exact = _product(numbers, self.tops(place, base))
            short.append(dg.fit_width(exact, self.n))
            numbers = _product(numbers, self.allowed(place, base))
        lower = np.concatenate([np.zeros((0, self.n), np.uint8), *short[:-1]])
        if self.b is not None:
            lower = np.concatenate(short[: self.b])
            return np.repeat(exact, len(lower), 0), np.tile(lower, (len(exact), 1))
        left = [(exact, exact)] if self.both else [(exact, exact), (exact, lower), (lower, exact)]
        a = np.concatenate([np.repeat(x, len(y), 0) for x, y in left])
        b = np.concatenate([np.tile(y, (len(x), 1)) for x, y in left])
        return a, b


@dataclass(frozen=True)
class Domain:
    """A weighted union of parts. Made by `domain(text)`.

    >>> str(domain("D_4 + 2*D_ab5"))
    'D_4+2*D_ab5'
    >>> domain("D_3").count(10)
    990000
    """

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))

    @property
    def digits(self) -> int:
        """The largest number of digits that an operand can have."""
        return max(part.n for part in self.parts)

    @property
    def terms(self) -> int:
        """The largest number of operands."""
        return max(part.terms for part in self.parts)

    def check(self, base: int) -> None:
        """Raise ArithlabError where the domain makes no sense in this base."""
        for part in self.parts:
            part.check(base)

    def count(self, base: int) -> int | None:
        """Number of distinct ordered pairs; None for unions and carry chains."""
        return self.parts[0].count(base) if len(self.parts) == 1 else None

    def pairs(self, base: int) -> tuple[np.ndarray, np.ndarray]:
        """Every ordered pair once, as two arrays (N, digits); for domains of at most ENUMERABLE pairs."""
        count = self.count(base)
        if count is None or count > ENUMERABLE:
            raise ArithlabError(f"domain {str(self)!r} has too many pairs to list; use sample().")
        return self.parts[0].pairs(base)

    def sample(self, rng: np.random.Generator, count: int, base: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` random pairs (repeats possible): two uint8 arrays of shape (count, digits)."""
        if len(self.parts) == 1:
            return self.parts[0].sample(rng, count, base)
        weights = np.array([part.weight for part in self.parts])
        which = rng.choice(len(self.parts), count, p=weights / weights.sum())
        a, more = np.zeros((count, self.digits), np.uint8), self.terms - 1
        b = a.copy() if more == 1 else np.zeros((*a.shape, more), np.uint8)
        for index, part in enumerate(self.parts):
            rows = np.flatnonzero(which == index)
            a[rows, : part.n], others = part.sample(rng, len(rows), base)
            if b.ndim == 2:
                b[rows, : part.n] = others
            else:  # what has fewer terms has zeros for the rest
                b[rows, : part.n, : part.terms - 1] = others.reshape(len(rows), part.n, -1)
        return a, b

    def seen_digits(self, place: int, base: int) -> set[int]:
        """Digits that either operand can show at `place`, leading zeros included."""
        seen: set[int] = set()
        for part in self.parts:
            if place >= part.n:
                seen.add(0)
                continue
            if part.chain is not None:
                seen |= chains.seen_digits(part, place, base)
                continue
            shorter = not part.both and place > 0
            full = part.allowed(place, base) if place < part.n - 1 or shorter else part.tops(place, base)
            seen |= set(full.tolist()) | ({0} if shorter else set())
        return seen


def domain(text: str) -> Domain:
    """The domain written as text; see the head of this file for the grammar."""
    if isinstance(text, Domain):
        return text
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ArithlabError(f"domain {shorten(text)}: {_HELP}.")
    made = Domain(tuple(part for piece in re.sub(r"\s", "", text).split("+") for part in _parse_parts(piece)))
    if len(str(made)) > MAX_TEXT:  # a range is written out, and must be read again
        raise ArithlabError(
            f"domain {shorten(text)}: more than {MAX_TEXT:,} characters when written out; use fewer parts."
        )
    return made


def _parse_parts(text: str) -> list[Part]:
    match = _PART.fullmatch(text)
    if not match or not text.isascii():
        raise ArithlabError(f"domain {shorten(text)}: {_HELP}.")
    weight, both, n, last, options = match.groups()
    lengths = range(int(n), int(last or n) + 1)
    if not 1 <= int(n) <= int(last or n) <= dg.MAX_DIGITS or len(lengths) > MAX_PARTS:
        raise ArithlabError(
            f"domain {shorten(text)}: allowed are 1 to {dg.MAX_DIGITS:,} digits, "
            f"ranges lowest first and of at most {MAX_PARTS} lengths."
        )
    if weight is not None and not 0 < float(weight) <= MAX_WEIGHT:
        raise ArithlabError(f"domain {shorten(text)}: a weight must be above 0 and at most {MAX_WEIGHT:,}.")
    digits, chain, ripple, b, terms, places = None, None, False, None, 2, {}
    for option in filter(None, (options or "").split(",")):
        name, _, value = option.partition("=")
        if name == "digits" and re.fullmatch(r"[0-9a-z]-[0-9a-z]|[0-9a-z]+", value):
            digits = value
        elif re.fullmatch(r"place[0-9]{1,6}", name) and re.fullmatch(r"[0-9a-z]-[0-9a-z]|[0-9a-z]+", value):
            places[int(name[5:])] = value
        elif name in ("chain", "ripple") and re.fullmatch(r"[0-9]{1,6}", value) and chain is None:
            chain, ripple = int(value), name == "ripple"
        elif name == "b" and re.fullmatch(r"[0-9]{1,6}", value):
            b = int(value)
        elif name == "terms" and re.fullmatch(r"[0-9]{1,6}", value):
            terms = int(value)
        else:
            raise ArithlabError(f"domain option {shorten(option)}: {_HELP}.")
    found = tuple(sorted(places.items()))
    return [Part(length, bool(both), digits, found, chain, ripple, b, terms, float(weight or 1)) for length in lengths]


def _digit_set(symbols: str, base: int) -> np.ndarray:
    if len(symbols) == 3 and symbols[1] == "-":
        low, high = dg.SYMBOLS.index(symbols[0]), dg.SYMBOLS.index(symbols[2])
        values = np.arange(low, high + 1, dtype=np.uint8)
    else:
        values = np.unique([dg.SYMBOLS.index(symbol) for symbol in symbols]).astype(np.uint8)
    if not len(values) or values[-1] >= base:
        raise ArithlabError(
            f"digits {symbols!r}: allowed in base {base} are {dg.SYMBOLS[:base]!r}, ranges lowest first."
        )
    return values


def _product(low: np.ndarray, tops: np.ndarray) -> np.ndarray:
    """Every row of `low` under every digit of `tops`."""
    return np.concatenate([np.repeat(low, len(tops), 0), np.tile(tops, len(low))[:, None]], 1)
