"""The theory against the paper's printed values, brute-force counts and the functions it predicts."""

import csv
from fractions import Fraction
from itertools import product
from math import gcd
from pathlib import Path

import numpy as np
import pytest

from arithlab import Experiment
from arithlab.arithmetic import digits as dg
from arithlab.arithmetic import theory
from arithlab.arithmetic.domains import domain
from arithlab.arithmetic.tasks import Task, task
from arithlab.arithmetic.theory import PredictedFunction, modular_product_accuracy, predicted_function
from arithlab.errors import ArithlabError

CSV = Path(__file__).parent / "data" / "theorem5_modular_addition.csv"
EXACT = {"add": theory.modular_sum_accuracy, "mul": modular_product_accuracy}


def brute_force(t: Task, n: int, m: int) -> Fraction:
    """The share of pairs of m-digit numbers where cutting both to n digits changes nothing, by trying them all."""
    a = np.arange(t.base ** (m - 1), t.base**m)
    cut, op = a % t.base**n, {"add": np.add, "mul": np.multiply}[t.operation]
    right = op.outer(a, a) % t.modulus == op.outer(cut, cut) % t.modulus
    return Fraction(int(right.sum()), right.size)


def computed(function: PredictedFunction, a: int, b: int, width: int = 12) -> int:
    base = function.task.base
    return dg.to_ints(function(dg.from_ints([a], base, width), dg.from_ints([b], base, width)), base)[0]


def test_theorem_5_reproduces_the_reference_table_to_its_last_digit():
    with CSV.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        t, train = task(f"add mod {row['modulus']}"), domain(f"D_{row['train_digits']}")
        [found] = theory.predict(t, train, "learned", [int(row["test_digits"])])
        assert round(100 * found["predicted_accuracy"], 4) == float(row["exact_percent_on_D_ab"])
        assert round(100 * found["limit_accuracy"], 4) == float(row["limit_percent"])
        assert t.modulus // gcd(t.modulus, 10 ** int(row["train_digits"])) == int(row["p_prime"])
    assert len(rows) == 8 * 9


@pytest.mark.parametrize(("modulus", "percents"), [
    (51, [2.398, 2.504, 2.534, 2.533]),
    (201, [0.609, 0.613, 0.617, 0.618]),
    (101, [0.990, 0.990, 1.000, 1.000]),
    (151, [0.662, 0.662, 0.667, 0.667]),
    (150, [40.77] * 4),
    (50, [100] * 4),
])  # fmt: skip
def test_modular_products_have_the_accuracies_derived_from_the_paper(modulus, percents):
    found = [100 * float(modular_product_accuracy(modulus, 10, 3, m)) for m in (4, 5, 6, 7)]
    assert found == pytest.approx(percents, abs=0.01 if modulus == 150 else 0.001)


def test_the_fraction_printed_in_the_paper_for_products_modulo_51_is_met_exactly():
    assert modular_product_accuracy(51, 10, 3, 4) == Fraction(1942585, 81000000)


@pytest.mark.parametrize(("p", "base", "n", "m"), [
    (7, 10, 1, 2), (7, 10, 1, 3), (51, 10, 1, 3), (150, 10, 1, 3), (150, 10, 2, 3), (100, 10, 1, 3), (100, 10, 2, 3),
    (3, 2, 3, 9), (12, 2, 1, 9), (12, 2, 2, 9), (1000, 2, 5, 10), (9, 3, 1, 5), (6, 3, 2, 6), (49, 7, 1, 3),
    (97, 16, 1, 2), (48, 16, 1, 2), (35, 36, 1, 2), (2, 10, 1, 2), (2**20, 2, 3, 9),
])  # fmt: skip
@pytest.mark.parametrize("operation", ["add", "mul"])
def test_exact_accuracies_equal_brute_force_counts(operation, p, base, n, m):
    t = Task(operation, p, base)
    if operation == "mul" and p > theory.MAX_ENUMERATED_MODULUS:
        found, tolerance = PredictedFunction(t, n).accuracy(m), 0.01
    else:
        found, tolerance = EXACT[operation](p, base, n, m), 0
    assert abs(found - brute_force(t, n, m)) <= tolerance


