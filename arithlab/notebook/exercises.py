"""Exercises that check themselves: `check("02.1", answer)` says whether an answer is right, and why not.

It never raises: an unfinished answer (None) gets the task's first hint, a wrong one is told what is wrong.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..arithmetic import batches
from ..arithmetic import digits as dg
from ..arithmetic.domains import domain
from ..arithmetic.formula import formula
from ..arithmetic.in_context import modular_regression, posterior, ratio_matching
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


def check(number: str, answer: object) -> None:
    """Print whether the answer to an exercise is right.

    >>> check("01.1", 990_000)
    Exercise 01.1: right. 10^6 pairs of at most 3 digits, less the 10^4 pairs in which both have at most 2.
    """
    right, why = judge(number, answer)
    print(f"Exercise {number}: {'right' if right else 'not yet'}. {why}")


def judge(number: str, answer: object) -> Verdict:
    """Whether an answer is right, and why."""
    if number not in EXERCISES:
        return False, f"There is no such exercise; there are {', '.join(sorted(EXERCISES))}."
    if answer is None or answer is Ellipsis:
        return False, "Replace the placeholder, then run this cell again."
    try:
        return EXERCISES[number](answer)
    except Exception as error:  # the answer may be anything a reader can type
        return False, f"The answer could not be used ({type(error).__name__}: {error})."


def _equals(number: str, right: object, why: str, near: dict | None = None) -> None:
    """An exercise with one right answer; `near` explains particular wrong ones."""

    @exercise(number)
    def judge(answer: object) -> Verdict:
        same = abs(float(answer) - right) < 1e-9 if isinstance(right, float) else answer == right
        if same and isinstance(answer, bool) == isinstance(right, bool):
            return True, why
        known = frozenset(answer) if isinstance(answer, set) else answer
        return False, (near or {}).get(known, f"{answer!r} is not it: look at the hint.")


_equals(
    "01.1",
    990_000,
    "10^6 pairs of at most 3 digits, less the 10^4 pairs in which both have at most 2.",
    {
        1_000_000: "That counts pairs in which neither has 3 digits.",
        810_000: "That is D_ab3: both of exactly 3 digits.",
    },
)
_equals(
    "02.1",
    999,
    "678 + 321: the thousands were never read.",
    {9999: "That is the true sum; the thousands are not read."},
)
_equals(
    "02.2",
    "none",
    "10^4 (A + B) is lost, and A is at least 1: the model cannot be right past its length, not even by accident.",
)
_equals("01.3", 0.45, "45 of the 100 pairs add to 10 or more.")
_equals(
    "03.3",
    0,
    "only a factor 0 makes the units the same for every a.",
    {n: f"with {n} the units of a still decide, though not all of them apart." for n in (2, 4, 5, 6, 8)},
)


def _answers_like(number: str, asked: str, train: str, test: str) -> None:
    """An exercise whose answer is a function of a question: what a model with learned positions is predicted to say."""

    @exercise(number)
    def judge(answer: Callable[[str], str]) -> Verdict:
        t, function = task(asked), predicted_function(task(asked), domain(train), "learned")
        a, b = domain(test).sample(batches.stream(7), 50, t.base)
        for x, y, right in zip(a, b, function(a, b), strict=True):
            question, wanted = t.write_question(x, y), dg.write(right)
            given = answer(question)
            if given != wanted:
                return False, f"for {question} it gives {given!r}, and the model is predicted to answer {wanted!r}."
        return True, f"50 random questions of {test} are answered as predicted."


_answers_like("00.2", "add", "D_4", "D_ab6")
_answers_like("02.3", "add base 7", "D_2", "D_ab4")


@exercise("01.2")
def _even_tens(answer: str) -> Verdict:
    given = domain(answer)
    a, b = given.sample(batches.stream(7), 500, 10)
    if given.digits != 5 or (dg.lengths(a) < 5).any() or (dg.lengths(b) < 5).any():
        return False, "not all numbers have exactly five digits: D_ab5 is the beginning."
    tens = {int(x) for column in (a[:, 1], b[:, 1]) for x in column}
    if tens != {0, 2, 4, 6, 8}:
        return False, f"the tens digits that occur are {sorted(tens)}, wanted are 0, 2, 4, 6, 8."
    return True, "500 samples have five digits and an even tens digit, and all five even digits occur."


@exercise("04.2")
def _six_not_four(answer: int) -> Verdict:
    if 10**6 % answer:
        return False, f"{answer} does not divide 10^6: it does not generalise from six digits."
    if 10**4 % answer == 0:
        return False, f"{answer} divides 10^4 too: it generalises from four digits."
    return True, f"{answer} divides 10^6 and not 10^4."


@exercise("04.3")
def _lucky_pair(answer: tuple[int, int]) -> Verdict:
    a, b = answer
    if not (10**4 <= a < 10**5 and 10**4 <= b < 10**5) or a % 10**4 == 0 or b % 10**4 == 0:
        return False, "both must have five digits and not end in four zeros."
    right = (a % 10**4 + b % 10**4) % 150 == (a + b) % 150
    return right, f"the leading digits add to {a // 10**4 + b // 10**4}, {'a' if right else 'no'} multiple of p' = 3."


@exercise("05.3")
def _worst_head(answer: tuple) -> Verdict:
    given, cut = answer
    worst = cut[cut["part"] == "head"].groupby(["layer", "head"])["exact_match"].first()
    right = tuple(given) in worst.index and worst[tuple(given)] == worst.min()
    left = f"the worst cut leaves {100 * worst.min():.1f} % exact match."
    return bool(right), left if right else "another cut leaves less: see the hint."


@exercise("05.4")
def _first_site(answer: tuple) -> Verdict:
    given, table = answer
    held = table[table["restored"] >= 0.9]
    right = (int(held["layer"].iloc[0]), held["site"].iloc[0], held["label"].iloc[0])
    if tuple(given) == right:
        return True, "from there on the carry is at the token that writes the next digit."
    at = table[(table["layer"] == given[0]) & (table["site"] == given[1]) & (table["label"] == given[2])]
    if at.empty:
        return False, f"the table has no row {given!r}."
    share = at["restored"].iloc[0]
    why = "too little." if share < 0.9 else "but an earlier one restores nine tenths already."
    return False, f"{share:.2f} is restored there, {why}"


@exercise("08.1")
def _tokens_between(answer: Callable[[int], int]) -> Verdict:
    wrong = next((n for n in (1, 3, 5, 1_000) if answer(n) != n + 1), None)
    if wrong is None:
        return True, "n digits and a sign: the distance grows with the length, so no distance in tokens means a place."
    return False, f"for n = {wrong} it gives {answer(wrong)!r}."


@exercise("08.2")
def _carry_from_written(answer: Callable[[int, int, int], int]) -> Verdict:
    for a in range(10):
        for b in range(10):
            for came in (0, 1):
                out, c = divmod(a + b + came, 10)
                if answer(a, b, c) != out:
                    return False, f"for a = {a}, b = {b}, c = {c} it gives {answer(a, b, c)!r}, but the carry is {out}."
    return True, "What was written tells whether a carry came in: nothing further away needs to be seen."


@exercise("08.3")
def _all_carry(answer: str) -> Verdict:
    a, b = task("add").parse_question(answer)
    width = max(len(a), len(b))
    a, b = dg.fit_width(a[None], width), dg.fit_width(b[None], width)
    digits, chain = int(max(dg.lengths(a)[0], dg.lengths(b)[0])), int(dg.longest_chain(a, b, 10)[0])
    if digits != 50:
        return False, f"the longer number has {digits} digits, not 50."
    why = "a carry from the units to the top." if chain == 50 else f"its longest run of carries is {chain}."
    return chain == 50, why


_equals("00.1", 3333, "1111 + 2222: the leading nines are not read.", {183333: "That is the true sum."})
_equals(
    "00.3",
    4,
    "One digit past what it has seen.",
    {3: "Three digits is what it was trained on.", 5: "That is where the model trained on four breaks."},
)
_equals(
    "03.1",
    6,
    "(0,5), (1,4), (2,3), (3,2), (4,1), (5,0).",
    {5: "Count (0,5) and (5,0) both.", 8: "That is the largest number, at place 7."},
)
_equals(
    "03.2",
    {"subtraction", "times one digit"},
    "Both need their own place and a carry from below; the maximum must know the highest digits first.",
)
_equals("04.1", {2, 3, 4, 6, 8, 9, 12, 16, 18}, "They divide 144 = 12^2.")
_equals(
    "05.1",
    {"a2", "b2", "a1", "b1"},
    "Its own place, and place 1 with the written c1 for the carry.",
    {frozenset({"a2", "b2"}): "The carry into place 2 is missing."},
)
_equals(
    "08.4",
    {16, 32, 80},
    "They divide 10^5, so the last five digits decide.",
    {frozenset({16, 32, 64, 80}): "64 = 2^6 divides 10^6 but not 10^5."},
)
_equals("05.2", {9}, "Below 9 there is no carry whatever came before, above 9 there always is one.")
_equals(
    "09.1",
    "reproduced with conditions",
    "Every run of rope is inside, not every one of t5.",
    {"reproduced": "One run of t5 is at 40 %.", "not reproduced": "Every run of rope is inside."},
)
_equals("09.3", (3, 4), "Six are set aside; of the four left one carries on.", {(9, 10): "Six of these never learned."})


@exercise("09.2")
def _largest_rise(answer: Callable) -> Verdict:
    names = ["exact_match_3", "exact_match_6", "exact_match_15"]
    for row, right in (([1.0, 0.5, 0.0], 0), ([0.5, 0.75, 0.25], 25), ([0.0, 0.25, 1.0], 75), ([1.0, 0.0, 0.5], 50)):
        found = float(answer(pd.DataFrame([row, row], columns=names)).iloc[0])
        if abs(found - right) > 1e-9:
            return False, f"for {row} it gives {found:g}, but the largest rise is {right} points."
    return True, "a measure is any function from runs to one number each."


_equals(
    "07.1",
    2,
    "One example leaves p of the p^2 tasks, a second of another ratio leaves one.",
    {1: "One equation, two unknowns: p tasks are left.", 3: "Two are enough, if neither is a multiple of the other."},
)


@exercise("07.2")
def _beyond_ratios(answer: tuple) -> Verdict:
    examples, question = answer
    p = 5
    x, y, z = (np.array([[*side, 0]]) for side in zip(*examples, strict=True))
    x[0, -1], y[0, -1] = question
    if not posterior(x[:, :-1], y[:, :-1], z[:, :-1], p).any():
        return False, "no task agrees with all these examples mod 5."
    if (said := int(ratio_matching(x, y, z, p)[0])) >= 0:
        return False, f"ratio matching answers {said}: one of the examples has the ratio of the question."
    if (said := int(modular_regression(x, y, z, p)[0])) < 0:
        return False, "the examples leave more than one answer open."
    return True, f"only a combination of the examples gives it: z = {said}."


@exercise("07.3")
def _says_nothing_new(answer: tuple) -> Verdict:
    (x, y, z), (u, v, w) = answer
    p = 5
    if (x, y) == (u, v) or not (x or y) or not (u or v):
        return False, "take two different inputs, neither of them (0, 0)."
    x, y, z = (np.array([pair]) for pair in ((x, u), (y, v), (z, w)))
    left = int((posterior(x, y, z, p) > 0).sum())
    return left == p, f"together they leave {left} of the 25 tasks; one example alone leaves 5."


_equals("06.1", 1511, "512 + 999: the higher digits are not read.", {70511: "That is the true sum."})


@exercise("06.2")
def _gap_in_the_tens(answer: str) -> Verdict:
    rng = np.random.default_rng(0)
    a, b = (dg.from_ints(rng.integers(0, 100_000, 200).tolist(), 10, 5) for _ in "ab")
    right = predicted_function(task("add"), domain("D_3[place1=0]"), "learned")(a, b)
    given, wanted = formula(answer)(a, b), dg.to_ints(right, 10)
    for x, y, mine, its in zip(dg.to_ints(a, 10), dg.to_ints(b, 10), dg.to_ints(given, 10), wanted, strict=True):
        if mine != its:
            return False, f"for a = {x}, b = {y} it gives {mine}, and the model is predicted to answer {its}."
    return True, "the hundreds and the units of each, without the tens."


@exercise("06.3")
def _same_class(answer: tuple) -> Verdict:
    (a, b), (c, d) = answer
    if not all(isinstance(x, int) and 0 <= x < 10_000 for x in (a, b, c, d)):
        return False, "write two pairs of whole numbers from 0 to 9,999."
    if abs(a + b - c - d) != 3000:
        return False, f"the true sums differ by {abs(a + b - c - d)}."
    if a % 1000 + b % 1000 != c % 1000 + d % 1000:
        return False, f"{a}+{b} is predicted to be {a % 1000 + b % 1000}, {c}+{d} to be {c % 1000 + d % 1000}."
    return True, "thousands are not read, so three of them more or less change nothing."
