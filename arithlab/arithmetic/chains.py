"""Pairs whose sum has exactly so many carries, all at neighbouring places: a domain's options `chain` and `ripple`."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArithlabError

if TYPE_CHECKING:
    from .domains import Part


@lru_cache(maxsize=256)
def tables(part: "Part", base: int) -> tuple[dict, np.ndarray]:
    """Digit pairs by (place, carry in, carry out), and the places where the chain can start."""
    n, k = part.n, part.chain
    if k > n:
        raise ArithlabError(f"domain {str(part)!r}: a chain of {k} carries does not fit into {n} digits.")
    pairs = {}
    for place in range(n):
        top = place == n - 1
        x = part.tops(place, base) if top else part.allowed(place, base)
        y = part.tops(place, base) if top and part.both else part.allowed(place, base)
        if not part.both and place:
            y = np.union1d(y, [0]).astype(np.uint8) if top else y
        grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        total = grid.astype(int).sum(1)
        for carry_in in (0, 1):
            out = total + carry_in >= base
            passed = out & (total == base - 1) if part.ripple and carry_in else out
            pairs[place, carry_in, 1], pairs[place, carry_in, 0] = grid[passed], grid[~out]
    has = {key: bool(len(rows)) for key, rows in pairs.items()}

    def missing(carry_in: int, carry_out: int) -> np.ndarray:  # running count of places without such a pair
        return np.cumsum([0] + [not has[place, carry_in, carry_out] for place in range(n)])

    quiet, passing = missing(0, 0), missing(1, 1)
    if k == 0:
        starts = [n] if quiet[n] == 0 else []
    else:
        starts = []
        for s in range(n - k + 1):
            after = s + k
            fits = quiet[s] == 0 and has[s, 0, 1] and passing[after] == passing[s + 1]
            if after < n:
                fits = fits and has[after, 1, 0] and quiet[n] == quiet[after + 1]
            if fits:
                starts.append(s)
    if not starts:
        raise ArithlabError(
            f"domain {str(part)!r} is empty in base {base}: no pair carries like that. Change chain or digits."
        )
    return pairs, np.array(starts)


def seen_digits(part: "Part", place: int, base: int) -> set[int]:
    """Digits that either operand can show at `place`, over all places where the chain can start."""
    pairs, starts = tables(part, base)
    carry_in = (starts < place) & (place <= starts + part.chain)
    carry_out = (starts <= place) & (place < starts + part.chain)
    ways = set(zip(carry_in.tolist(), carry_out.tolist(), strict=True))
    return {int(digit) for cin, cout in ways for digit in np.unique(pairs[place, cin, cout])}


def sample(part: "Part", rng: np.random.Generator, count: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs with such a chain: two uint8 arrays of shape (count, n)."""
    pairs, starts = tables(part, base)
    start = rng.choice(starts, count)
    x, y = np.zeros((2, count, part.n), np.uint8)
    carry_in = np.zeros(count, bool)
    for place in range(part.n):
        carry_out = (start <= place) & (place < start + part.chain)
        for cin in (0, 1):
            for cout in (0, 1):
                rows = np.flatnonzero((carry_in == cin) & (carry_out == cout))
                if len(rows):
                    table = pairs[place, cin, cout]
                    picked = table[rng.integers(len(table), size=len(rows))]
                    x[rows, place], y[rows, place] = picked[:, 0], picked[:, 1]
        carry_in = carry_out
    return x, y