@pytest.mark.parametrize(("p", "base", "n"), [
    (51, 10, 3), (150, 10, 4), (101, 10, 1), (100, 10, 1), (200, 10, 4), (12, 10, 1), (7, 2, 2), (96, 2, 3), (9, 3, 1),
    (97, 16, 2), (48, 36, 1), (330, 7, 2),
])  # fmt: skip
@pytest.mark.parametrize("operation", ["add", "mul"])
def test_the_accuracy_tends_to_the_limit(operation, p, base, n):
    function = PredictedFunction(Task(operation, p, base), n)
    far = n + 45  # base^40 is far above p even in base 2
    assert float(EXACT[operation](p, base, n, far)) == pytest.approx(function.limit(), abs=1e-9)
    assert function.accuracy(far) == pytest.approx(function.limit(), abs=1e-9)
    if operation == "add":
        assert function.limit() == pytest.approx(gcd(p, base**n) / p, rel=1e-12)
    else:
        assert function.limit() >= gcd(p, base**n) / p * (1 - 1e-12)


@pytest.mark.parametrize(("p", "base", "n"), [(7, 10, 1), (12, 10, 1), (6, 7, 1), (9, 2, 3), (15, 2, 4), (14, 2, 2)])
def test_the_limit_of_products_is_that_of_uniform_high_parts(p, base, n):
    scale = base**n
    highs, lows = range(p), range(scale)
    hits = sum(
        (high_a * scale + low_a) * (high_b * scale + low_b) % p == low_a * low_b % p
        for high_a, high_b, low_a, low_b in product(highs, highs, lows, lows)
    )
    assert PredictedFunction(Task("mul", p, base), n).limit() == pytest.approx(hits / (p * scale) ** 2, rel=1e-12)


def test_the_limit_of_products_for_moduli_too_large_to_count():
    def of_prime(q: int) -> Fraction:  # pairs of operands both divisible by q, or a high part pair that fits
        return Fraction(q * q + q - 1, q**3)

    for primes in ([1511], [37, 41], [2, 5, 1511], [99991, 99989]):
        modulus = int(np.prod(primes, dtype=object))
        wanted = np.prod([of_prime(q) for q in primes if q not in (2, 5)], dtype=object)
        assert PredictedFunction(Task("mul", modulus), 4).limit() == pytest.approx(float(wanted), rel=1e-12)
    assert PredictedFunction(Task("mul", 2**61 - 1), 4).limit() is None
    assert PredictedFunction(Task("add", 2**61 - 1), 4).limit() == 1 / (2**61 - 1)


def test_accuracies_of_very_long_operands_are_worked_out_exactly():
    for operation in ("add", "mul"):
        function = PredictedFunction(Task(operation, 51), 4)
        assert function.accuracy(1_000) == pytest.approx(function.limit(), rel=1e-9)


