"""Which digits of the question a model's answer digits depend on, by intervention and by regression."""

import numpy as np
import pandas as pd

from ..arithmetic import batches
from ..errors import ArithlabError, shorten
from ..training.answer import answer
from ..training.evaluate import test_domain
from ..training.runs import Run
from .recording import check_addition

NO_DIGIT = -1  # where an answer is too short, or holds a token that is no digit


def digit_reading(run: Run, digits: int, n: int = 300) -> np.ndarray:
    """Share of cases in which the model's answer digit at place k changes when digit j of a is replaced by another.

    The same as `dependence`, which counts it exactly for the task, but measured on the model: n held-out pairs of
    exactly so many digits, each digit of a replaced once. Shape (places of the answer, digits): row k, column j.
    """
    a, b = _pairs(run, digits, n)
    base, rng = run.experiment.base, np.random.default_rng(0)
    changed = [a]
    for place in range(digits):
        other = a.copy()
        other[:, place] = (other[:, place] + rng.integers(1, base, len(a))) % base
        changed.append(other)
    before, *after = _answers(run, np.concatenate(changed), np.tile(b, (digits + 1, 1))).reshape(digits + 1, len(a), -1)
    return np.stack([(one != before).mean(0) for one in after], 1)


def digit_r2(run: Run, digits: int, n: int = 3_000) -> pd.DataFrame:
    """How much of each answer digit the digits of its own place explain, for the model and for the truth.

    R squared, out of sample, of the digit c_k given (a_k + b_k) mod base (`pair`), and given also the carry that the
    digits one place below make by themselves (`pair_and_carry`); the analysis of 2407.17963, with the mean of every
    group as the regression. Columns: of (model or truth), place, pair, pair_and_carry. A digit that never varies has
    nothing to explain: its rows are missing (NaN). Needs a plain addition.
    """
    check_addition(run, "digit_r2")
    a, b = _pairs(run, digits, n)
    base, rows = run.experiment.base, []
    truth = run.experiment.task_.compute_digits(a, b)
    pair = (a.astype(int) + b) % base
    carry = np.pad((a[:, :-1].astype(int) + b[:, :-1]) >= base, ((0, 0), (1, 0)))
    for of, written in (("model", _answers(run, a, b)), ("truth", truth)):
        for place in range(digits):
            c, own = written[:, place].astype(float), pair[:, place]
            shares = _r2(c, own), _r2(c, own + base * carry[:, place])
            rows.append({"of": of, "place": place, "pair": shares[0], "pair_and_carry": shares[1]})
    return pd.DataFrame(rows)


def _r2(values: np.ndarray, groups: np.ndarray) -> float:
    """R squared of a regression on group means, fitted to the first half of the rows and judged on the second.

    >>> _r2(np.array([0.0, 1, 0, 1]), np.array([5, 7, 5, 7]))
    1.0
    """
    half = len(values) // 2
    means = pd.Series(values[:half]).groupby(groups[:half]).mean()
    guessed = pd.Series(groups[half:]).map(means).fillna(values[:half].mean()).to_numpy()
    spread = ((values[half:] - values[half:].mean()) ** 2).sum()
    return float(1 - ((values[half:] - guessed) ** 2).sum() / spread) if spread else float("nan")


def _pairs(run: Run, digits: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out pairs of exactly so many digits; raises ArithlabError where there are too few to say anything."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 2:
        raise ArithlabError(f"n {shorten(n)}: allowed are whole numbers from 2.")
    run.experiment.check_length(digits)
    return batches.held_out_pairs(test_domain("D_ab", digits), run.experiment.base, n)


def _answers(run: Run, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The digits that the model answers, units first: (N, places of the answer)."""
    task = run.experiment.task_
    given = answer(run, [task.write_question(x, y) for x, y in zip(a, b, strict=True)])
    width = task.answer_width(a.shape[1])
    found = np.zeros((len(a), width), np.int64)
    for row, text in enumerate(given):
        digits = [int(c, task.base) if c != "?" else NO_DIGIT for c in reversed(text)][:width]
        found[row, : len(digits)] = digits
    return found
