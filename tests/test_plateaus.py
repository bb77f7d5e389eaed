"""Plateaus of the loss: the number of open answers against entropies that are counted, and curves that stand."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import arithlab as al
from arithlab.arithmetic.plateaus import plateaus
from arithlab.errors import ArithlabError
from arithlab.notebook.curve_plots import loss_plateaus

CASES = [(50, 10), (51, 10), (100, 10), (101, 10), (150, 10), (200, 10), (36, 6), (37, 6), (12, 10), (7, 10), (2, 2)]


def entropy(values):
    counts = np.array([*Counter(values).values()])
    return math.log(counts.sum()) - (counts * np.log(counts)).sum() / counts.sum()


def conditional(values, known):
    return entropy([*zip(values, known, strict=True)]) - entropy(known)


@pytest.mark.parametrize(("p", "base"), CASES)
def test_open_answers_are_the_counted_entropy_given_the_last_digits(p, base):
    task = al.task(f"add mod {p} base {base}")
    sums = np.arange(p * base**3)  # every remainder equally often, with every ending of three digits
    levels = {math.log(k) for k, known in plateaus(task) if "first" not in known}
    counted = [conditional((sums % p).tolist(), (sums % base**j).tolist()) for j in range(4)]
    for one in counted:
        assert one < 1e-9 or min(abs(one - level) for level in levels) < 1e-9
    for level in levels:
        assert min(abs(one - level) for one in counted) < 1e-9


@pytest.mark.parametrize(("p", "base"), [case for case in CASES if any("first" in k for _, k in plateaus(
    al.task(f"add mod {case[0]} base {case[1]}")))])  # fmt: skip
def test_the_first_digit_decides_the_quotient_modulo_the_base_where_it_is_the_last_to_be_learned(p, base):
    (open_,) = [k for k, known in plateaus(al.task(f"add mod {p} base {base}")) if "first" in known]
    sums = np.arange(p * base)
    found = {}
    for s in sums.tolist():
        found.setdefault((s % base, s % p % base), set()).add((s // p) % base)
    assert all(len({q % open_ for q in quotients}) == 1 for quotients in found.values())
    assert {len({first for low, first in found if low == digit}) for digit in range(base)} == {open_}


def test_losses_count_the_supervised_tokens():
    table = al.plateaus(al.Experiment(task="add mod 51", train="D_3", format="padded 6"))
    assert table.loss.tolist() == pytest.approx([math.log(51) / 2, math.log(10) / 2])
    papers = al.plateaus(al.Experiment(task="add mod 200", format="p1"))  # 23 tokens: 0.23, 0.13, 0.03 in 2407.17963
    assert papers.loss.round(2).tolist() == [0.23, 0.13, 0.03]
    high = al.Experiment(task="add mod 101", format="padded 9 answer high")
    assert al.plateaus(high).open.tolist() == [101]


class Curve:
    experiment = al.Experiment(task="add mod 101", train="D_3", format="padded 6")
    metrics = pd.DataFrame(
        {
            "step": [10, 10, 20, 20, 30, 30, 40, 40, 50, 50, 60, 60],
            "loss": [3.0, 3.0, 1.55, 1.55, 1.54, 1.54, 1.2, 1.2, 0.78, 0.78, 0.01, 0.01],
            "digits": [1, 3] * 6,
        }
    )


def test_a_curve_stands_where_its_loss_is_near_a_predicted_one():
    table = al.standing(Curve)
    assert table.step.tolist() == [10, 20, 30, 40, 50, 60]
    assert table.open.tolist() == [0, 101, 101, 0, 10, 0]
    figure = loss_plateaus({"mod 101": Curve})
    assert "at 1.54, 101 answers open, steps 20 to 30" in figure.layout.meta["alt"]
    assert "at 0.77, 10 answers open, steps 50 to 50" in figure.layout.meta["alt"]


def test_other_tasks_are_refused():
    with pytest.raises(ArithlabError, match="plateaus are worked out for modular sums, not for 'mul mod 50'"):
        al.plateaus(al.Experiment(task="mul mod 50"))
