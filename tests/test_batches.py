"""The split does not leak, batches depend on (seed, step) only, and data sets are what they are said to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arithlab.arithmetic import digits as dg
from arithlab.arithmetic.batches import (
    TEST_SHARE,
    TrainingBatches,
    held_out_pairs,
    is_test_pair,
    train_pairs,
    train_pool,
)
from arithlab.arithmetic.domains import domain
from arithlab.arithmetic.formats import format_
from arithlab.arithmetic.tasks import task
from arithlab.errors import ArithlabError


def unordered(pairs, base: int) -> set[frozenset[int]]:
    """The pairs as sets of two integers: neither order nor leading zeros can hide a repeat."""
    return {frozenset(pair) for pair in zip(*(dg.to_ints(side, base) for side in pairs), strict=True)}


def trained_on(text: str, base: int, count: int, steps: int, seed: int = 0) -> set[frozenset[int]]:
    return set().union(*(unordered(train_pairs(domain(text), base, count, seed, step), base) for step in range(steps)))


@pytest.mark.parametrize(("text", "base"), [("D_2", 10), ("D_ab2", 10), ("D_3", 4), ("D_1+D_2", 11)])
def test_training_and_testing_share_no_pair_of_a_small_domain_and_miss_next_to_none(text, base):
    parts = [domain(part) for part in text.split("+")]
    everything = set().union(*(unordered(part.pairs(base), base) for part in parts))
    held_out = set().union(*(unordered(held_out_pairs(part, base, 10**6), base) for part in parts))
    trained = trained_on(text, base, 5_000, 40)
    assert not trained & held_out
    assert held_out < everything
    assert trained < everything
    assert len(trained) + len(held_out) > 0.99 * len(everything)


def test_training_on_3_digits_shares_no_pair_with_any_test_of_up_to_3_digits():
    trained = trained_on("D_3", 10, 20_000, 20)
    tested = ("D_1", "D_2", "D_3", "D_ab3", "D_3+D_5")
    tests = [unordered(held_out_pairs(domain(text), 10, 20_000), 10) for text in tested]
    assert len(trained) > 250_000
    assert [len(trained & test) for test in tests] == [0] * 5
    assert len(tests[2]) > 15_000


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(2, 36), st.integers(0, 5))
def test_commuting_a_pair_and_zeros_on_top_do_not_change_its_side(a, b, base, zeros):
    x, y = dg.from_ints([a, b], base)[:, None]
    side = is_test_pair(x, y)[0]
    wider = dg.fit_width(x, x.shape[1] + zeros)
    assert is_test_pair(y, x)[0] == is_test_pair(wider, y)[0] == is_test_pair(y, wider)[0] == side


@pytest.mark.parametrize(
    ("text", "base"), [("D_3", 10), ("D_ab12", 10), ("D_20", 2), ("D_9[digits=02468]", 10), ("D_300", 36)]
)
def test_about_a_tenth_of_the_pairs_is_kept_for_testing(text, base):
    a, b = domain(text).sample(np.random.default_rng(0), 20_000, base)
    assert abs(is_test_pair(a, b).mean() - 1 / TEST_SHARE) < 0.011  # 5 standard errors


def test_batches_depend_on_seed_and_step_and_not_on_what_was_drawn_before():
    d = domain("D_4+2*D_5")
    forward = {(seed, step): train_pairs(d, 10, 64, seed, step) for seed in (0, 1) for step in (0, 1, 7)}
    backward = {key: train_pairs(d, 10, 64, *key) for key in reversed(forward)}
    assert all(np.array_equal(forward[key], backward[key]) for key in forward)
    assert len({np.array(pairs).tobytes() for pairs in forward.values()}) == len(forward)


def test_every_batch_has_the_size_asked_for_and_only_training_pairs():
    for count in (1, 64, 5_000):
        a, b = train_pairs(domain("D_4"), 10, count, 0, 0)
        assert a.shape == b.shape == (count, 4)
        assert not is_test_pair(a, b).any()


@pytest.mark.parametrize(
    ("text", "count"), [("D_2", 5_000), ("D_4", 3_000), ("D_9[chain=3]", 1_000), ("D_2+D_3", 2_000)]
)
def test_a_pool_holds_distinct_training_pairs_and_depends_on_the_seed(text, count):
    a, b = train_pool(domain(text), 10, count, 0)
    assert len(set(zip(dg.to_ints(a, 10), dg.to_ints(b, 10), strict=True))) == len(a) == len(b) == count
    assert not is_test_pair(a, b).any()
    assert np.array_equal(train_pool(domain(text), 10, count, 0), (a, b))
    assert not np.array_equal(train_pool(domain(text), 10, count, 1), (a, b))


def test_with_a_pool_batches_are_drawn_from_it_with_every_pair_used():
    pool = train_pool(domain("D_9"), 10, 100, 0)
    batches = [train_pairs(domain("D_9"), 10, 64, 0, step, pool) for step in range(40)]
    drawn = set().union(*(unordered(batch, 10) for batch in batches))
    assert drawn == unordered(pool, 10)
    assert np.array_equal(batches[3], train_pairs(domain("D_9"), 10, 64, 0, 3, pool))
    assert not np.array_equal(batches[3], batches[4])


def test_all_test_pairs_of_a_small_domain_are_returned_each_once():
    a, b = held_out_pairs(domain("D_2"), 10, 10_000)
    every_a, every_b = domain("D_2").pairs(10)
    assert len(a) == is_test_pair(every_a, every_b).sum()
    assert len(np.unique(np.concatenate([a, b], 1), axis=0)) == len(a)
    assert is_test_pair(a, b).all()


def test_fewer_test_pairs_than_a_small_domain_has_are_a_random_part_of_it():
    a, b = held_out_pairs(domain("D_2"), 10, 200)
    assert len(a) == len(b) == 200
    assert is_test_pair(a, b).all()
    assert len(np.unique(np.concatenate([a, b], 1), axis=0)) == 200
    for column in (a[:, 0], a[:, 1], b[:, 0], b[:, 1]):
        assert set(column.tolist()) == set(range(10))
    assert np.array_equal(held_out_pairs(domain("D_2"), 10, 200), (a, b))


def test_test_pairs_of_a_large_domain_are_random_and_repeatable():
    d = domain("D_ab30")
    a, b = held_out_pairs(d, 10, 500)
    assert a.shape == b.shape == (500, 30)
    assert is_test_pair(a, b).all()
    assert np.array_equal(held_out_pairs(d, 10, 500), (a, b))
    assert not np.array_equal(held_out_pairs(d, 10, 500, seed=1), (a, b))


def test_a_domain_of_one_pair_serves_training_or_testing_and_says_which_is_impossible():
    sides = []
    for x in range(1, 10):
        d = domain(f"D_ab2[digits={x}]")
        test = bool(is_test_pair(*d.pairs(10))[0])
        sides.append(test)
        possible, impossible = (held_out_pairs, train_pairs) if test else (train_pairs, held_out_pairs)
        arguments = {held_out_pairs: (d, 10, 5), train_pairs: (d, 10, 5, 0, 0)}
        assert unordered(possible(*arguments[possible]), 10) == {frozenset([11 * x])}
        with pytest.raises(ArithlabError, match=rf"'D_ab2\[digits={x}\]' has (no test pair|almost no training pairs)"):
            impossible(*arguments[impossible])
    assert len(set(sides)) == 2


def test_a_union_without_test_pairs_and_a_pool_that_is_too_large_say_so():
    with pytest.raises(ArithlabError, match="almost no test pairs"):
        held_out_pairs(domain("D_ab1[digits=1]+D_ab1[digits=2]"), 10, 10)
    with pytest.raises(ArithlabError, match=r"'D_1' does not hold 100 distinct training pairs"):
        train_pool(domain("D_1"), 10, 100, 0)
    with pytest.raises(ArithlabError, match="is empty"):
        held_out_pairs(domain("D_2[digits=0]"), 10, 10)


def test_one_part_at_a_time_is_chosen_by_weight_as_a_function_of_seed_and_step():
    d, longest = domain("D_1+3*D_3"), []
    for step in range(200):
        a, b = train_pairs(d, 10, 16, seed=5, step=step, one_part=True)
        lengths = np.maximum(dg.lengths(a), dg.lengths(b))
        assert len(set(lengths.tolist())) == 1
        longest.append(lengths[0])
    assert 0.65 < np.mean(np.array(longest) == 3) < 0.85
    again = train_pairs(d, 10, 16, seed=5, step=199, one_part=True)
    assert np.array_equal(a, again[0])
    assert np.array_equal(b, again[1])


@pytest.mark.parametrize(
    ("train", "format_text", "pairs"),
    [("D_4", "padded 9", None), ("D_1-3", "unpadded", None), ("D_1-3", "aligned", None), ("D_4", "p1", 50)],
)
def test_training_batches_are_a_function_of_seed_and_step_alone(train, format_text, pairs):
    made = (task("add"), domain(train), format_(format_text), 8)
    first, steps = TrainingBatches(*made, 3, pairs), [0, 1, 63, 64, 65, 200]
    forward = [first(step) for step in steps]
    for step, tokens in zip(reversed(steps), reversed(forward), strict=True):
        for again in (first(step), TrainingBatches(*made, 3, pairs)(step)):
            assert np.array_equal(again.ids, tokens.ids)
            assert np.array_equal(again.place, tokens.place)
            assert np.array_equal(again.supervised, tokens.supervised)
    assert len({tokens.ids.tobytes() for tokens in forward}) == len(steps)
    assert not np.array_equal(forward[0].ids, TrainingBatches(*made, 4, pairs)(0).ids)


def test_training_batches_hold_right_sums_of_training_pairs():
    made = TrainingBatches(task("add"), domain("D_3"), format_("padded 3"), 32, 0)
    for step in (0, 5, 64):
        ids = made(step).ids
        a, b, c = ids[:, :3], ids[:, 4:7], ids[:, 8:]
        assert ids.shape == (32, 12)
        assert not is_test_pair(a, b).any()
        assert np.array_equal(dg.add(a, b, 10), c)
