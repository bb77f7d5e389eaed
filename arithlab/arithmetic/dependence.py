"""Which input digits decide each answer digit: exact, by changing one digit of every pair of operands."""

import numpy as np

from ..errors import ArithlabError
from .tasks import Task

MAX_PAIRS = 2_000_000


def dependence(task: Task, digits: int, other_digits: int | None = None) -> np.ndarray:
    """Share of cases in which answer digit k changes when digit j of operand a is replaced by another.

    Over all a below base^digits, all b below base^other_digits (the same length by default) and all
    replacements. Shape (places of the answer, digits): row k, column j.

    >>> from arithlab.arithmetic.tasks import task
    >>> dependence(task("add"), 2).round(2).tolist()
    [[1.0, 0.0], [0.37, 1.0], [0.04, 0.37]]
    """
    base = task.base
    other_digits = digits if other_digits is None else other_digits
    if base ** (digits + other_digits) > MAX_PAIRS:
        raise ArithlabError(f"{digits} digits in base {base} make too many pairs to try them all: use fewer digits.")

    def numbers(length: int) -> np.ndarray:
        return np.stack([np.arange(base**length) // base**place % base for place in range(digits)], 1).astype(np.uint8)

    a, b = np.repeat(numbers(digits), base**other_digits, 0), np.tile(numbers(other_digits), (base**digits, 1))
    before = task.compute_digits(a, b)
    out = np.zeros((before.shape[1], digits))
    for place in range(digits):
        for shift in range(1, base):
            changed = a.copy()
            changed[:, place] = (changed[:, place] + shift) % base
            out[:, place] += (task.compute_digits(changed, b) != before).mean(0)
    return out / (base - 1)
