"""In-context tasks: sequences of examples (x, y, z) with z = a x + b y mod p, the task (a, b) never shown.

Source: 2406.02550, section 2 and appendix A. There are p^2 tasks (a, b) and p^2 inputs (x, y). Some of the tasks are
for pre-training, the others for testing; so are some of the inputs, the same ones for every task. A sequence of k + 1
examples is k shots and a question.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import ArithlabError, UnknownName, shorten
from .batches import stream
from .tokens import ROLE, Tokens

RULES = ("rectangular", "random")
SETS = ("id train", "id test", "ood train", "ood test")  # tasks of pre-training or others, inputs likewise
MAX_P, MAX_EXAMPLES = 256, 4_096
MAX_OOD = 256  # tasks kept for testing, as in the paper
TASKS, INPUTS, BATCH, TEST = 10, 11, 12, 13  # random streams of a seed


def is_prime(p: int) -> bool:
    """Whether p is a prime: only then is Z_p a field, and can any ratio be inverted."""
    return p > 1 and all(p % d for d in range(2, int(p**0.5) + 1))


def logarithms(p: int) -> tuple[np.ndarray, int]:
    """Discrete logarithms of 0 ... p - 1 (not a number for 0), and their base, the largest primitive root.

    That root is 27 for p = 29, as in the paper. Multiplying mod p adds them mod p - 1. p must be an odd prime.

    >>> logarithms(5)
    (array([nan,  0.,  3.,  1.,  2.]), 3)
    """
    if not is_prime(p) or p < 3:
        raise ArithlabError(f"p {p} has no logarithms: they need an odd prime, such as 5, 7, 11 or 29.")
    for g in range(p - 1, 0, -1):
        powers = [1]
        while (power := powers[-1] * g % p) != 1:
            powers.append(power)
        if len(powers) == p - 1:
            break
    out = np.full(p, np.nan)
    out[powers] = np.arange(p - 1)
    return out, g


@dataclass(frozen=True, kw_only=True)
class InContext:
    """What sequences are made of. alpha: the share of inputs that training uses. shots: examples before the question.

    rule: how the tasks are chosen; rectangular ones share coefficients: with (a, b) also (a, b'), (a', b), (a', b').
    shared: whether all sequences of a training batch have the same inputs in the same order, without repeats, and each
    task as often as any other; else every sequence draws its own task and its own inputs, independently, so that an
    input may come again. In test sequences none does, so they are no longer than there are inputs.

    >>> made = InContext(p=11, tasks=64, alpha=0.7, shots=15)
    >>> made.batch(seed=0, step=0, count=128).ids.shape
    (128, 48)
    """

    p: int = 29
    tasks: int = 256
    alpha: float = 0.8
    shots: int = 31
    rule: str = "rectangular"
    shared: bool = True

    def __post_init__(self):
        for name, low, high in (("p", 2, MAX_P), ("tasks", 1, None), ("shots", 0, MAX_EXAMPLES - 1)):
            value = getattr(self, name)
            high = high or self.p**2  # known to be a number by now
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ArithlabError(
                    f"{name} {shorten(value)}: allowed are whole numbers from {low} to {high:,}"
                    + (" (there are p^2 tasks)." if name == "tasks" else ".")
                )
        if self.rule not in RULES:
            raise UnknownName("rule", self.rule, RULES)
        if not isinstance(self.shared, bool):
            raise ArithlabError(f"shared {shorten(self.shared)}: allowed are True and False.")
        if not isinstance(self.alpha, (int, float)):
            raise ArithlabError(f"alpha {shorten(self.alpha)}: allowed are numbers between 0 and 1, such as 0.8.")
        if not 0 < self.alpha < 1 or not 0 < round(self.alpha * self.p**2) < self.p**2:
            raise ArithlabError(
                f"alpha {shorten(self.alpha)} leaves no inputs for training or none for testing: allowed are shares "
                f"between {1 / self.p**2:.4f} and {1 - 1 / self.p**2:.4f} for p = {self.p}."
            )

    @lru_cache(maxsize=64)  # noqa: B019 (asked at every step; the keys are small)
    def chosen(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Tasks for pre-training (n, 2), and up to MAX_OOD of the others (m, 2), as pairs (a, b)."""
        rng, p = stream(seed, TASKS), self.p
        inside = _rectangles(p, self.tasks, rng) if self.rule == "rectangular" else rng.permutation(p * p)[: self.tasks]
        outside = rng.permutation(np.setdiff1d(np.arange(p * p), inside))[:MAX_OOD]
        return _pairs(inside, p), _pairs(outside, p)

    @lru_cache(maxsize=64)  # noqa: B019
    def inputs(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of training (n, 2) and of testing (m, 2), as pairs (x, y): one shuffle, whatever the task."""
        order = stream(seed, INPUTS).permutation(self.p**2)
        cut = round(self.alpha * self.p**2)
        return _pairs(order[:cut], self.p), _pairs(order[cut:], self.p)

    def batch(self, seed: int, step: int, count: int) -> Tokens:
        """The training sequences of a step: a pure function of (seed, step)."""
        tasks, inputs, rng = self.chosen(seed)[0], self.inputs(seed)[0], stream(seed, BATCH, step)
        if self.shared:
            each = tasks[np.arange(count) % len(tasks)]
            if count < len(tasks):  # then tasks take turns, at random
                each = tasks[rng.permutation(len(tasks))[:count]]
            order = _orders(rng, 1, len(inputs), self.shots + 1)
        else:
            each = tasks[rng.integers(len(tasks), size=count)]
            order = rng.integers(len(inputs), size=(count, self.shots + 1))
        return self._sequences(each, inputs[order])

    def test(self, which: str, count: int, seed: int = 0) -> Tokens:
        """`count` test sequences: tasks in or out of pre-training (id, ood), inputs of training or testing.

        No input comes twice, for then its answer could be copied: with few inputs the sequences are shorter.
        """
        if which not in SETS:
            raise UnknownName("test set", which, SETS)
        outside, unseen = which.startswith("ood"), which.endswith("test")
        tasks, inputs = self.chosen(seed)[outside], self.inputs(seed)[unseen]
        if not len(tasks):
            raise ArithlabError(f"all {self.p**2} tasks are for pre-training: none is left for {which!r}; take fewer.")
        rng = stream(seed, TEST, SETS.index(which))
        each = tasks[rng.integers(len(tasks), size=count)]
        return self._sequences(each, inputs[_orders(rng, count, len(inputs), min(self.shots + 1, len(inputs)))])

    def _sequences(self, tasks: np.ndarray, xy: np.ndarray) -> Tokens:
        xy = np.broadcast_to(xy, (len(tasks), *xy.shape[1:]))
        return tokens(xy[..., 0], xy[..., 1], answers(tasks, xy, self.p))


def answers(tasks: np.ndarray, inputs: np.ndarray, p: int) -> np.ndarray:
    """z = a x + b y mod p for tasks (N, 2) and inputs (N, K, 2): (N, K).

    >>> answers(np.array([[2, 3]]), np.array([[[1, 1], [4, 0]]]), 7).tolist()
    [[5, 1]]
    """
    return (inputs.astype(np.int64) * tasks[:, None]).sum(-1) % p


def tokens(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Tokens:
    """x, y, z of shape (N, K) as sequences x1 y1 z1 x2 ...: a number is its own token, its place is its shot."""
    N, K = x.shape
    ids = np.stack([x, y, z], -1).reshape(N, 3 * K).astype(np.uint8)
    role = np.tile([ROLE["a"], ROLE["b"], ROLE["c"]], K)[None]
    return Tokens(ids, role, np.repeat(np.arange(K), 3)[None], role == ROLE["c"])


def _orders(rng: np.random.Generator, rows: int, count: int, length: int) -> np.ndarray:
    """Random indices below `count`, (rows, length): none comes again before all have come."""
    rounds = np.tile(np.arange(count), (rows, 1 + (length - 1) // count, 1))
    return rng.permuted(rounds, axis=2).reshape(rows, -1)[:, :length]


def _pairs(numbers: np.ndarray, p: int) -> np.ndarray:
    return np.stack(np.divmod(numbers, p), -1)


def _rectangles(p: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` distinct tasks a p + b from rectangles (a, b), (a, y), (x, b), (x, y), x not a or b, y not a, b or x.

    A rectangle adds the corners that are not there yet. Where p is too small for such x and y, they differ from a
    and b only.
    """
    found: dict[int, None] = {}  # in order
    while len(found) < count:
        a, b, x, y = rng.integers(p, size=4).tolist()
        if x == a or y == b or (p > 4 and (x == b or y in (a, x))):
            continue
        found |= dict.fromkeys((a * p + b, a * p + y, x * p + b, x * p + y))
    return np.array(list(found)[:count])


# What a perfect learner would do: the two algorithms that the paper sees in its models, as exact solvers.


def ratio_matching(x: np.ndarray, y: np.ndarray, z: np.ndarray, p: int) -> np.ndarray:
    """Answers to the last question of each row by a multiple of one example, -1 where there is none: (N,).

    x, y, z: (N, K); z of the last column is not read. If c (x_i, y_i) = (x, y) mod p for some c and i, then z = c z_i.

    >>> ratio_matching(np.array([[1, 2]]), np.array([[3, 6]]), np.array([[4, 0]]), 7).tolist()
    [1]
    """
    c = np.arange(p)[:, None, None]
    fits = (c * x[:, :-1] % p == x[:, -1:]) & (c * y[:, :-1] % p == y[:, -1:])  # (p, N, K - 1)
    found = np.where(fits, c * z[:, :-1] % p, -1)
    return found.max((0, 2), initial=-1)  # all that fit agree


def modular_regression(x: np.ndarray, y: np.ndarray, z: np.ndarray, p: int) -> np.ndarray:
    """Answers to the last question of each row by a combination of the examples, -1 where there is none: (N,).

    That is what every task that agrees with all examples answers, if they answer the same.
    """
    belief = posterior(x[:, :-1], y[:, :-1], z[:, :-1], p) > 0
    a, b = np.indices((p, p))
    z_of_task = (a * x[:, -1, None, None] + b * y[:, -1, None, None]) % p
    low = np.where(belief, z_of_task, p).min((1, 2))
    high = np.where(belief, z_of_task, -1).max((1, 2))
    return np.where(low == high, low, -1)


def posterior(x: np.ndarray, y: np.ndarray, z: np.ndarray, p: int) -> np.ndarray:
    """The exact belief over tasks after the examples (N, K), from a uniform prior: (N, p, p), zero for the excluded.

    >>> posterior(np.array([[1, 0]]), np.array([[0, 1]]), np.array([[2, 3]]), 5)[0, 2, 3].item()
    1.0
    """
    a, b = np.indices((p, p))
    agree = np.ones((len(x), p, p), bool)
    for k in range(x.shape[1]):
        said = (a * x[:, k, None, None] + b * y[:, k, None, None]) % p
        agree &= said == z[:, k, None, None]
    return agree / np.maximum(agree.sum((1, 2), keepdims=True), 1)


SOLVERS = {"ratio matching": ratio_matching, "modular regression": modular_regression}


def accuracy_by_shots(
    solver: str, made: InContext, which: str = "ood test", count: int = 1_000, seed: int = 0
) -> np.ndarray:
    """How often a solver that guesses where it cannot know is right, after 0, 1, ... shots: fractions (K,).

    K: shots + 1, or as many as there are inputs.

    >>> accuracy_by_shots("modular regression", InContext(p=5, tasks=8, shots=8), count=200).round(1)[[0, -1]].tolist()
    [0.2, 1.0]
    """
    if solver not in SOLVERS:
        raise UnknownName("solver", solver, SOLVERS)
    x, y, z = made.test(which, count, seed).ids.reshape(count, -1, 3).astype(np.int64).transpose(2, 0, 1)
    out = []
    for k in range(1, x.shape[1] + 1):
        given = SOLVERS[solver](x[:, :k], y[:, :k], z[:, :k], made.p)
        out.append(np.where(given >= 0, given == z[:, k - 1], 1 / made.p).mean())
    return np.array(out)
