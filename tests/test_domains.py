"""Domains against brute-force enumeration of all pairs, and against the sizes and shares of the papers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithlab.arithmetic import digits as dg
from arithlab.arithmetic.batches import is_test_pair
from arithlab.arithmetic.domains import Domain, Part, domain
from arithlab.arithmetic.tasks import task
from arithlab.errors import ArithlabError, shorten

SMALL = [
    ("D_1", 10),
    ("D_2", 10),
    ("D_3", 2),
    ("D_3", 3),
    ("D_ab1", 10),
    ("D_ab2", 10),
    ("D_ab3", 4),
    ("D_2[digits=6-9]", 10),
    ("D_3[digits=02]", 4),
    ("D_3[digits=1-2]", 4),
    ("D_ab2[digits=0-4]", 16),
    ("D_2[digits=a-c]", 16),
    ("D_3[place0=0]", 4),
    ("D_ab3[place1=0]", 4),
    ("D_3[place2=13]", 4),
    ("D_3[digits=02,place0=1,place2=3]", 4),
    ("D_3[b=1]", 4),
    ("D_3[b=2,place0=1-2]", 4),
]
CHAINS = [
    ("D_2[chain=0]", 10),
    ("D_2[chain=1]", 10),
    ("D_2[chain=2]", 10),
    ("D_ab2[chain=0]", 10),
    ("D_ab2[chain=2]", 10),
    ("D_4[chain=0]", 2),
    ("D_4[chain=2]", 2),
    ("D_4[chain=4]", 2),
    ("D_ab3[chain=1]", 3),
    ("D_1[chain=1]", 16),
    ("D_3[ripple=2]", 4),
    ("D_2[ripple=2]", 10),
    ("D_3[ripple=0]", 3),
]


def symbols_of(text: str) -> str:
    low, dash, high = text.partition("-")
    return dg.SYMBOLS[dg.SYMBOLS.index(low) : dg.SYMBOLS.index(high) + 1] if dash else text


def chain_of(x: int, y: int, n: int, base: int) -> tuple[int, bool]:
    """How many of the n places of x + y carry, and whether they are neighbours; worked out on integers."""
    carries = "".join("01"[x % base**k + y % base**k >= base**k] for k in range(1, n + 1))
    return carries.count("1"), "1" * carries.count("1") in carries


def only_the_first_carry_is_made(x: int, y: int, n: int, base: int) -> bool:
    """Whether all carries of x + y vanish when the lowest one is taken away."""
    made = [k for k in range(n) if x // base**k % base + y // base**k % base >= base]
    return len(made) <= 1


def brute_force(part: Part, base: int) -> set[tuple[int, int]]:
    """Every pair of a part, from the grammar's words alone."""
    places = dict(part.places)

    def allowed(text: str) -> bool:
        wanted = ((places.get(place, part.digits), symbol) for place, symbol in enumerate(reversed(text)))
        return all(symbols is None or symbol in symbols_of(symbols) for symbols, symbol in wanted)

    texts = [np.base_repr(number, base).lower() for number in range(base**part.n)]
    numbers = [(number, len(text)) for number, text in enumerate(texts) if allowed(text)]
    reach = min if part.both else max
    pairs = {(x, y) for (x, lx), (y, ly) in product(numbers, numbers) if reach(lx, ly) == part.n}
    if part.b is not None:
        pairs = {(x, y) for (x, lx), (y, ly) in product(numbers, numbers) if lx == part.n and ly <= part.b}
    if part.chain is not None:
        pairs = {p for p in pairs if chain_of(*p, part.n, base) == (part.chain, True)}
    return {p for p in pairs if only_the_first_carry_is_made(*p, part.n, base)} if part.ripple else pairs


def as_ints(pairs, base: int) -> list[tuple[int, int]]:
    return list(zip(*(dg.to_ints(side, base) for side in pairs), strict=True))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("text", "size"), [("D_1", 100), ("D_2", 9_900), ("D_3", 990_000), ("D_ab1", 100), ("D_ab2", 8_100)]
)
def test_sizes_are_those_of_the_paper(text, size):
    assert domain(text).count(10) == size


