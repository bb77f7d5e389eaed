"""Exercises that check themselves: `check("02.1", answer)` says whether an answer is right, and why not.

It never raises: an unfinished answer (None) gets the task's first hint, a wrong one is told what is wrong.
"""

from collections.abc import Callable

from ..arithmetic import batches
from ..arithmetic import digits as dg
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


_equals("01.1", 990_000, "10^6 pairs of at most 3 digits, less the 10^4 pairs in which both have at most 2.",
        {1_000_000: "That counts pairs in which neither has 3 digits.", 810_000: "That is D_ab3: both of exactly 3 digits."})  # fmt: skip
_equals("02.1", 999, "678 + 321: the thousands were never read.", {9999: "That is the true sum; the thousands are not read."})
_equals("02.2", "none", "10^4 (A + B) is lost, and A is at least 1: the model cannot be right past its length, not even by accident.")


@exercise("02.3")
def _base_seven(answer: Callable[[str], str]) -> Verdict:
    function = predicted_function(task("add base 7"), domain("D_2"), "learned")
    return _same_answers(answer, function, "D_ab4")


def _same_answers(answer: Callable[[str], str], function, test: str) -> Verdict:
    """Whether a function of a question answers 50 questions of a domain as `function` does."""
    t = function.task
    a, b = domain(test).sample(batches.stream(7), 50, t.base)
    for x, y, right in zip(a, b, function(a, b), strict=True):
        question, wanted = t.write_question(x, y), dg.write(right)
        given = answer(question)
        if given != wanted:
            return False, f"for {question} it gives {given!r}, and the model is predicted to answer {wanted!r}."
    return True, f"50 random questions of {test} are answered as predicted."
