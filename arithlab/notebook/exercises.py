"""Exercises that check themselves: `check("02.1", answer)` says whether an answer is right, and why not.

It never raises: an unfinished answer (None) gets the task's first hint, a wrong one is told what is wrong.
"""

from collections.abc import Callable

from ..arithmetic import batches
from ..arithmetic.domains import domain
from ..arithmetic.tasks import task
from ..arithmetic.theory import predicted_function

Verdict = tuple[bool, str]
EXERCISES: dict[str, Callable[[object], Verdict]] = {}


def exercise(number: str) -> Callable:
    """Register the check of an exercise: a function from an answer to (right, explanation)."""

    def register(function: Callable[[object], Verdict]) -> Callable[[object], Verdict]:
        EXERCISES[number] = function
        return function

    return register


def check(number: str, answer: object) -> bool:
    """Print whether the answer to an exercise is right, and return it.

    >>> check("01.1", 990_000)
    Exercise 01.1: right. 10^6 pairs of at most 3 digits, less the 10^4 pairs in which both have at most 2.
    True
    """
    if number not in EXERCISES:
        print(f"There is no exercise {number}; there are {', '.join(EXERCISES)}.")
        return False
    if answer is None or answer is Ellipsis:
        print(f"Exercise {number}: not answered yet. Replace the placeholder, then run this cell again.")
        return False
    try:
        right, why = EXERCISES[number](answer)
    except Exception as error:  # the answer may be anything a reader can type
        right, why = False, f"the answer could not be used ({type(error).__name__}: {error})."
    print(f"Exercise {number}: {'right' if right else 'not yet'}. {why}")
    return right


def _equals(number: str, right: object, why: str, near: dict | None = None) -> None:
    """An exercise with one right answer; `near` explains particular wrong ones."""

    @exercise(number)
    def judge(answer: object) -> Verdict:
        if answer == right and isinstance(answer, bool) == isinstance(right, bool):
            return True, why
        return False, (near or {}).get(answer, f"{answer!r} is not it: look at the hint.")
