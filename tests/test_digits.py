"""Digit arrays against Python's own integers and number texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithlab.arithmetic import digits as dg
from arithlab.errors import ArithlabError, shorten

bases = st.integers(2, 36)
numbers = st.lists(st.integers(0, 99) | st.integers(0, 10**50), min_size=1, max_size=6)


@given(numbers, bases)
def test_integers_digits_and_texts_are_three_writings_of_the_same_number(values, base):
    rows = dg.from_ints(values, base)
    assert dg.to_ints(rows, base) == values
    for value, row in zip(values, rows, strict=True):
        text = np.base_repr(value, base)
        assert dg.write(row) == text.lower()
        assert dg.parse(text, base).tolist() == dg.from_ints([value], base)[0].tolist()
        assert dg.write(dg.parse("000" + text, base)) == text.lower()


@given(numbers, bases)
def test_length_is_that_of_the_written_number(values, base):
    rows = dg.from_ints(values, base, width=180)
    assert dg.lengths(rows).tolist() == [len(np.base_repr(value, base)) for value in values]


@given(numbers, bases, st.integers(1, 200))
def test_fitting_a_width_keeps_the_number_modulo_a_power_of_the_base(values, base, width):
    fitted = dg.fit_width(dg.from_ints(values, base), width)
    assert fitted.shape == (len(values), width)
    assert dg.to_ints(fitted, base) == [value % base**width for value in values]


@given(numbers, bases, st.integers(2, 2**31 - 1) | st.integers(2**31, 2**200))
def test_remainders_equal_those_of_python_and_keep_their_digits(values, base, modulus):
    left = dg.remainder(dg.from_ints(values, base), modulus, base)
    assert left.tolist() == [value % modulus for value in values]
    assert dg.to_ints(dg.from_residues(left, base, 205), base) == left.tolist()


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=6), bases)
def test_carries_and_the_longest_chain_equal_brute_force(pairs, base):
    width = 42
    a, b = (dg.from_ints(column, base, width) for column in zip(*pairs, strict=True))
    found, chains = dg.carries(a, b, base), dg.longest_chain(a, b, base)
    for i, (x, y) in enumerate(pairs):
        brute = [x % base**k + y % base**k >= base**k for k in range(1, width + 1)]
        assert found[i].tolist() == brute
        assert chains[i] == max(map(len, "".join("01"[carry] for carry in brute).split("0")))


def test_carries_do_not_need_operands_of_one_width():
    assert dg.carries(np.array([[9, 9]]), np.array([[1, 0, 9, 1]]), 10).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("", 10, "''"),
        ("12", 2, "'12'"),
        ("g", 16, "'g'"),
        ("-1", 10, "'-1'"),
        ("1_0", 10, "'1_0'"),
        (" 1", 10, "' 1'"),
        ("\u0663", 10, "'\u0663'"),
        ("\uff13", 10, "'\uff13'"),
        ("\u212a", 36, "'\u212a'"),  # the Kelvin sign, whose lower case is an ASCII k
        ("1" * 20_001, 10, "20,001 digits"),
        (None, 10, "None"),
        (12, 10, "12"),
    ],
    ids=shorten,
)
def test_a_text_that_is_no_number_is_refused_by_name(text, base, message):
    with pytest.raises(ArithlabError) as error:
        dg.parse(text, base)
    assert message in str(error.value)


def test_the_longest_number_that_is_allowed_is_read():
    assert dg.parse("1" * dg.MAX_DIGITS, 2).sum() == dg.MAX_DIGITS


def test_a_negative_integer_is_refused_instead_of_dividing_it_for_ever():
    with pytest.raises(ArithlabError, match="number -7"):
        dg.from_ints([3, -7], 10)
