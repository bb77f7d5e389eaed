"""Formats whose scratchpad is a table: every token stands in a column and a row, and reads its direct neighbours."""

import numpy as np

from . import digits as dg
from . import scratchpads
from .tasks import Task
from .tokens import ANY, ROLE, Tokens, id_type


def encode(name: str, task: Task, vocabulary: tuple[str, ...], a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
    """Examples of one length share a layout; shorter ones are padded on the right."""
    longest = np.maximum(dg.lengths(a), dg.lengths(b))
    parts = {n: np.flatnonzero(longest == n) for n in np.unique(longest).tolist()}
    made = {n: MAKERS[name](task, vocabulary, n, a[at], b[at], c[at]) for n, at in parts.items()}
    if len(made) == 1:
        return next(iter(made.values()))
    shape = len(a), max(tokens.ids.shape[1] for tokens in made.values())
    ids, role = np.full(shape, vocabulary.index("<pad>"), id_type(vocabulary)), np.full(shape, ROLE["pad"])
    place, supervised, levels = np.zeros(shape, np.int64), np.zeros(shape, bool), np.full((2, *shape), ANY)
    for n, at in parts.items():
        here = np.ix_(at, np.arange(made[n].ids.shape[1]))
        ids[here], role[here], place[here] = made[n].ids, made[n].role, made[n].place
        supervised[here], levels[:, here[0], here[1]] = made[n].supervised, made[n].levels
    return Tokens(ids, role, place, supervised, levels)


def schoolbook(task: Task, vocabulary: tuple, n: int, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
    """`21*43=[8][8][4][4][0],[6][10][3][4][0]` for 12 x 34: see scratchpads.schoolbook.

    A digit of a has a column and belongs to every row, a digit of b the other way round.
    """
    a, b, c = dg.fit_width(a, n), dg.fit_width(b, n), dg.fit_width(c, 2 * n)
    products, totals = scratchpads.schoolbook(a, b, task.base)
    row, column = scratchpads.spelt(n)
    totals[:, row, column] += c.astype(np.int64) - totals[:, row, column] % task.base  # 0 where c is the truth
    rows = np.empty((len(a), n, 2 * n + 1), np.int64)  # product and total in turn
    rows[:, :, :-1:2], rows[:, :, 1::2] = products, totals[:, :, :n]
    rows[:, :, -1] = totals[:, :, n]
    signs = _signs(vocabulary, len(a), n)
    rows = np.concatenate([signs, rows + vocabulary.index("[0]")], 2)
    digits = np.arange(n)
    across, down = np.tile([-1, *np.repeat(digits, 2), n], n), np.repeat(digits, 2 * n + 2)
    return _tokens(
        vocabulary,
        [a, np.full((len(a), 1), task.base), b, rows.reshape(len(a), -1)],
        ["a"] * n + ["op"] + ["b"] * n + (["="] + ["r", "c"] * n + ["c"]) * n,
        place=[digits, [n], digits, across],
        column=[digits, [n], np.full(n, ANY), across],
        row=[np.full(n, ANY), [ANY], digits, down],
    )


def sums(task: Task, vocabulary: tuple, n: int, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Tokens:
    """`210+430+560=640,111` for 12 + 34 + 65: the operands, one a row, then in each row but the first the sum so far.

    The place above the operands is written too: there the digit above can be any, as at every other place.
    """
    terms = dg.fit_width(np.concatenate([a[..., None], b if b.ndim > 2 else b[..., None]], 2), n + 1)
    N, places, k = terms.shape
    totals, so_far = np.empty((N, k - 1, places), np.uint8), terms[:, :, 0]
    for j in range(k - 1):
        so_far = dg.fit_width(dg.add(so_far, terms[:, :, j + 1], task.base), places)
        totals[:, j] = so_far
    totals[:, -1] = dg.fit_width(c, places)
    signs = np.full((N, k, 1), task.base)
    operands = np.concatenate([terms.transpose(0, 2, 1), signs], 2).reshape(N, -1)[:, :-1]
    rows = np.concatenate([_signs(vocabulary, N, k - 1), totals], 2).reshape(N, -1)
    above, below = np.tile(np.arange(places + 1), k)[:-1], np.tile(np.arange(-1, places), k - 1)
    return _tokens(
        vocabulary,
        [operands, rows],
        (["a"] * places + (["op"] + ["b"] * places) * (k - 1)) + (["="] + ["c"] * places) * (k - 1),
        place=[above, below],
        column=[above, below],
        row=[np.repeat(np.arange(k), places + 1)[:-1], np.repeat(np.arange(1, k), places + 1)],
    )


MAKERS = {"schoolbook": schoolbook, "sums": sums}


def _signs(vocabulary: tuple, count: int, rows: int) -> np.ndarray:
    """What begins each row: = the first, a comma the others. Shape (count, rows, 1)."""
    signs = np.full((count, rows, 1), vocabulary.index(","))
    signs[:, 0] = vocabulary.index("=")
    return signs


def _tokens(vocabulary: tuple, ids: list, roles: list[str], *, place: list, column: list, row: list) -> Tokens:
    """Tokens of which all after the first = are supervised."""
    role = np.array([[ROLE[name] for name in roles]])
    supervised = np.arange(len(roles))[None] > roles.index("=")
    levels = np.stack([np.concatenate(column), np.concatenate(row)])[:, None]
    joined = np.concatenate(ids, 1).astype(id_type(vocabulary))
    return Tokens(joined, role, np.concatenate(place)[None], supervised, levels)
