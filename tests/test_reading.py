"""Which digits decide which: what is measured on models agrees with the exact count of the task."""

import numpy as np
import pytest

import arithlab as al
from arithlab.errors import ArithlabError
from arithlab.inspection import reading


class Truth:
    """Stands for a run that answers a function of the operands."""

    def __init__(self, function=None, **settings):
        self.experiment = al.Experiment(**{"train": "D_3"} | settings)
        self.function = function or (lambda a, b: a + b)

    def answer(self, run, questions):
        return [str(self.function(*map(int, question.split("+")))) for question in questions]


@pytest.fixture
def model(monkeypatch):
    def make(function=None, **settings):
        made = Truth(function, **settings)
        monkeypatch.setattr(reading, "answer", made.answer)
        return made

    return make


def test_a_right_model_reads_what_the_task_needs(model):
    exact = al.dependence(al.task("add"), 3)
    measured = al.digit_reading(model(), 3, n=2_000)
    assert measured.shape == exact.shape
    assert np.abs(measured - exact).max() < 0.12  # operands of exactly three digits, and not all of them
    assert np.abs(measured - exact)[:, :2].max() < 0.05


def test_a_model_that_truncates_does_not_read_what_it_cuts_off(model):
    measured = al.digit_reading(model(lambda a, b: a % 100 + b % 100), 4, n=500)
    assert (measured[:, 2:] == 0).all()
    assert (measured[:, 0] > 0).any()


def test_r2_of_the_truth_is_that_of_sums_and_a_truncating_model_explains_nothing_above(model):
    table = al.digit_r2(model(lambda a, b: a % 100 + b % 100), 4, n=4_000).set_index(["of", "place"])
    assert table.loc["truth", 0].tolist() == [1, 1]
    assert table.loc["truth", 1].pair_and_carry == pytest.approx(1)  # below the units no carry comes in
    assert 0.6 < table.loc["truth", 2].pair < 0.85
    assert table.loc["truth", 2].pair_and_carry > table.loc["truth", 2].pair
    assert abs(table.loc["model", 2].pair) < 0.05
    assert np.isnan(table.loc["model", 3].pair)


def test_answers_that_are_no_numbers_count_as_digits_of_their_own(model, monkeypatch):
    monkeypatch.setattr(reading, "answer", lambda run, questions: ["?1" for _ in questions])
    assert (al.digit_reading(Truth(), 3, n=50) == 0).all()
    assert reading._answers(Truth(), np.array([[1, 2, 3]]), np.array([[1, 2, 3]])).tolist() == [[1, -1, 0, 0]]


def test_what_cannot_be_measured_is_told(model):
    with pytest.raises(ArithlabError, match="n 1: allowed are whole numbers from 2"):
        al.digit_reading(model(), 3, n=1)
    with pytest.raises(ArithlabError, match="digit_r2 needs a plain addition"):
        al.digit_r2(Truth(task="mul", train="D_2"), 2)
    with pytest.raises(ArithlabError):
        al.digit_reading(Truth(), 40)