@pytest.mark.parametrize(
    ("text", "train", "positions", "wanted"),
    [
        ("add", "D_4", "learned", "(a mod 10^4) + (b mod 10^4)"),
        ("add", "D_4", "none", "(a mod 10^4) + (b mod 10^4)"),
        ("add", "D_4+D_ab6", "sinusoidal", "(a mod 10^6) + (b mod 10^6)"),
        ("add", "D_4", "rope", "a + b"),
        ("add base 7", "D_4", "learned", "(a mod 7^4) + (b mod 7^4)"),
        ("mul", "D_3", "learned", "(a mod 10^3) * (b mod 10^3)"),
        ("mul", "D_3", "t5", "(a mod 10^3) * (b mod 10^3)"),
        ("add mod 101", "D_4", "learned", "((a mod 10^4) + (b mod 10^4)) mod 101"),
        ("add mod 101", "D_4", "shaw", "((a mod 10^4) + (b mod 10^4)) mod 101"),
        ("add mod 200", "D_4", "learned", "(a + b) mod 200"),
        ("add mod 200", "D_2", "learned", "((a mod 10^2) + (b mod 10^2)) mod 200"),
        ("mul mod 100", "D_3", "alibi", "(a * b) mod 100"),
        ("mul mod 64 base 2", "D_6", "learned", "(a * b) mod 64"),
        ("mul mod 64 base 2", "D_5", "learned", "((a mod 2^5) * (b mod 2^5)) mod 64"),
        ("add", "D_3[place0=0]", "learned", "(a mod 10^3, place 0 = 0) + (b mod 10^3, place 0 = 0)"),
        ("add", "D_3[place1=0]", "rope", "(a mod 10^3, place 1 = 0) + (b mod 10^3, place 1 = 0)"),
        ("add mod 10", "D_3[place0=5]", "none", "((a mod 10^3, place 0 = 5) + (b mod 10^3, place 0 = 5)) mod 10"),
        ("add", "D_3[digits=6-9]", "rope", "a + b"),
        ("add base 2", "D_ab4", "learned", "(a mod 2^4, place 3 = 1) + (b mod 2^4, place 3 = 1)"),
        ("add base 2", "D_1[chain=1]", "learned", "(a mod 2^1, place 0 = 1) + (b mod 2^1, place 0 = 1)"),
    ],
)
def test_the_predicted_function_is_named(text, train, positions, wanted):
    assert str(predicted_function(task(text), domain(train), positions)) == wanted


