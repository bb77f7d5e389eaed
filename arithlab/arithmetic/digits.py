"""Exact arithmetic on arrays of digits, for any base and any length.

A batch of N numbers is a uint8 array of shape (N, W); column i is *place* i, and place 0 is the units.
Leading zeros are allowed and mean nothing. No number is ever squeezed into int64: 1,000 digits stay exact.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import ArithlabError, shorten

SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyz"
MAX_DIGITS = 20_000  # the stated limit for an operand: far above the studies, far below a hang


def parse(text: str, base: int) -> np.ndarray:
    """Digits of the number written in `text`, units first: shape (W,).

    >>> parse("349", 10).tolist()
    [9, 4, 3]
    """
    allowed = SYMBOLS[:base]
    if not isinstance(text, str) or not text:
        raise ArithlabError(f"{shorten(text)} is no number: write digits from {allowed!r}.")
    if len(text) > MAX_DIGITS:
        raise ArithlabError(
            f"an operand of {len(text):,} digits: the limit is {MAX_DIGITS:,} digits. Use a shorter one."
        )
    values = [allowed.find(symbol) for symbol in text.lower()] if text.isascii() else [-1]
    if min(values) < 0:
        raise ArithlabError(
            f"{shorten(text)} is no number in base {base}: write digits from {allowed!r} only, no sign, no space."
        )
    return np.array(values[::-1], dtype=np.uint8)


def write(digits: np.ndarray) -> str:
    """The number as text, highest digit first, without leading zeros.

    >>> write(np.array([9, 4, 3, 0]))
    '349'
    """
    return "".join(SYMBOLS[d] for d in digits[::-1]).lstrip("0") or "0"


def from_ints(numbers: Sequence[int], base: int, width: int | None = None) -> np.ndarray:
    """Digits of Python integers, units first: shape (N, width), or just wide enough.

    >>> from_ints([349, 7], 10).tolist()
    [[9, 4, 3], [7, 0, 0]]
    """
    rows = []
    for number in numbers:
        number, row = int(number), []
        if number < 0:
            raise ArithlabError(f"number {shorten(number)}: allowed are whole numbers from 0.")
        while number:
            number, digit = divmod(number, base)
            row.append(digit)
        rows.append(row)
    width = max([1, *map(len, rows)]) if width is None else width
    out = np.zeros((len(rows), width), np.uint8)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def to_ints(digits: np.ndarray, base: int) -> list[int]:
    """Python integers of a batch of numbers, exact at any length.

    >>> to_ints(np.array([[9, 4, 3], [7, 0, 0]]), 10)
    [349, 7]
    """
    out = [0] * len(digits)
    for place in range(digits.shape[1] - 1, -1, -1):
        out = [value * base + int(d) for value, d in zip(out, digits[:, place], strict=True)]
    return out


def fit_width(digits: np.ndarray, width: int) -> np.ndarray:
    """The same numbers in `width` places: zeros added on top, or the places above cut off."""
    have = digits.shape[1]
    more = [(0, 0)] * (digits.ndim - 2)
    return digits[:, :width] if have >= width else np.pad(digits, [(0, 0), (0, width - have), *more])


def lengths(digits: np.ndarray) -> np.ndarray:
    """Number of digits of each number, leading zeros not counted; 0 has one digit. Shape (N,).

    Where there are several numbers a row, shape (N, W, K), that of the longest of them.

    >>> lengths(np.array([[9, 4, 3], [0, 0, 0]])).tolist()
    [3, 1]
    """
    nonzero = digits != 0 if digits.ndim == 2 else digits.any(2)
    top = digits.shape[1] - np.argmax(nonzero[:, ::-1], axis=1)
    return np.where(nonzero.any(axis=1), top, 1)


def longest(digits: np.ndarray) -> int:
    """Digits of the longest number of a batch, leading zeros not counted.

    >>> longest(np.array([[9, 4, 0], [1, 0, 0]]))
    2
    """
    return int(lengths(digits).max(initial=1))


def _carry(sums: np.ndarray, base: int) -> np.ndarray:
    """Digits of numbers given as sums per place (any integers that have room for a carry). Drops a final carry."""
    out = np.empty(sums.shape, np.uint8)
    carry = np.zeros(len(sums), sums.dtype)
    for place in range(sums.shape[1]):
        carry += sums[:, place]
        carry, out[:, place] = np.divmod(carry, sums.dtype.type(base))
    return out


def add(a: np.ndarray, b: np.ndarray, base: int) -> np.ndarray:
    """a + b: shape (N, W + 1) for operands of W places."""
    width = max(a.shape[1], b.shape[1]) + 1
    return _carry(fit_width(a, width).astype(np.uint8) + fit_width(b, width), base)


def multiply(a: np.ndarray, b: np.ndarray, base: int) -> np.ndarray:
    """a * b: shape (N, Wa + Wb)."""
    sums = np.zeros((len(a), a.shape[1] + b.shape[1]), np.int64)
    wide = a.astype(np.int64)
    for place in range(b.shape[1]):  # at most W * 35^2 per place: far below 2^63
        sums[:, place : place + a.shape[1]] += wide * b[:, place : place + 1]
    return _carry(sums, base)


def remainder(a: np.ndarray, modulus: int, base: int) -> np.ndarray:
    """a mod modulus: shape (N,), int64 where it fits, Python integers where the modulus is larger."""
    small = modulus < 2**31
    out = np.zeros(len(a), np.int64) if small else np.zeros(len(a), object)
    digits = a.astype(np.int64) if small else a.astype(object)
    for place in range(a.shape[1] - 1, -1, -1):
        out = (out * base + digits[:, place]) % modulus
    return out


def from_residues(residues: np.ndarray, base: int, width: int) -> np.ndarray:
    """Digits of an array of small non-negative integers (int64 or Python integers): shape (N, width)."""
    out = np.empty((len(residues), width), np.uint8)
    for place in range(width):
        out[:, place] = residues % base
        residues = residues // base
    return out


def carries(a: np.ndarray, b: np.ndarray, base: int) -> np.ndarray:
    """Which places of a + b carry out: bool, shape (N, W).

    >>> carries(np.array([[9, 4, 3]]), np.array([[5, 0, 7]]), 10).tolist()
    [[True, False, True]]
    """
    width = max(a.shape[1], b.shape[1])
    a, b = fit_width(a, width).astype(np.int64), fit_width(b, width).astype(np.int64)
    out = np.empty(a.shape, bool)
    carry = np.zeros(len(a), bool)
    for place in range(width):
        carry = a[:, place] + b[:, place] + carry >= base
        out[:, place] = carry
    return out


def longest_chain(a: np.ndarray, b: np.ndarray, base: int) -> np.ndarray:
    """Length of the longest run of neighbouring places of a + b that all carry: shape (N,).

    >>> longest_chain(np.array([[9, 9, 9]]), np.array([[1, 0, 0]]), 10).tolist()
    [3]
    """
    run = np.zeros(len(a), np.int64)
    best = run.copy()
    for column in carries(a, b, base).T:
        run = np.where(column, run + 1, 0)
        best = np.maximum(best, run)
    return best