@pytest.mark.parametrize(("text", "base"), SMALL)
def test_listing_and_counting_a_domain_equal_brute_force(text, base):
    d = domain(text)
    listed, wanted = as_ints(d.pairs(base), base), brute_force(d.parts[0], base)
    assert d.count(base) == len(listed) == len(wanted)
    assert set(listed) == wanted


@pytest.mark.parametrize(("text", "base"), [*SMALL, *CHAINS])
def test_sampling_reaches_every_pair_of_the_domain_and_no_other(text, base):
    d = domain(text)
    wanted = brute_force(d.parts[0], base)
    sampled = set(as_ints(d.sample(rng(), 40 * len(wanted), base), base))
    assert sampled <= wanted
    assert len(sampled) > 0.98 * len(wanted)  # D_2 reaches its rarest pairs half as often as the others


@pytest.mark.parametrize(
    ("text", "base"), [*SMALL, *CHAINS, ("D_ab2+D_4[digits=1-2]", 10), ("D_1+D_ab3[place2=7]", 10)]
)
def test_the_digits_said_to_be_seen_are_those_that_sampling_shows(text, base):
    d = domain(text)
    a, b = d.sample(rng(), 20_000, base)
    for place in range(d.digits):
        assert d.seen_digits(place, base) == set(a[:, place].tolist()) | set(b[:, place].tolist())
    assert d.seen_digits(d.digits, base) == {0}


@pytest.mark.parametrize(
    "text", ["D_9[chain=4]", "D_9[chain=0]", "D_9[chain=9]", "D_ab9[chain=1]", "D_12[chain=7,digits=2-9]"]
)
@pytest.mark.parametrize("base", [10, 16])
def test_carry_chains_have_exactly_the_length_asked_for(text, base):
    d = domain(text)
    a, b = d.sample(rng(), 500, base)
    assert {chain_of(x, y, d.digits, base) for x, y in as_ints((a, b), base)} == {(d.parts[0].chain, True)}
    lengths = np.stack([dg.lengths(a), dg.lengths(b)])
    assert (lengths.max(0) == d.digits).all()
    assert (lengths.min(0) == d.digits).all() or not d.parts[0].both


def test_carry_chains_start_at_every_place_where_they_fit():
    a, b = domain("D_9[chain=4]").sample(rng(), 3_000, 10)
    starts = np.argmax(dg.carries(a, b, 10), axis=1)
    assert np.bincount(starts).min() > 0.8 * 3_000 / 6


@pytest.mark.parametrize("text", ["D_4", "D_4[digits=0-9]", "D_4[place0=02468]"])
def test_both_operands_have_n_digits_in_nine_tenths_of_the_pairs(text):
    a, b = domain(text).sample(rng(), 40_000, 10)
    long_a, long_b = dg.lengths(a) == 4, dg.lengths(b) == 4
    assert (long_a | long_b).all()
    assert abs((long_a & long_b).mean() - 0.9) < 0.008  # 5 standard errors
    assert abs(long_a.mean() - 0.95) < 0.006  # the coin that chooses the side is fair
    assert abs(long_b.mean() - 0.95) < 0.006


def test_a_union_draws_its_parts_by_weight():
    a, _ = domain("3*D_ab1+D_ab2+0.5*D_ab7").sample(rng(), 40_000, 10)
    shares = np.bincount(dg.lengths(a), minlength=8)[[1, 2, 7]] / 40_000
    assert np.abs(shares - np.array([3, 1, 0.5]) / 4.5).max() < 0.012
    assert a.shape == (40_000, 7)


