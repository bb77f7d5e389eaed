"""Tasks against Python's own integers; bad input always ends in an ArithlabError that names it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arithlab.arithmetic import digits as dg
from arithlab.arithmetic.tasks import Task, task
from arithlab.errors import ArithlabError, shorten

PRIMES = (2, 3, 97, 101, 2**31 - 1, 2**61 - 1, 2**89 - 1)
moduli = st.none() | st.integers(2, 60) | st.sampled_from(PRIMES) | st.integers(2**30, 2**99)
tasks = st.builds(Task, st.sampled_from(["add", "mul"]), moduli, st.integers(2, 36))
operands = st.integers(0, 99) | st.integers(0, 10**40)


def exact(t: Task, a: int, b: int) -> int:
    answer = {"add": a + b, "mul": a * b}[t.operation]
    return answer if t.modulus is None else answer % t.modulus


@settings(max_examples=250)
@given(tasks, st.lists(st.tuples(operands, operands), min_size=1, max_size=5), st.integers(0, 3))
def test_answers_equal_those_of_python_integers_on_ints_and_on_digits(t, pairs, zeros_on_top):
    numbers = dg.from_ints([n for pair in pairs for n in pair], t.base)
    numbers = dg.fit_width(numbers, numbers.shape[1] + zeros_on_top)
    answers = t.compute_digits(numbers[::2], numbers[1::2])
    wanted = [exact(t, a, b) for a, b in pairs]
    assert [int(dg.write(row), t.base) for row in answers] == wanted
    assert [t.compute(a, b) for a, b in pairs] == wanted
    assert answers.shape == (len(pairs), t.answer_width(numbers.shape[1]))
    assert answers.max() < t.base


@pytest.mark.parametrize("operation", ["add", "mul"])
@pytest.mark.parametrize("modulus", [None, 51, 2**31 - 1, 2**32 + 15, 2**61 - 1, 2**127 - 1])
@pytest.mark.parametrize("base", [2, 10, 36])
def test_operands_of_1000_digits_are_exact(operation, modulus, base):
    t, symbols = Task(operation, modulus, base), list(dg.SYMBOLS[:base])
    for texts in (np.random.default_rng(base).choice(symbols, (2, 1000)), [[symbols[-1]] * 1000, [symbols[-1]] * 1000]):
        a, b = ("".join(text) for text in texts)
        left, right = t.parse_question(a + t.symbol + b)
        answer = t.compute_digits(left[None], right[None])[0]
        assert int(dg.write(answer), base) == exact(t, int(a, base), int(b, base))


@given(tasks, operands, operands)
def test_the_order_of_the_operands_does_not_matter(t, a, b):
    x, y = dg.from_ints([a, b], t.base)[:, None]
    assert np.array_equal(t.compute_digits(x, y), t.compute_digits(y, x))


@given(tasks)
def test_a_task_written_as_text_reads_back_as_itself(t):
    assert task(str(t)) == t


@given(tasks, operands, operands)
def test_a_question_written_as_text_reads_back_as_itself(t, a, b):
    text = f"{np.base_repr(a, t.base)} {t.symbol} 00{np.base_repr(b, t.base).lower()}\n"
    x, y = t.parse_question(text)
    assert t.write_question(x, y) == f"{np.base_repr(a, t.base)}{t.symbol}{np.base_repr(b, t.base)}".lower()


def test_spaces_around_the_words_of_a_task_do_not_matter():
    assert task("  add \t mod  101   base 7\n") == Task("add", 101, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ad mod 5", "'ad'. Did you mean 'add'?"),
        ("sub", "'sub'. Known: add, mul."),
        ("", "''"),
        ("add mod 0", "modulus 0"),
        ("add mod 1", "modulus 1"),
        ("mul mod -3", "modulus -3"),
        ("add mod", "'add mod'"),
        ("add mod 5.5", "'add mod 5.5'"),
        ("add mod \u0661\u0660", "\u0661\u0660"),
        ("add mod \uff11\uff10", "\uff11\uff10"),
        ("add base 1", "base 1:"),
        ("add base 37", "base 37:"),
        ("add base 7 mod 5", "'add base 7 mod 5'"),
        ("add mod " + "9" * 1_001, "1,000 digits"),
        ("add mod " + "9" * 100_000, "100,008 characters"),
        (None, "None"),
        (True, "True"),
        (b"add", "b'add'"),
        (10**5_000, "int too long to write"),
    ],
    ids=shorten,
)
def test_a_text_that_is_no_task_is_refused_by_name(text, message):
    with pytest.raises(ArithlabError) as error:
        task(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "operation None"),
        ((["add"],), "operation ['add']"),
        (("add", 0), "modulus 0"),
        (("add", True), "modulus True"),
        (("add", 7.0), "modulus 7.0"),
        (("add", -(10**5_000)), "modulus (int too long to write)"),
        (("add", None, 1), "base 1:"),
        (("add", None, 37), "base 37:"),
        (("add", None, None), "base None"),
        (("add", None, 10.0), "base 10.0"),
    ],
    ids=shorten,
)
def test_a_task_of_senseless_parts_is_refused_by_name(arguments, message):
    with pytest.raises(ArithlabError) as error:
        Task(*arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("operand", [-1, True, 1.0, "1", None, float("nan"), np.bool_(True), -(10**5_000)], ids=shorten)
def test_an_operand_that_is_no_whole_number_is_refused(operand):
    for pair in ((operand, 1), (1, operand)):
        with pytest.raises(ArithlabError, match=r"operand .*: allowed are whole numbers from 0"):
            Task("add").compute(*pair)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "''"),
        ("349", "'349'"),
        ("349*705", "'349*705'"),
        ("-1+2", "'-1'"),
        ("1.5+2", "'1.5'"),
        ("1e3+2", "'1e3'"),
        ("1 0+2", "'1 0'"),
        ("+2", "''"),
        ("\u0663+1", "'\u0663'"),
        ("\uff13+1", "'\uff13'"),
        ("\u00b2+1", "'\u00b2'"),
        ("9" * 100_000 + "+1", "100,000 digits"),
        (None, "None"),
        (b"1+2", "b'1+2'"),
    ],
    ids=shorten,
)
def test_a_text_that_is_no_question_is_refused_by_name(question, message):
    with pytest.raises(ArithlabError) as error:
        Task("add").parse_question(question)
    assert message in str(error.value)


def test_a_digit_outside_the_base_is_refused_with_the_allowed_ones():
    with pytest.raises(ArithlabError, match=r"'17' is no number in base 7: write digits from '0123456'"):
        task("add base 7").parse_question("17+2")
