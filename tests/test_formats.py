"""Formats: the papers' token strings, what every token stands for, and what may be learned from it."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arithlab.arithmetic import digits as dg
from arithlab.arithmetic.formats import Format, format_
from arithlab.arithmetic.tasks import Task, task
from arithlab.arithmetic.tokens import ANY, ROLE, Tokens
from arithlab.errors import ArithlabError, shorten

orders = st.sampled_from(["", " operands high", " answer high", " operands high answer high"])
formats = (
    st.builds("padded {}{}".format, st.integers(1, 12), orders)
    | st.builds("unpadded{}".format, orders)
    | st.builds("aligned{}".format, orders)
    | st.just("p1")
    | st.builds("p2 {}".format, st.integers(1, 12))
).map(format_)
moduli = st.none() | st.integers(2, 200) | st.integers(2**64, 2**66)
tasks = st.builds(Task, st.sampled_from(["add", "mul"]), moduli, st.integers(2, 36))
nine_digits = st.integers(0, 99) | st.integers(0, 10**9)
operands = st.lists(st.tuples(*[st.integers(0, 99) | st.integers(0, 10**12)] * 2), min_size=1, max_size=4)


def encode(fmt: Format, t: Task, pairs, answers=None) -> Tokens:
    a, b = (dg.from_ints(column, t.base) for column in zip(*pairs, strict=True))
    width = max(a.shape[1], b.shape[1])
    answers = None if answers is None else dg.from_ints(answers, t.base)
    return fmt.encode(t, dg.fit_width(a, width), dg.fit_width(b, width), answers)


def encode_if_it_fits(fmt: Format, t: Task, pairs, answers=None) -> Tokens:
    """Numbers cut to the width; hypothesis drops the example where the format cannot hold the answer."""
    limit = t.base ** (fmt.width or 9)
    try:
        return encode(fmt, t, [(a % limit, b % limit) for a, b in pairs], answers)
    except ArithlabError:
        assume(False)


def full(tokens: Tokens) -> Tokens:
    """Every array in the shape of the ids."""
    arrays = (tokens.role, tokens.place, tokens.supervised)
    return Tokens(tokens.ids, *(np.broadcast_to(array, tokens.ids.shape) for array in arrays))


def rendered(fmt: Format, t: Task, tokens: Tokens, row: int = 0) -> str:
    vocabulary = fmt.vocabulary(t)
    return "".join(vocabulary[i] for i in tokens.ids[row])


def places_of(text: str, t: Task, *roles: str) -> list[int]:
    tokens = full(encode(format_(text), t, [(349, 705)]))
    return [int(tokens.place[0, tokens.role[0] == ROLE[role]][0]) for role in roles]


def test_the_format_of_paper_1_is_66_tokens_with_23_supervised():
    p1, add = format_("p1"), task("add")
    tokens = encode(p1, add, [(349, 705), (10**20 - 1, 10**20 - 1)])
    wanted = "<bos>" + "0" * 17 + "349+" + "0" * 17 + "705=" + "4501" + "0" * 17 + ";<eos>"
    assert rendered(p1, add, tokens) == wanted
    assert tokens.ids.shape == (2, 66)
    assert tokens.ids[:, 0].tolist() == [14, 14]
    assert full(tokens).supervised.tolist() == [[False] * 43 + [True] * 23] * 2
    assert p1.length(add) == 66


def test_the_vocabulary_of_paper_1_has_its_16_ids():
    ids = {symbol: i for i, symbol in enumerate(format_("p1").vocabulary(task("mul mod 51")))}
    digits = {str(d): d + 2 for d in range(10)}
    assert ids == {"\n": 0, "+": 1, **digits, ";": 12, "=": 13, "<bos>": 14, "<eos>": 15}


@pytest.mark.parametrize(
    ("text", "a", "b", "wanted", "supervised"),
    [
        ("add", 349, 705, "0034900705450100", 6),
        ("mul", 128, 256, "00128002568672300000", 10),
        ("mul", 3128, 4256, "03128042568672133100", 10),
    ],
)
def test_the_format_of_paper_2_is_digits_only(text, a, b, wanted, supervised):
    p2, t = format_("p2 5"), task(text)
    tokens = encode(p2, t, [(a, b)])
    assert rendered(p2, t, tokens) == wanted
    assert full(tokens).supervised[0].tolist() == [False] * 10 + [True] * supervised
    assert p2.length(t) == len(wanted)
    assert len(p2.vocabulary(t)) == 10


@pytest.mark.parametrize(
    ("text", "t", "wanted"),
    [
        ("padded 4", "add", "9430+5070=45010"),
        ("padded 4 operands high", "add", "0349+0705=45010"),
        ("padded 4 answer high", "add", "9430+5070=01054"),
        ("padded 4 operands high answer high", "mul mod 100", "0349*0705=45"),
        ("unpadded", "add", "943+507=4501;"),
        ("unpadded operands high answer high", "mul", "349*705=246045;"),
        ("padded 9", "add base 16", "d51000000+1c2000000=e140000000"),
        ("aligned", "add", "943+507=4501"),
        ("aligned operands high answer high", "mul", "349*705=246045"),
        ("aligned", "add mod 1000", "943+507=450"),
    ],
)
def test_examples_are_written_as_documented(text, t, wanted):
    t = task(t)
    assert rendered(format_(text), t, encode(format_(text), t, [(349, 705)])) == wanted


def test_unpadded_rows_of_different_length_are_filled_up_on_the_right():
    fmt, t = format_("unpadded"), task("add")
    tokens = encode(fmt, t, [(0, 7), (349, 705)])
    assert rendered(fmt, t, tokens) == "0+7=7;" + "<pad>" * 7
    assert full(tokens).supervised[0].tolist() == [False] * 4 + [True] * 2 + [False] * 7


@given(formats, tasks, operands)
def test_decoding_the_supervised_tokens_gives_the_answer_back(fmt, t, pairs):
    tokens = full(encode_if_it_fits(fmt, t, pairs))
    limit = t.base ** (fmt.width or 9)
    for row, (a, b) in enumerate(pairs):
        answer = tokens.ids[row, tokens.supervised[row]]
        assert fmt.decode(t, answer) == np.base_repr(t.compute(a % limit, b % limit), t.base).lower()


@given(formats, tasks, operands)
def test_the_places_of_the_digit_tokens_rebuild_every_number(fmt, t, pairs):
    tokens, vocabulary = full(encode_if_it_fits(fmt, t, pairs)), fmt.vocabulary(t)
    limit = t.base ** (fmt.width or 9)
    for row, (a, b) in enumerate(pairs):
        numbers = {"a": a % limit, "b": b % limit, "c": t.compute(a % limit, b % limit)}
        for role, number in numbers.items():
            here = tokens.role[row] == ROLE[role]
            places = tokens.place[row, here].tolist()
            order = fmt.answer if role == "c" else fmt.operands
            assert places == (list(range(len(places))) if order == "units" else list(reversed(range(len(places)))))
            digits = [int(vocabulary[i], 36) for i in tokens.ids[row, here]]
            assert sum(digit * t.base**place for digit, place in zip(digits, places, strict=True)) == number


@given(formats, tasks, operands, st.integers(0, 99))
def test_the_prompt_does_not_depend_on_the_answer(fmt, t, pairs, other):
    truth = full(encode_if_it_fits(fmt, t, pairs))
    fake = full(encode_if_it_fits(fmt, t, pairs, [other] * len(pairs)))
    given_roles = [ROLE[role] for role in ("a", "op", "b", "=", "bos")]
    for row in range(len(pairs)):
        in_truth, in_fake = (np.isin(tokens.role[row], given_roles) for tokens in (truth, fake))
        assert truth.ids[row, in_truth].tolist() == fake.ids[row, in_fake].tolist()
        assert np.flatnonzero(in_truth).tolist() == np.flatnonzero(in_fake).tolist() == list(range(in_truth.sum()))
        assert not truth.supervised[row, in_truth].any()


@given(formats, tasks, operands)
def test_the_answer_and_its_end_are_supervised_and_padding_never_is(fmt, t, pairs):
    tokens = full(encode_if_it_fits(fmt, t, pairs))
    answer = np.isin(tokens.role, [ROLE["c"], ROLE["end"], ROLE["eos"]])
    assert np.array_equal(tokens.supervised, answer)
    assert tokens.supervised[:, -tokens.tail :].sum() == tokens.supervised.sum()
    assert tokens.supervised[:, -tokens.tail].any()
    assert tokens.ids.max() < len(fmt.vocabulary(t))


@given(formats, tasks, operands)
def test_no_example_is_longer_than_announced(fmt, t, pairs):
    tokens = encode_if_it_fits(fmt, t, pairs)
    limit = t.base ** (fmt.width or 9)
    longest = max(len(np.base_repr(n % limit, t.base)) for pair in pairs for n in pair)
    announced = fmt.length(t, longest)
    assert tokens.ids.shape[1] <= announced
    assert tokens.ids.shape[1] == announced or fmt.width is None


def test_the_longest_unpadded_example_is_as_long_as_announced():
    fmt, t = format_("unpadded"), task("mul")
    assert encode(fmt, t, [(999, 999)]).ids.shape[1] == fmt.length(t, 3) == 15


@pytest.mark.parametrize(
    ("text", "t", "places"),
    [
        ("padded 5", "add", [5, -1]),
        ("padded 5 operands high", "add", [-1, -1]),
        ("padded 5 answer high", "add", [5, 6]),
        ("padded 5 operands high answer high", "mul", [-1, 10]),
        ("p1", "add", [-1, -1]),
        ("unpadded", "add", [3, -1]),
        ("unpadded operands high", "add", [-1, -1]),
        ("aligned", "add", [3, -1]),
        ("aligned answer high", "add", [3, 4]),
        ("remainders", "add mod 101", [3, 3]),
    ],
)
def test_separators_stand_one_place_beside_their_number(text, t, places):
    assert places_of(text, task(t), "op", "=") == places


def test_the_closing_tokens_stand_above_or_below_the_answer():
    assert places_of("p1", task("add"), "bos", "end", "eos") == [20, 21, 22]
    assert places_of("unpadded", task("add"), "end") == [4]
    assert places_of("unpadded answer high", task("add"), "=", "end") == [4, -1]


def test_whatever_is_no_digit_shows_as_a_question_mark_up_to_the_end():
    unpadded, p1, padded, add = format_("unpadded"), format_("p1"), format_("padded 3"), task("add")
    ids = {fmt: {s: i for i, s in enumerate(fmt.vocabulary(add))} for fmt in (unpadded, p1, padded)}
    assert unpadded.decode(add, [ids[unpadded][s] for s in ("4", "=", "1", "<pad>", ";", "9")]) == "?1?4"
    assert p1.decode(add, [ids[p1][s] for s in ("4", "\n", "<bos>", "1", "0", ";", "<eos>")]) == "??01??4"
    assert padded.decode(add, [ids[padded][s] for s in ("4", "5", "0", "1", "9", "9")]) == "1054"
    assert padded.decode(add, [ids[padded][s] for s in ("0", "0", "0", "0")]) == "0"


@pytest.mark.parametrize(
    ("text", "t", "a", "message"),
    [
        ("padded 3", "add", 1000, "operands of 4 digits do not fit the format 'padded 3'"),
        ("p2 5", "mul", 10**5, "operands of 6 digits do not fit the format 'p2 5'"),
        ("p1", "add", 10**20, "operands of 21 digits do not fit the format 'p1'"),
        ("p1", "mul", 10**10, "'mul' with operands of 11 digits do not fit the 21 places of 'p1'"),
        ("p1", "add mod 9999999999999999999999", 1, "do not fit the 21 places of 'p1'"),
    ],
)
def test_operands_that_do_not_fit_are_refused_by_name(text, t, a, message):
    for pair in ((a, 1), (1, a)):
        with pytest.raises(ArithlabError) as error:
            encode(format_(text), task(t), [pair])
        assert message in str(error.value)


def test_zeros_on_top_do_not_make_an_operand_too_long():
    fmt, add = format_("padded 3"), task("add")
    wide = dg.from_ints([349, 705], 10, width=9)
    assert rendered(fmt, add, fmt.encode(add, wide[:1], wide[1:])) == "943+507=4501"


@given(formats)
def test_a_format_written_as_text_reads_back_as_itself(fmt):
    assert format_(str(fmt)) == fmt
    assert format_(fmt) is fmt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "''"),
        ("paded 9", "Did you mean 'padded'"),
        ("padded", "'padded'"),
        ("padded 0", "width must be 1 to 20,000"),
        ("padded 20001", "width must be 1 to 20,000"),
        ("padded -9", "'padded -9'"),
        ("padded 9.5", "'padded 9.5'"),
        ("padded \u0669", "'padded \u0669'"),
        ("padded 9999999", "'padded 9999999'"),
        ("padded 9 9", "'padded 9 9'"),
        ("padded 9 high", "'padded 9 high'"),
        ("padded 9 answer low", "'padded 9 answer low'"),
        ("unpadded 9", "'unpadded 9'"),
        ("unpadded repeated", "'unpadded repeated'"),
        ("aligned 9", "'aligned 9'"),
        ("remainders answer high", "'remainders answer high'"),
        ("p1 20", "'p1 20'"),
        ("p1 answer high", "'p1 answer high'"),
        ("p2", "'p2'"),
        ("p2 5 operands high", "'p2 5 operands high'"),
        ("padded 9 " + "answer high " * 1_000, "12,009 characters"),
        (None, "None"),
        (9, "9"),
        (["padded", 9], "['padded', 9]"),
        (10**5_000, "int too long to write"),
    ],
    ids=shorten,
)
def test_a_text_that_is_no_format_is_refused_by_name(text, message):
    with pytest.raises(ArithlabError) as error:
        format_(text)
    assert message in str(error.value)


def test_aligned_operands_take_as_many_places_as_the_longer_one():
    fmt, add = format_("aligned"), task("add")
    assert rendered(fmt, add, encode(fmt, add, [(7, 705)])) == "700+507=2170"
    assert rendered(fmt, add, encode(fmt, add, [(7, 705), (1, 2)]), row=1) == "1+2=30" + "<pad>" * 6
    assert fmt.length(add, 3) == 12


def test_examples_of_one_length_share_one_layout():
    fmt, add = format_("aligned"), task("add")
    assert encode(fmt, add, [(7, 705), (100, 0)]).place.shape == (1, 12)
    assert encode(fmt, add, [(7, 705), (1, 2)]).place.shape == (2, 12)


def test_a_repeated_multiplier_stands_at_every_place():
    fmt, mul = format_("aligned repeated"), task("mul")
    assert rendered(fmt, mul, encode(fmt, mul, [(349, 7)])) == "943*777=3442"
    assert fmt.length(mul, 3) == 12
    assert fmt.decode(mul, encode(fmt, mul, [(349, 7)]).ids[0, -4:]) == "2443"
    with pytest.raises(ArithlabError, match="D_5"):
        encode(fmt, mul, [(349, 70)])


@given(st.integers(2, 300), st.integers(2, 36), operands)
def test_the_scratchpad_is_the_running_remainder_from_the_highest_place_down(p, base, pairs):
    fmt, t = format_("remainders"), Task("add", p, base)
    tokens, vocabulary = full(encode(fmt, t, pairs)), fmt.vocabulary(t)
    for row, (a, b) in enumerate(pairs):
        here = tokens.role[row] == ROLE["r"]
        assert np.array_equal(here, tokens.supervised[row])
        for token, place in zip(tokens.ids[row, here], tokens.place[row, here], strict=True):
            assert vocabulary[token] == f"[{(a // base**place + b // base**place) % p}]"
        answer = tokens.ids[row, here]
        assert fmt.decode(t, answer) == np.base_repr((a + b) % p, base).lower()
        assert place == 0
        assert len(answer) == max(len(np.base_repr(n, base)) for n in (a, b))
        assert (tokens.role[row] != ROLE["pad"]).sum() == fmt.length(t, len(answer))


@given(
    st.integers(2, 36), st.lists(st.tuples(*[st.integers(0, 99) | st.integers(0, 10**9)] * 2), min_size=1, max_size=4)
)
def test_every_cell_of_the_schoolbook_follows_from_its_neighbours(base, pairs):
    fmt, t = format_("schoolbook"), Task("mul", base=base)
    tokens, vocabulary = encode(fmt, t, pairs), fmt.vocabulary(t)
    levels = np.broadcast_to(tokens.levels, (2, *tokens.ids.shape))
    role, supervised = (np.broadcast_to(x, tokens.ids.shape) for x in (tokens.role, tokens.supervised))
    for row, (a, b) in enumerate(pairs):
        n = max(len(np.base_repr(x, base)) for x in (a, b))
        used = role[row] != ROLE["pad"]
        assert used.sum() == fmt.length(t, n)
        assert fmt.decode(t, tokens.ids[row, used & supervised[row]]) == np.base_repr(a * b, base).lower()
        products, totals = (
            {(i, j): int(vocabulary[token][1:-1]) for token, kind, i, j in
             zip(tokens.ids[row], role[row], *levels[:, row], strict=True) if kind == ROLE[name]} for name in "rc"
        )  # fmt: skip
        assert set(products) == {(i, j) for i in range(n) for j in range(n)}
        assert set(totals) == {(i, j) for i in range(n + 1) for j in range(n)}
        for (i, j), product in products.items():
            assert product == (a // base**i % base) * (b // base**j % base)
        for (i, j), total in totals.items():
            above, carry = totals.get((i + 1, j - 1), 0) % base, totals.get((i - 1, j), 0) // base
            assert total == products.get((i, j), 0) + above + carry


def test_a_wrong_product_changes_the_digits_of_the_cells_that_spell_it():
    fmt, t = format_("schoolbook"), task("mul")
    truth, fake = encode(fmt, t, [(12, 34)]), encode(fmt, t, [(12, 34)], [409])
    assert rendered(fmt, t, truth) == "21*43=[8][8][4][4][0],[6][10][3][4][0]"  # 12 x 34 = 408
    assert rendered(fmt, t, fake) == "21*43=[8][9][4][4][0],[6][10][3][4][0]"
    assert fmt.decode(t, np.zeros(11, int)) == "????"
    tokens = encode(fmt, t, [(12, 34)])
    assert tokens.levels[1, 0].tolist() == [ANY, ANY, ANY, 0, 1, *[0] * 6, *[1] * 6]
    assert tokens.levels[0, 0].tolist() == [0, 1, 2, ANY, ANY, *[-1, 0, 0, 1, 1, 2] * 2]


def test_examples_of_several_lengths_make_one_batch_of_the_schoolbook():
    fmt, t = format_("schoolbook"), task("mul")
    together = encode(fmt, t, [(7, 8), (120, 34), (9, 1), (12, 5)])
    for row, pair in enumerate([(7, 8), (120, 34), (9, 1), (12, 5)]):
        alone, part = encode(fmt, t, [pair]), together.rows(slice(row, row + 1))
        end = alone.ids.shape[1]
        assert (part.ids[:, :end] == alone.ids).all()
        assert (part.levels[:, :, :end] == alone.levels).all()
        assert not part.supervised[:, end:].any()
        assert (part.role[:, end:] == ROLE["pad"]).all()


several = st.lists(st.lists(nine_digits, min_size=3, max_size=3), min_size=1, max_size=4)


@given(several)
def test_running_sums_stand_below_their_operands(rows):
    fmt, t = format_("sums"), task("add")
    width = len(str(max(map(max, rows))))
    a, *others = (dg.from_ints(column, 10, width) for column in zip(*rows, strict=True))
    tokens, vocabulary = fmt.encode(t, a, np.stack(others, 2)), fmt.vocabulary(t)
    for row, (x, y, z) in enumerate(rows):
        n = len(str(max(x, y, z)))
        used = np.broadcast_to(tokens.role, tokens.ids.shape)[row] != ROLE["pad"]
        text = "".join(vocabulary[i] for i in tokens.ids[row, used])
        written = [str(value).zfill(n + 1)[::-1] for value in (x, y, z, x + y, x + y + z)]
        assert text == f"{written[0]}+{written[1]}+{written[2]}={written[3]},{written[4]}"
        assert used.sum() == fmt.length(t, n, 3)
        ids = tokens.ids[row, used & np.broadcast_to(tokens.supervised, tokens.ids.shape)[row]]
        assert fmt.decode(t, ids, terms=3) == str(x + y + z)


@pytest.mark.parametrize(
    ("written", "terms", "shown"),
    [("9,5", 2, "5?9"), ("12,", 2, "?21"), ("123", 2, "321"), ("640,111", 3, "111"), ("640,1,1", 3, "1?1"),
     ("6,0,111", 3, "111"), ("12,34,56", 4, "65")],
)  # fmt: skip
def test_a_misplaced_comma_of_running_sums_is_no_digit(written, terms, shown):
    fmt, t = format_("sums"), task("add")
    ids = np.array([fmt.vocabulary(t).index(symbol) for symbol in written])
    assert fmt.decode(t, ids, terms) == shown


def test_columns_and_rows_of_running_sums():
    tokens = format_("sums").encode(task("add"), np.array([[2, 1]]), np.array([[[4, 5], [3, 6]]]))
    assert rendered(format_("sums"), task("add"), tokens) == "210+430+560=640,111"
    assert tokens.levels[0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2]
    assert tokens.levels[1, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 3 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("t", ["mul", "add mod 101"])
def test_running_sums_are_of_plain_sums(t):
    with pytest.raises(ArithlabError, match="sums"):
        encode(format_("sums"), task(t), [(1, 2)])
    with pytest.raises(ArithlabError, match="operands"):
        format_("aligned").encode(task("add"), np.ones((1, 2), int), np.ones((1, 2, 2), int))
    with pytest.raises(ArithlabError, match="operands"):
        task(t).compute_digits(np.ones((1, 2), int), np.ones((1, 2, 2), int))


@pytest.mark.parametrize("t", ["add", "mul mod 101"])
def test_the_schoolbook_is_for_plain_products(t):
    with pytest.raises(ArithlabError, match="schoolbook"):
        encode(format_("schoolbook"), task(t), [(1, 2)])


def test_a_wrong_answer_changes_only_the_last_remainder():
    fmt, t = format_("remainders"), task("add mod 101")
    truth, fake = encode(fmt, t, [(349, 705)]), encode(fmt, t, [(349, 705)], [77])
    assert np.flatnonzero(truth.ids != fake.ids).tolist() == [truth.ids.shape[1] - 1]
    assert fmt.vocabulary(t)[fake.ids[0, -1]] == "[77]"
    assert fmt.decode(t, np.array([3])) == "?"


@pytest.mark.parametrize("t", ["add", "mul mod 101", "add mod 10001"])
def test_remainders_are_for_sums_modulo_a_number_of_tokens(t):
    with pytest.raises(ArithlabError, match="remainders"):
        encode(format_("remainders"), task(t), [(1, 2)])


@pytest.mark.parametrize("t", ["add", "mul", "add mod 101", "mul mod 7", "add mod 10000019"])
@pytest.mark.parametrize(
    "text",
    ["padded 6", "padded 6 answer high", "padded 6 operands high", "padded 6 operands high answer high", "unpadded",
     "unpadded operands high", "unpadded answer high", "aligned", "aligned answer high", "aligned operands high",
     "aligned repeated", "remainders", "schoolbook", "sums", "p1", "p2 6"],
)  # fmt: skip
def test_the_highest_place_is_that_of_the_tokens(text, t):
    fmt, t = format_(text), task(t)
    for digits in (1, 3, 6):
        try:
            fmt.check(t, digits)
        except ArithlabError:
            return  # a format for other tasks
        for terms in (2, 4) if text == "sums" else (2,):
            a = np.full((1, digits), t.base - 1, np.uint8)
            b = a * (np.arange(digits) < 1) if fmt.repeated else a
            b = b if terms == 2 else np.stack([b] * (terms - 1), 2)
            c = np.ones((1, t.answer_width(digits)), np.uint8)  # as long as an answer can be
            tokens = fmt.encode(t, a, b, c)
            assert fmt.highest_place(t, digits, terms) == tokens.place.max()
            digit = np.isin(tokens.role, [ROLE[name] for name in "abc"])
            assert fmt.highest_place(t, digits, terms, signs=False) == tokens.place[digit].max()
