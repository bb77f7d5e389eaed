"""Formulas, kinds of mistakes, lattices, distributions and representations."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_fixtures import BRIEF

from arithlab import formula, last_input, lattice, mistakes, output_distribution, stream_at, train
from arithlab.arithmetic import digits as dg
from arithlab.errors import ArithlabError
from arithlab.inspection.mistakes import KINDS, kind
from arithlab.notebook import maps
from arithlab.training.answer import answer

pytest_plugins = ["training_fixtures"]


@given(
    st.lists(st.tuples(st.integers(0, 10**30), st.integers(0, 10**30)), min_size=1, max_size=5),
    st.sampled_from([2, 10, 16]),
)
def test_a_formula_is_what_python_computes(pairs, base):
    for text in ("a + b", "a % 1000 + b // 7 * 3", "max(a, b) - min(a, b)", "(a * b) % 101", "2"):
        wanted = [eval(text, {}, {"a": a, "b": b, "max": max, "min": min}) for a, b in pairs]
        a, b = (dg.from_ints(list(side), base) for side in zip(*pairs, strict=True))
        assert dg.to_ints(formula(text, base)(a, b), base) == wanted


REFUSED = (
    "", "a +", "c", "a ** b", "a / b", "a.real", "abs(a)", "min(a)", "min(a, b, key=a)", "(lambda: a)()", "1.5", "'a'",
    "a if b else a", "True", "a, b", "a < b", "-a", "__import__('os')", "a" * 300, "(" * 190, 5, None, "a\0",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_else_is_taken(text):
    with pytest.raises(ArithlabError) as caught:
        formula(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("a - b", "below zero"), ("a % b", "zero"), ("a // (b - b)", "zero")])
def test_what_cannot_be_computed_is_said(text, said):
    with pytest.raises(ArithlabError, match=said):
        formula(text)(dg.from_ints([1], 10), dg.from_ints([2 if text == "a - b" else 0], 10))


@pytest.mark.parametrize(
    ("answer", "truth", "predicted", "expected"),
    [
        ("1054", "1054", "54", "right"),
        ("01054", "1054", "54", "right"),
        ("54", "1054", "54", "predicted"),
        ("", "1054", "54", "no number"),
        ("1?", "1054", "", "no number"),
        ("154", "2054", "54", "near predicted"),
        ("1154", "1054", "", "carry"),
        ("2164", "1054", "", "carry"),
        ("1057", "1054", "", "digit slip"),
        ("54", "731054", "", "length"),
        ("731054", "54", "", "length"),
        ("938", "1054", "", "other"),
        ("0", "0", "0", "right"),
    ],
)
def test_kinds(answer, truth, predicted, expected):
    assert expected in KINDS
    assert kind(answer, truth, predicted) == expected


def test_a_program_that_truncates_makes_the_predicted_mistakes(out):
    run = train(BRIEF)
    found = mistakes(run, "D_2", n=50)
    assert found["answer"].tolist() == answer(run, found["question"].tolist())
    assert ((found["kind"] == "right") == (found["answer"] == found["truth"])).all()
    slips = mistakes(lambda question: str(sum(map(int, question.split("+"))) + 10), "D_2", n=50, on="add")
    assert set(slips["kind"]) == {"carry"}
    with pytest.raises(ArithlabError, match="which task"):
        mistakes(lambda question: "1", "D_2")


def test_the_lattice_holds_the_answers(out):
    run = train(BRIEF)
    table = lattice(run, top=99, steps=12)
    assert len(table) == 144
    assert (table["truth"] == table["a"] + table["b"]).all()
    given = answer(run, [f"{a}+{b}" for a, b in zip(table["a"], table["b"], strict=True)])
    assert [int(x) for x in given] == table["answer"].tolist()
    assert "equal to the answer at 100 %" in maps.contours(table, {"it": "answer"}, title="x").layout.meta["alt"]
    for wrong in ({"steps": 1}, {"steps": 400}, {"top": 3, "steps": 9}):
        with pytest.raises(ArithlabError, match="lattice"):
            lattice(run, **wrong)


def test_the_likeliest_digits_are_the_answer(out):
    run = train(BRIEF)
    table = output_distribution(run, "12+34")
    best = table.loc[table.groupby("place")["probability"].idxmax(), "digit"]
    assert "".join(best[::-1]).lstrip("0") == answer(run, ["12+34"])[0].lstrip("0")
    assert (table.groupby("place")["probability"].sum() < 1 + 1e-5).all()
    assert maps.probabilities({"12+34": table}, title="x").layout.meta["alt"].startswith("x. 12+34: ")


def test_the_representation_is_what_the_first_digit_is_read_from(out):
    run = train(BRIEF)
    points = torch.from_numpy(last_input(run, ["12+34", "5+6"]))
    logits = run.model.head(points)
    first = output_distribution(run, "12+34").query("place == 0")
    digits = run.experiment.format_.vocabulary(run.experiment.task_)
    shares = logits[0].softmax(-1)[[digits.index(d) for d in first["digit"]]]
    assert torch.allclose(shares, torch.tensor(first["probability"].to_numpy()).float(), atol=1e-5)
    assert "nearest" in maps.clouds({"now": points.numpy()}, [6, 1], title="x").layout.meta["alt"]


def test_the_stream_at_any_token_and_layer(padded):
    questions = ["12+34", "56+34", "57+89", "2+1"]
    start = stream_at(padded, questions, "a1", 0)
    assert start.shape == (4, padded.experiment.shape.width)
    assert (start[1] == start[2]).all()  # an embedding knows the digit and its place
    assert (start[0] != start[1]).any()
    end = torch.from_numpy(stream_at(padded, questions, "=", padded.experiment.shape.layers))
    with torch.inference_mode():
        assert torch.allclose(padded.model.norm(end), torch.from_numpy(last_input(padded, questions)), atol=1e-5)
    for token, layers, words in (("d1", 0, "unknown token"), ("a1", 3, "to 2"), ("a1", True, "to 2")):
        with pytest.raises(ArithlabError, match=words):
            stream_at(padded, questions, token, layers)
