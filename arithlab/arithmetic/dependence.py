"""Which input digits decide each answer digit: exact, by changing one digit of every pair of operands."""

import numpy as np

from ..errors import ArithlabError
from .tasks import Task

MAX_PAIRS = 2_000_000


def dependence(task: Task, digits: int) -> np.ndarray:
    """Share of cases in which answer digit k changes when digit j of one operand is replaced by another.

    Over all pairs of operands below base^digits and all replacements. Shape (places of the answer,
    digits): row k, column j; the same for both operands, since the tasks are commutative.

    >>> from arithlab.arithmetic.tasks import task
    >>> dependence(task("add"), 2).round(2).tolist()
    [[1.0, 0.0], [0.37, 1.0], [0.04, 0.37]]
    """
    base, count = task.base, task.base**digits
    if count * count > MAX_PAIRS:
        raise ArithlabError(f"{digits} digits in base {base} make too many pairs to try them all: use fewer digits.")
    numbers = np.arange(count)
    operand = np.stack([numbers // base**place % base for place in range(digits)], 1).astype(np.uint8)
    a, b = np.repeat(operand, count, 0), np.tile(operand, (count, 1))
    before = task.compute_digits(a, b)
    out = np.zeros((before.shape[1], digits))
    for place in range(digits):
        for shift in range(1, base):
            changed = a.copy()
            changed[:, place] = (changed[:, place] + shift) % base
            out[:, place] += (task.compute_digits(changed, b) != before).mean(0)
    return out / (base - 1)