def test_the_same_generator_state_gives_the_same_pairs():
    first, again, other = (domain("D_4+D_9[chain=2]").sample(rng(seed), 50, 10) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


digit_sets = st.sampled_from(["0", "6-9", "02468", "13579", "a-f", "z", "1-1"])
options = st.lists(
    st.builds("digits={}".format, digit_sets)
    | st.builds("place{}={}".format, st.integers(0, 30), digit_sets)
    | st.builds("{}={}".format, st.sampled_from(["chain", "ripple"]), st.integers(0, 99)),
    min_size=1, max_size=4, unique_by=lambda option: option.split("=")[0].replace("ripple", "chain"),
)  # fmt: skip
weights = st.sampled_from(["", "2*", "0.5*", "1.0*", "1000000*", "0.00001*", "0.123456789*", "123456.75*"])
parts = st.builds(
    "{}D_{}{}{}".format,
    weights,
    st.sampled_from(["", "ab"]),
    st.integers(1, 20_000),
    st.just("") | st.builds(lambda chosen: f"[{','.join(chosen)}]", options),
)


@given(st.lists(parts, min_size=1, max_size=4).map("+".join))
def test_a_domain_written_as_text_reads_back_as_itself_weights_included(text):
    d = domain(text)
    again = domain(str(d))
    assert again == d
    assert [part.weight for part in again.parts] == [part.weight for part in d.parts]
    assert str(again) == str(d)


def test_a_range_of_lengths_is_short_for_a_union():
    assert str(domain("2*D_1-3[digits=6-9]")) == "2*D_1[digits=6-9]+2*D_2[digits=6-9]+2*D_3[digits=6-9]"
    assert domain("D_ab2-4+D_9") == domain("D_ab2+D_ab3+D_ab4+D_9")


def test_spaces_in_a_domain_do_not_matter_and_a_domain_is_taken_as_it_is():
    d = domain(" 3 * D_4\n+ D_ab5 [ digits = 6-9 , chain = 2 ] ")
    assert str(d) == "3*D_4+D_ab5[digits=6-9,chain=2]"
    assert domain(d) is d
    assert isinstance(d, Domain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "''"),
        ("D", "'D'"),
        ("D_", "'D_'"),
        ("d_4", "'d_4'"),
        ("D_0", "1 to 20,000 digits"),
        ("D_20001", "1 to 20,000 digits"),
        ("D_-4", "'D_-4'"),
        ("D_4.5", "'D_4.5'"),
        ("D_9999999999", "'D_9999999999'"),
        ("D_\u0664", "'D_\u0664'"),
        ("D_\uff14", "'D_\uff14'"),
        ("D_4+", "''"),
        ("D_4++D_5", "''"),
        ("D_4-D_5", "'D_4-D_5'"),
        ("D_5-4", "ranges lowest first"),
        ("D_1-200", "at most 100 lengths"),
        ("D_1-90[digits=0123456789abcdef]", "2,000 characters when written out"),
        ("D_4[chain=1,ripple=2]", "'ripple=2'"),
        ("D_4;import os", "'D_4;importos'"),
        ("0*D_4", "weight must be above 0"),
        ("-1*D_4", "'-1*D_4'"),
        ("nan*D_4", "'nan*D_4'"),
        ("1e9*D_4", "'1e9*D_4'"),
        ("9" * 400 + "*D_4+D_5", "404 characters"),
        ("D_4[", "'D_4['"),
        ("D_4[digits]", "'digits'"),
        ("D_4[digits=]", "'digits='"),
        ("D_4[digits=6-]", "'digits=6-'"),
        ("D_4[digits=A]", "'digits=A'"),
        ("D_4[chain=-1]", "'chain=-1'"),
        ("D_4[chain=1.5]", "'chain=1.5'"),
        ("D_4[place=0]", "'place=0'"),
        ("D_4[colour=3]", "'colour=3'"),
        ("D_4[[digits=1]]", "'D_4[[digits=1]]'"),
        ("+".join(["D_4"] * 1_000), "3,999 characters"),
        (None, "None"),
        (4, "4"),
        (10**5_000, "int too long to write"),
    ],
    ids=shorten,
)
def test_a_text_that_is_no_domain_is_refused_by_name(text, message):
    with pytest.raises(ArithlabError) as error:
        domain(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("D_3[digits=6-9]", 7, "'6-9'"),
        ("D_3[place0=a]", 10, "'a'"),
        ("D_3[digits=9-6]", 10, "'9-6'"),
        ("D_3[place3=1]", 10, "place above its 3 digits"),
        ("D_2[digits=0]", 10, "'D_2[digits=0]' is empty"),
        ("D_ab3[place2=0]", 10, "'D_ab3[place2=0]' is empty"),
        ("D_3[chain=4]", 10, "4 carries does not fit into 3 digits"),
        ("D_ab3[chain=0]", 2, "'D_ab3[chain=0]' is empty"),
        ("D_3[digits=0-4,chain=1]", 10, "'D_3[digits=0-4,chain=1]' is empty"),
        ("D_3[digits=5-9,chain=0]", 10, "'D_3[digits=5-9,chain=0]' is empty"),
        ("D_4+D_2[digits=0]", 10, "'D_2[digits=0]' is empty"),
        ("D_4[b=5]", 10, "b is 1 to 4"),
        ("D_ab4[b=1]", 10, "neither ab nor chain"),
    ],
)
def test_a_domain_without_pairs_is_refused_by_name(text, base, message):
    with pytest.raises(ArithlabError) as error:
        domain(text).check(base)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["D_3", "D_1+D_1", "D_2[chain=1]"])
