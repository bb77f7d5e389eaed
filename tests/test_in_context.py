"""In-context tasks: selection and batches against their definitions, solvers against brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arithlab.arithmetic.in_context import (
    SETS,
    SOLVERS,
    InContext,
    accuracy_by_shots,
    answers,
    is_prime,
    modular_regression,
    posterior,
    ratio_matching,
)
from arithlab.errors import ArithlabError


def numbers(tokens):
    """x, y, z of sequences, each (N, K)."""
    return tokens.ids.reshape(len(tokens.ids), -1, 3).astype(int).transpose(2, 0, 1)


def as_set(pairs):
    return {tuple(pair) for pair in pairs.tolist()}


def test_primes():
    assert [p for p in range(-1, 30) if is_prime(p)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


@pytest.mark.parametrize(("p", "count"), [(2, 4), (3, 5), (5, 8), (7, 32), (7, 49), (29, 8), (29, 256), (29, 512)])
@pytest.mark.parametrize("rule", ["rectangular", "random"])
def test_tasks_are_distinct_and_those_for_testing_are_others(p, count, rule):
    inside, outside = InContext(p=p, tasks=count, alpha=0.5, rule=rule).chosen(seed=3)
    assert len(as_set(inside)) == len(inside) == count
    assert len(outside) == min(256, p * p - count)
    assert not as_set(inside) & as_set(outside)
    assert as_set(inside) | as_set(outside) <= set(product(range(p), repeat=2))


def test_rectangles_have_all_their_corners():
    inside, _ = InContext(p=29, tasks=8).chosen(seed=0)
    (a, b), (_, y), (x, _), _ = inside[:4].tolist()
    assert inside[:4].tolist() == [[a, b], [a, y], [x, b], [x, y]]
    assert len({a, x, y}) == len({b, x, y}) == 3


def test_the_inputs_are_split_by_the_share_that_the_paper_names():
    counts = [len(InContext(p=29, alpha=alpha).inputs()[0]) for alpha in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)]
    assert counts == [168, 252, 336, 420, 505, 589, 673]
    inside, outside = InContext(p=29, alpha=0.8).inputs(seed=1)
    assert len(as_set(inside) | as_set(outside)) == 841
    assert as_set(inside) != as_set(InContext(p=29, alpha=0.8).inputs(seed=2)[0])


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_holds_examples_of_its_tasks(shared):
    made = InContext(p=11, tasks=16, alpha=0.6, shots=20, shared=shared)
    tokens = made.batch(seed=0, step=5, count=64)
    x, y, z = numbers(tokens)
    tasks, inputs = made.chosen(0)[0], as_set(made.inputs(0)[0])
    assert {pair for row in np.stack([x, y], -1) for pair in as_set(row)} <= inputs
    fitting = [[((a * x[i] + b * y[i] - z[i]) % 11 == 0).all() for a, b in tasks] for i in range(64)]
    assert (np.sum(fitting, 1) == 1).all()  # 21 examples leave one task
    if shared:
        assert (x == x[0]).all()
        assert (y == y[0]).all()
        assert (np.sum(fitting, 0) == 4).all()
    else:
        assert len({tuple(row) for row in x}) == 64
    distinct = [len(as_set(row)) for row in np.stack([x, y], -1)]
    assert (min(distinct) == 21) == shared  # drawn independently, inputs come again
    assert tokens.supervised[0].tolist() == [False, False, True] * 21
    assert (made.batch(seed=0, step=5, count=64).ids == tokens.ids).all()
    assert (made.batch(seed=0, step=6, count=64).ids != tokens.ids).any()
    assert (made.batch(seed=1, step=5, count=64).ids != tokens.ids).any()


@pytest.mark.parametrize("which", SETS)
def test_test_sets_are_of_the_tasks_and_inputs_that_they_name(which):
    made = InContext(p=7, tasks=12, alpha=0.7, shots=30)
    x, y, z = numbers(made.test(which, 50))
    tasks, inputs = made.chosen()[which.startswith("ood")], made.inputs()[which.endswith("test")]
    assert x.shape == (50, min(31, len(inputs)))
    for row in range(50):
        shown = as_set(np.stack([x[row], y[row]], -1))
        assert shown <= as_set(inputs)
        assert len(shown) == x.shape[1]  # no answer can be copied
        assert any(((a * x[row] + b * y[row] - z[row]) % 7 == 0).all() for a, b in tasks)


small = st.sampled_from([2, 3, 5, 6, 7])


@settings(deadline=None)
@given(small, st.integers(1, 4), st.integers(0, 10**6))
def test_solvers_agree_with_brute_force(p, count, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(p, size=(2, 6, count))
    z = answers(rng.integers(p, size=(6, 2)), np.stack([x, y], -1), p)
    belief = posterior(x[:, :-1], y[:, :-1], z[:, :-1], p)
    ratio, regression = ratio_matching(x, y, z, p), modular_regression(x, y, z, p)
    for row in range(6):
        tasks = [(a, b) for a, b in product(range(p), repeat=2)
                 if all((a * x[row, k] + b * y[row, k] - z[row, k]) % p == 0 for k in range(count - 1))]  # fmt: skip
        assert {tuple(pair) for pair in np.argwhere(belief[row])} == set(tasks)
        assert np.allclose(belief[row][belief[row] > 0], 1 / len(tasks))
        said = {(a * x[row, -1] + b * y[row, -1]) % p for a, b in tasks}
        assert regression[row] == (said.pop() if len(said) == 1 else -1)
        multiples = {c * z[row, k] % p for c in range(p) for k in range(count - 1)
                     if c * x[row, k] % p == x[row, -1] and c * y[row, k] % p == y[row, -1]}  # fmt: skip
        assert ratio[row] == (multiples.pop() if multiples else -1)
        assert not multiples
        if ratio[row] >= 0:
            assert regression[row] == ratio[row] == z[row, -1]


def test_a_perfect_learner_needs_few_shots_and_ratio_matching_many():
    made = InContext(p=7, tasks=12, alpha=0.9, shots=12)
    ratio, regression = (accuracy_by_shots(solver, made, "ood train", 400) for solver in SOLVERS)
    assert regression[0] == pytest.approx(1 / 7, abs=0.03)  # (0, 0) is answered by 0 whatever the task
    assert regression[3] > 0.95
    assert 0.3 < ratio[3] < 0.8
    assert (regression >= ratio).all()


BAD = [
    ({"p": 1}, "p 1"),
    ({"p": 7, "tasks": 50}, "p\\^2"),
    ({"p": True}, "p True"),
    ({"tasks": 0}, "tasks 0"),
    ({"alpha": 0.0}, "alpha"),
    ({"alpha": 1.0}, "alpha"),
    ({"alpha": 0.0001}, "alpha"),
    ({"shots": -1}, "shots"),
    ({"shots": 10**6}, "shots"),
    ({"rule": "rect"}, "rectangular"),
    ({"p": "29"}, "p '29'"),
    ({"p": None}, "p None"),
    ({"p": 29.0}, "p 29.0"),
    ({"tasks": "8"}, "tasks '8'"),
    ({"alpha": "0.8"}, "alpha '0.8': allowed are numbers"),
    ({"alpha": None}, "alpha None: allowed are numbers"),
    ({"alpha": float("nan")}, "alpha"),
    ({"rule": []}, "rule"),
    ({"shared": "no"}, "shared"),
]


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_what_makes_no_sense_is_refused_in_words(fields, words):
    with pytest.raises(ArithlabError, match=words):
        InContext(**fields)


def test_test_sets_and_solvers_that_do_not_exist():
    with pytest.raises(ArithlabError, match="ood"):
        InContext().test("ood", 3)
    with pytest.raises(ArithlabError, match="none is left"):
        InContext(p=5, tasks=25).test("ood train", 3)
    with pytest.raises(ArithlabError, match="ratio"):
        accuracy_by_shots("ration", InContext())