@pytest.mark.parametrize(
    ("text", "train", "positions", "read"),
    [
        ("add", "D_3", "learned", lambda x: x % 1000),
        ("mul", "D_3", "rope", lambda x: x % 1000),
        ("add mod 101 base 7", "D_2", "rope", lambda x: x % 49),
        ("add", "D_3[place0=0]", "learned", lambda x: x % 1000 // 10 * 10),  # 2308.08268, eq. (1)
        ("mul", "D_3[place1=0]", "learned", lambda x: x % 1000 // 100 * 100 + x % 10),  # eq. (2)
        ("add", "D_ab3[place2=5]", "learned", lambda x: 500 + x % 100),
        ("add base 2", "D_ab4", "learned", lambda x: 8 + x % 8),
        ("add", "D_3", "rope", lambda x: x),
        ("mul mod 1000", "D_3", "none", lambda x: x),
    ],
)
def test_the_predicted_function_reads_operands_as_the_theory_says(text, train, positions, read):
    t = task(text)
    function = predicted_function(t, domain(train), positions)
    for a, b in np.random.default_rng(0).integers(0, 99_999, (50, 2)).tolist():
        assert computed(function, a, b, 20) == t.compute(read(a), read(b))
    short = [computed(function, 1, 0, width) for width in (1, 2, 9)]
    assert short == [t.compute(read(1), read(0))] * 3  # zeros on top change nothing


def test_the_predicted_function_makes_the_mistakes_printed_in_paper_2():
    add, mul = (predicted_function(task(text), domain("D_3"), "learned") for text in ("add", "mul"))
    assert [computed(add, 349, 705), computed(add, 1349, 2705)] == [1054, 1054]
    assert [computed(mul, 128, 256), computed(mul, 3128, 4256)] == [32768, 32768]


@pytest.mark.parametrize(
    ("text", "train", "positions"),
    [
        ("add", "D_4", "learned"),
        ("add", "D_4", "rope"),
        ("mul", "D_2", "rope"),
        ("add mod 150", "D_3", "learned"),
        ("add mod 6 base 3", "D_2", "alibi"),
        ("mul mod 51", "D_3", "learned"),
        ("mul mod 12 base 2", "D_3", "learned"),
        ("mul mod 3000", "D_2", "learned"),
        ("add mod 7", "D_3[place0=0]", "learned"),
        ("mul mod 4", "D_3[place1=2]", "rope"),
        ("mul mod 30", "D_3[place0=0]", "learned"),
        ("add", "D_3[place0=0]", "learned"),
        ("mul", "D_3[place2=0-1]", "learned"),
        ("add mod 5 base 2", "D_ab4", "learned"),
    ],
)
@pytest.mark.parametrize("digits", [2, 3, 4, 7])
def test_the_predicted_accuracy_is_how_often_the_predicted_function_is_right(text, train, positions, digits):
    t, count = task(text), 20_000
    function = predicted_function(t, domain(train), positions)
    a, b = domain(f"D_ab{digits}").sample(np.random.default_rng(5), count, t.base)
    a, b = dg.fit_width(a, 9), dg.fit_width(b, 9)
    measured = (function(a, b) == t.compute_digits(a, b)).all(1).mean()
    expected = function.accuracy(digits)
    assert abs(measured - expected) <= 6 * np.sqrt(expected * (1 - expected) / count) + 1e-4


def test_gaps_leave_the_limit_open_where_a_modulus_makes_it_depend_on_the_unread_digits():
    plain, modular = (
        theory.predict(task(text), domain("D_4[place0=0]"), "learned", [9])[0] for text in ("add", "add mod 4")
    )
    assert plain["limit_accuracy"] == plain["predicted_accuracy"] == 0
    assert modular["limit_accuracy"] is None
    assert modular["predicted_accuracy"] == pytest.approx(0.25, abs=0.01)


def test_predictions_come_one_per_length_in_the_order_asked_for():
    rows = theory.predict(task("add"), domain("D_4"), "learned", [9, 1, 4, 5])
    assert [row["digits"] for row in rows] == [9, 1, 4, 5]
    assert [row["predicted_accuracy"] for row in rows] == [0, 1, 1, 0]


def test_unknown_positions_and_impossible_domains_are_refused_by_name():
    with pytest.raises(ArithlabError, match=r"unknown positions 'ropes'\. Did you mean 'rope'\?"):
        predicted_function(task("add"), domain("D_4"), "ropes")
    with pytest.raises(ArithlabError, match="'6-9'"):
        predicted_function(task("add base 7"), domain("D_4[digits=6-9]"), "rope")


@pytest.mark.parametrize(
    ("text", "train", "positions", "fmt", "invariant", "because"),
    [
        ("add", "D_1-5", "clipped places window 1", "aligned", True, "a window hides the rest"),
        ("add", "D_1-5", "clipped places", "aligned", True, "attention may spread"),
        ("add", "D_1-5", "rope places", "unpadded", True, "attention may spread"),
        ("add", "D_1-5", "rope", "aligned", False, "distance in tokens"),
        ("add", "D_1-5", "clipped window 1", "aligned", False, "distance in tokens"),
        ("add", "D_1-5", "rope", "padded 40", True, "equally far apart in tokens"),
        ("add", "D_1-5", "fire", "padded 40", True, "equally far apart in tokens"),
        ("add", "D_1-5", "fire randomized", "padded 40", False, "random gaps"),
        ("add", "D_1-5", "learned places", "aligned", False, "never seen"),
        ("add", "D_1-5", "none", "aligned", False, "never seen"),
        ("add", "D_1-5", "coupled", "aligned", True, "random offsets"),
        ("add", "D_1-5", "abacus", "aligned", True, "random offsets"),
        ("mul", "D_1-5", "clipped places window 1", "aligned", False, "digits at every distance"),
        ("mul", "D_1-5[b=1]", "clipped places window 1", "aligned repeated", True, "same at every place"),
        ("mul", "D_1-5[b=1]", "sinusoidal", "aligned repeated", False, "never seen"),
        ("add mod 101", "D_ab1-5", "clipped places window 1", "aligned", False, "depends on its place"),
        ("add mod 101", "D_ab1-5", "clipped places window 1", "remainders", True, "same at every place"),
        ("add mod 101", "D_ab1-5", "rope", "remainders", False, "distance in tokens"),
        ("add mod 100", "D_ab1-5", "learned", "aligned", False, "never seen"),
        ("add mod 100", "D_ab1-5", "learned places", "aligned", True, "the last 5 digits decide"),
        ("mul", "D_1-5", "grid window 2", "schoolbook", True, "a window hides the rest"),
        ("mul", "D_1-5", "clipped places window 2", "schoolbook", False, "do not tell rows apart"),
        ("add", "D_4[place0=0]", "clipped places window 1", "aligned", False, "never varies"),
        ("add", "D_1-5", "clipped places window 0", "aligned", False, "window of 0 does not show"),
        ("add mod 100", "D_1-5", "coupled window 0", "aligned", False, "window of 0 does not show"),
        ("mul", "D_1-5[b=1]", "clipped places window 0", "aligned repeated", False, "window of 0 does not show"),
        ("add mod 101", "D_ab1-5", "clipped places window 0", "remainders", False, "window of 0 does not show"),
        ("mul", "D_1-5", "grid window 0", "schoolbook", False, "window of 0 does not show"),
        ("add", "D_1-5", "clipped window 1", "padded 9", False, "20 tokens away"),
        ("add", "D_1-5", "clipped window 9", "padded 9", False, "20 tokens away"),
        ("add", "D_1-5", "clipped window 10", "padded 9", True, "equally far apart in tokens"),
        ("mul mod 100", "D_1-5", "rope window 1", "padded 9", False, "tokens away"),
        ("mul", "D_4", "rope window 15", "p1", False, "61 tokens away"),
        ("add", "D_1-5", "abacus window 1", "aligned", False, "no place"),
        ("mul", "D_1-5", "coupled", "schoolbook", False, "do not tell rows apart"),
        ("mul", "D_1-5", "abacus", "schoolbook", False, "do not tell rows apart"),
        ("add", "D_1-5", "coupled", "sums", False, "do not tell rows apart"),
        ("add mod 101", "D_1-5", "abacus", "remainders", False, "abacus gives signs and scratchpads no place"),
        ("add mod 101", "D_1-5", "coupled", "remainders", True, "random offsets"),
        ("add mod 100", "D_1-5", "learned places", "remainders", False, "never seen"),
        ("add mod 100", "D_1-5", "clipped places window 1", "remainders", True, "same at every place"),
        ("add", "D_1-5", "clipped places window 1", "aligned answer high", False, "6 places away"),
        ("add", "D_1-5", "clipped places window 3", "aligned answer high", False, "highest digit first, a carry"),
        ("add", "D_1-5", "clipped places", "aligned answer high", False, "highest digit first, a carry"),
        ("add mod 100", "D_1-5", "clipped places", "aligned answer high", True, "the last 5 digits decide"),
        ("add", "D_4[b=1]", "learned", "padded 9", False, "never varies"),
        ("add", "D_4[b=1]", "clipped places window 1", "aligned", False, "never varies"),
        ("add mod 10", "D_4[b=1]", "learned", "padded 9", True, "the last 4 digits decide"),
    ],
)
def test_invariance_is_told_with_its_reason(text, train, positions, fmt, invariant, because):
    found, reason = theory.invariance(task(text), domain(train), positions, fmt)
    assert found == invariant
    assert because in reason
    [row] = theory.predict(task(text), domain(train), positions, [9], fmt)
    assert row["reason"] == reason
    assert (row["predicted_accuracy"] == 1) == invariant


@pytest.mark.parametrize(
    ("positions", "fmt", "computes", "at_training_length"),
    [
        ("clipped places window 0", "aligned", "a guess", 0),
        ("clipped window 1", "padded 9", "a guess", 0),
        ("clipped window 3", "aligned", "a guess past 2 digits", 0),  # the = is 2 n + 2 tokens after the units of a
        ("clipped window 6", "aligned", "a guess past 5 digits", 1),
        ("clipped places window 1", "aligned answer high", "a guess past 1 digits", 0),
        ("clipped places window 3", "aligned answer high", "a guess past 5 digits", 1),
        ("learned", "padded 9 answer high", "(a mod 10^5) + (b mod 10^5)", 1),
        ("coupled", "sums", "a guess past 5 digits", 1),
    ],
)
def test_where_the_model_cannot_tell_what_to_read_its_answer_is_a_guess(positions, fmt, computes, at_training_length):
    function = predicted_function(task("add"), domain("D_1-5"), positions, fmt)
    assert str(function) == computes
    assert [function.accuracy(digits) for digits in (5, 6, 1000)] == [at_training_length, 0, 0]


def test_scratchpads_at_places_never_seen_are_a_guess_whatever_the_modulus():
    for modulus in (100, 101):
        t = task(f"add mod {modulus}")
        function = predicted_function(t, domain("D_1-5"), "learned places", "remainders")
        assert [function.accuracy(5), function.accuracy(9), function.limit()] == [1, 1 / modulus, 1 / modulus]


@pytest.mark.parametrize(
    ("text", "train", "positions", "wanted"),
    [
        ("add", "D_4[b=1]", "learned", "(a mod 10^4) + (b mod 10^1)"),
        ("add", "D_4[b=1]", "rope", "a + (b mod 10^1)"),
        ("add", "D_4[b=1]+D_ab2", "rope", "a + (b mod 10^2)"),
        ("add", "D_4[b=4]", "rope", "a + b"),
        ("mul", "D_3[b=2]", "learned", "(a mod 10^3) * (b mod 10^2)"),
        ("add mod 100", "D_4[b=1]", "learned", "(a + (b mod 10^1)) mod 100"),
        ("add mod 7", "D_4[b=1]", "learned", "((a mod 10^4) + (b mod 10^1)) mod 7"),
        ("add mod 10", "D_4[b=1]", "learned", "(a + b) mod 10"),
        ("add base 2", "D_ab4+D_5[b=1]", "learned", "(a mod 2^5) + (b mod 2^4)"),
    ],
)
def test_of_a_second_operand_that_was_always_short_only_the_places_seen_are_read(text, train, positions, wanted):
    t = task(text)
    function = predicted_function(t, domain(train), positions)
    assert str(function) == wanted
    for digits in (1, 2, 3, 6):
        a, b = domain(f"D_ab{digits}").sample(np.random.default_rng(3), 5_000, t.base)
        a, b = dg.fit_width(a, 9), dg.fit_width(b, 9)
        measured = (function(a, b) == t.compute_digits(a, b)).all(1).mean()
        assert function.accuracy(digits) == pytest.approx(measured, abs=0.03)
    own = domain(train).sample(np.random.default_rng(4), 1_000, t.base)
    assert (function(*own) == t.compute_digits(*own)).all()


def test_a_product_whose_second_operand_is_written_as_one_digit_is_read_whole():
    function = predicted_function(task("mul"), domain("D_1-5[b=1]"), "clipped places window 1", "aligned repeated")
    assert (str(function), function.accuracy(1000)) == ("a * b", 1)


def test_operands_that_the_format_has_no_room_for_have_no_prediction():
    with pytest.raises(ArithlabError, match="operands of 12 digits do not fit"):
        theory.predict(task("add"), domain("D_12"), "rope", [9], "padded 9")


def test_a_format_that_does_not_fit_the_task_has_no_prediction():
    with pytest.raises(ArithlabError, match="remainders"):
        theory.predict(task("add"), domain("D_4"), "rope", [9], "remainders")


def test_a_prediction_depends_on_the_format_of_the_experiment():
    e = Experiment(task="add mod 101", train="D_ab1-5", positions="clipped places window 1", format="remainders")
    assert str(e.predicted) == "(a + b) mod 101"
    assert str(e.with_(format="aligned").predicted) == "((a mod 10^5) + (b mod 10^5)) mod 101"
    assert str(e.with_(positions="rope").predicted) == "a guess past 5 digits"
    assert e.with_(positions="rope", task="add mod 100", format="aligned").predicted.accuracy(6) == 1 / 100