def test_a_domain_too_large_to_list_says_so(text):
    with pytest.raises(ArithlabError, match="too many pairs to list"):
        domain(text).pairs(10)


def test_the_longest_ripple_holds_the_worst_case():
    a, b = domain("D_4[ripple=4]").sample(rng(), 200_000, 10)
    found = set(as_ints((a, b), 10))
    assert (9999, 1) in found
    assert all(x + y >= 10_000 and x // 10 + y // 10 == 999 for x, y in found)


def test_more_terms_have_digits_of_their_own():
    found = domain("D_3[terms=4]")
    assert str(found) == "D_3[terms=4]"
    assert found.terms == 4
    assert found.count(10) is None
    a, b = found.sample(np.random.default_rng(0), 500, 10)
    assert b.shape == (500, 3, 3)
    assert (dg.lengths(a) == 3).all()
    counts = np.bincount(b.ravel(), minlength=10)
    assert counts.min() > 350  # 450 each on average
    mixed = domain("D_2+D_3[terms=3]")
    a, b = mixed.sample(np.random.default_rng(0), 500, 10)
    assert b.shape == (500, 3, 2)
    two = dg.lengths(a) < 3
    assert not b[two, :, 1].any()


@pytest.mark.parametrize(
    "text", ["D_3[terms=1]", "D_3[terms=11]", "D_ab3[terms=3]", "D_3[terms=3,chain=2]", "D_3[b=1,terms=3]"]
)
def test_terms_that_make_no_sense_are_refused(text):
    with pytest.raises(ArithlabError, match="terms"):
        domain(text).check(10)


def test_sums_of_the_same_terms_in_any_order_are_on_one_side():
    rng = np.random.default_rng(0)
    terms = rng.integers(0, 10, (300, 4, 5)).astype(np.uint8)
    sides = [
        is_test_pair(terms[:, :, order[0]], terms[:, :, order[1:]]) for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2])
    ]
    assert (sides[0] == sides[1]).all()
    assert 10 < sides[0].sum() < 60


def test_a_sum_of_several_terms_is_exact():
    rng = np.random.default_rng(0)
    for terms in (3, 8, 10):
        numbers = [[int(x) for x in rng.integers(0, 10**15, terms)] for _ in range(20)]
        a, *others = (dg.from_ints(column, 10, 15) for column in zip(*numbers, strict=True))
        assert dg.to_ints(task("add").compute_digits(a, np.stack(others, 2)), 10) == [sum(row) for row in numbers]
