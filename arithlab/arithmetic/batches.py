"""Training and test pairs: pure functions of (seed, step), and never the same pair in both."""

import numpy as np

from ..errors import ArithlabError
from .domains import ENUMERABLE, Domain
from .formats import Format
from .tasks import Task
from .tokens import Tokens

TEST_SHARE = 10  # one pair in TEST_SHARE is kept for testing, whatever the domain and the seed
TRAIN, POOL, TEST = 0, 1, 2  # random streams of a seed

BLOCK_STEPS, BLOCK_TOKENS = 64, 2**22  # batches made at once: at most so many steps, and so many tokens

Pairs = tuple[np.ndarray, np.ndarray]


def stream(seed: int, *key: int) -> np.random.Generator:
    """The random generator of (seed, key): independent streams, nothing to remember between steps."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def is_test_pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a pair belongs to the test side: bool, shape (N,).

    A hash of the numbers decides, so that a pair, its commuted twin and the same pair with
    leading zeros are always on the same side, in every domain and for every seed.

    >>> from arithlab.arithmetic.digits import from_ints
    >>> a, b = from_ints([349], 10), from_ints([705], 10)
    >>> bool(is_test_pair(a, b)[0] == is_test_pair(from_ints([705], 10, width=5), a)[0])
    True
    """
    numbers = [a, *([b] if b.ndim == 2 else np.moveaxis(b, 2, 0))]
    mixed = _mix(sum(_mix(_fingerprint(number)) for number in numbers))
    return mixed % np.uint64(TEST_SHARE) == 0


def train_pairs(
    domain: Domain, base: int, count: int, seed: int, step: int, pool: Pairs | None = None, one_part: bool = False
) -> Pairs:
    """The training pairs of one step: two arrays (count, digits). With a pool, drawn from it with replacement.

    one_part: all pairs of a step are of one member of the union, chosen by weight.
    """
    rng = stream(seed, TRAIN, step)
    if pool is not None:
        rows = rng.integers(len(pool[0]), size=count)
        return pool[0][rows], pool[1][rows]
    if one_part:
        weights = np.array([part.weight for part in domain.parts])
        domain = Domain((domain.parts[rng.choice(len(weights), p=weights / weights.sum())],))
    return _draw(domain, base, count, rng, test=False)


class TrainingBatches:
    """The encoded training batches of one seed, drawn and written many steps at a time.

    A batch is a pure function of (seed, step) all the same: which block a step belongs to depends on nothing else.
    """

    def __init__(self, task: Task, domain: Domain, format_: Format, count: int, seed: int, pairs: int | None = None):
        self.task, self.domain, self.format, self.count, self.seed = task, domain, format_, count, seed
        self.pool = None if pairs is None else train_pool(domain, task.base, pairs, seed)
        tokens = count * format_.length(task, domain.digits)
        # where examples of one length share a layout, every step has a length of its own
        self.steps = 1 if format_.by_length else max(1, min(BLOCK_STEPS, BLOCK_TOKENS // tokens))
        self.block, self.tokens = -1, None

    def __call__(self, step: int) -> Tokens:
        """The batch of a step; arrays of shape (count, T), or (1, T) where all rows agree."""
        block, k = divmod(step, self.steps)
        if block != self.block:
            rows = self.count * self.steps
            drawn = (self.domain, self.task.base, rows, self.seed, block, self.pool, self.format.by_length)
            self.block, self.tokens = block, self.format.encode(self.task, *train_pairs(*drawn))
        return self.tokens.rows(slice(k * self.count, (k + 1) * self.count))


def train_pool(domain: Domain, base: int, count: int, seed: int) -> Pairs:
    """`count` distinct training pairs: a data set of limited size."""
    rng = stream(seed, POOL)
    a, b = _draw(domain, base, count, rng, test=False)
    for _ in range(50):
        keep = np.sort(np.unique(np.concatenate([a, b.reshape(len(b), -1)], 1), axis=0, return_index=True)[1])
        a, b = a[keep], b[keep]
        if len(a) >= count:
            return a[:count], b[:count]
        more = _draw(domain, base, count, rng, test=False)
        a, b = np.concatenate([a, more[0]]), np.concatenate([b, more[1]])
    raise ArithlabError(f"domain {str(domain)!r} does not hold {count:,} distinct training pairs: ask for fewer.")


def held_out_pairs(domain: Domain, base: int, count: int, seed: int = 0) -> Pairs:
    """Test pairs of a domain: all of them where the domain is small, else `count` random ones."""
    domain.check(base)
    total = domain.count(base)
    if total is not None and total <= ENUMERABLE:
        a, b = domain.pairs(base)
        test = is_test_pair(a, b)
        if not test.any():
            raise ArithlabError(
                f"domain {str(domain)!r} has no test pair (it has {total} pairs in all): use a larger one."
            )
        rows = np.flatnonzero(test)
        if len(rows) > count:
            rows = np.sort(stream(seed, TEST).choice(rows, count, replace=False))
        return a[rows], b[rows]
    return _draw(domain, base, count, stream(seed, TEST), test=True)


def _draw(domain: Domain, base: int, count: int, rng: np.random.Generator, test: bool) -> Pairs:
    share = 1 / TEST_SHARE if test else 1 - 1 / TEST_SHARE
    found: list[Pairs] = []
    have = 0
    for _ in range(50):
        a, b = domain.sample(rng, int((count - have) / share * 1.05) + 32, base)
        keep = np.flatnonzero(is_test_pair(a, b) == test)[: count - have]
        found.append((a[keep], b[keep]))
        have += len(keep)
        if have == count:
            return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])
    side = "test" if test else "training"
    raise ArithlabError(f"domain {str(domain)!r} has almost no {side} pairs in base {base}: use a larger domain.")


def _fingerprint(digits: np.ndarray) -> np.ndarray:
    """A 64-bit polynomial hash of each number; leading zeros do not change it."""
    out = np.zeros(len(digits), np.uint64)
    factor = np.uint64(0x9E3779B97F4A7C15)
    for place in range(digits.shape[1] - 1, -1, -1):
        out = out * factor + digits[:, place].astype(np.uint64)
    return out


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
