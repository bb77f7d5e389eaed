"""Evaluation: shares and intervals, one pass against writing token by token, functions in place of models."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from arithlab import Experiment, answer, domain, equivalence, evaluate, length_map, place_accuracy, predict, task
from arithlab.arithmetic import batches
from arithlab.arithmetic import digits as dg
from arithlab.errors import ArithlabError
from arithlab.model.transformer import Probe
from arithlab.training.evaluate import exact_matches, test_domain, wilson
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]


def add(question):
    return str(sum(map(int, question.split("+"))))


def add_three_places(question):
    return str(sum(int(operand) % 1000 for operand in question.split("+")))


def three_places(a, b):
    """The same function on digit arrays."""
    return task("add").compute_digits(a * (np.arange(a.shape[1]) < 3), b * (np.arange(b.shape[1]) < 3))


@given(st.integers(1, 5_000), st.floats(0, 1))
def test_the_interval_is_wilsons(n, share):
    hits = round(share * n)
    wanted = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx(tuple(wanted), abs=1e-6)
    assert 0 <= wilson(hits, n)[0] <= hits / n <= wilson(hits, n)[1] <= 1


PLACES = [
    ("padded", 1),
    ("padded", 2),
    ("padded", 3),
    ("unpadded", 1),
    ("unpadded", 2),
    ("unpadded", 3),
    ("unpadded", 5),
]


@pytest.mark.parametrize(("name", "digits"), PLACES)
def test_one_pass_counts_exactly_the_answers_that_are_written_right(name, digits, request):
    run = request.getfixturevalue(name)
    e = run.experiment
    a, b = batches.held_out_pairs(domain(f"D_{digits}"), e.base, 250)
    one_pass = exact_matches(run.model, e.format_.encode(e.task_, a, b))
    written = answer(run, [e.task_.write_question(x, y) for x, y in zip(a, b, strict=True)])
    truth = [dg.write(row) for row in e.task_.compute_digits(a, b)]
    assert one_pass.tolist() == [given == right for given, right in zip(written, truth, strict=True)]


@pytest.mark.parametrize(("name", "digits"), [("padded", [1, 3]), ("unpadded", [1, 2, 3])])
def test_the_trained_models_are_right_sometimes_and_wrong_sometimes(name, digits, request):
    """Without this the test above would compare little."""
    shares = evaluate(request.getfixturevalue(name), digits, n=250)["exact_match"]
    assert any(0 < share < 1 for share in shares)


@pytest.mark.parametrize("model", [add, lambda questions: [add(question) for question in questions]])
def test_a_function_of_one_question_or_of_a_list_can_be_evaluated(model):
    table = evaluate(model, [1, 2, 30], on="add", n=50)
    assert table["exact_match"].tolist() == [1, 1, 1]
    assert table["domain"].tolist() == ["D_1", "D_2", "D_30"]
    assert table["agreement"].isna().all()


def test_a_function_that_drops_high_places_agrees_with_that_and_is_wrong_above():
    table = evaluate(add_three_places, [2, 3, 4, 7], on="add", predicted=three_places, test_family="D_ab", n=300)
    assert table["exact_match"].tolist() == [1, 1, 0, 0]
    assert table["agreement"].tolist() == [1, 1, 1, 1]
    assert table["low"].tolist()[2:] == [0, 0]
    assert (table["agreement_low"] > 0.98).all()
    assert table["domain"].tolist() == ["D_ab2", "D_ab3", "D_ab4", "D_ab7"]


def test_a_share_is_the_number_of_right_answers_over_the_number_of_questions():
    asked = []

    def even_only(question):
        asked.append(question)
        return add(question) if question[-1] in "02468" else "7"

    (row,) = evaluate(even_only, [3], on="add", n=400).to_dict("records")
    questions = asked[-400:]
    share = sum(question[-1] in "02468" or add(question) == "7" for question in questions) / 400
    assert row["n"] == 400
    assert row["exact_match"] == share
    assert (row["low"], row["high"]) == wilson(share * 400, 400)


def test_a_domain_may_be_named_in_place_of_a_length():
    table = evaluate(add, [2, "D_9[chain=4]"], on="add", n=30)
    assert table["domain"].tolist() == ["D_2", "D_9[chain=4]"]
    assert table["digits"].tolist() == [2, 9]
    assert table["exact_match"].tolist() == [1, 1]


def test_small_domains_are_tested_whole():
    pairs = [(x, y) for x in range(10) for y in range(10)]
    a, b = (dg.from_ints(side, 10) for side in zip(*pairs, strict=True))
    assert evaluate(add, [1], on="add", n=100)["n"].tolist() == [batches.is_test_pair(a, b).sum()]


@pytest.mark.parametrize("on", ["add mod 101", "mul mod 50 base 7", "mul base 2", "add base 36"])
def test_every_task_is_asked_in_its_own_base_and_judged_exactly(on):
    t = task(on)

    def right(question):
        a, b = (int(operand, t.base) for operand in question.split(t.symbol))
        return dg.write(dg.from_ints([t.compute(a, b)], t.base)[0])

    assert evaluate(right, [3, 25], on=on, n=40)["exact_match"].tolist() == [1, 1]
    assert evaluate(lambda q: "00" + right(q) + " ", [3], on=on, n=40)["exact_match"].tolist() == [1]


def test_an_empty_answer_is_no_zero():
    assert evaluate(lambda question: "", [3], on="add mod 2", n=100)["exact_match"].tolist() == [0]


def test_a_run_is_compared_with_what_theory_predicts(padded):
    table = evaluate(padded, [2, 3], n=250)
    e = padded.experiment
    for digits, share in zip([2, 3], table["agreement"], strict=True):
        a, b = batches.held_out_pairs(domain(f"D_{digits}"), 10, 250)
        assert share == exact_matches(padded.model, e.format_.encode(e.task_, a, b, e.predicted(a, b))).mean()
    assert table["exact_match"].tolist()[0] == table["agreement"].tolist()[0] == 1


def test_a_run_is_judged_by_the_function_that_is_given(padded):
    table = evaluate(padded, [2], n=250, predicted=lambda a, b: task("add").compute_digits(0 * a, 0 * b))
    assert table["agreement"].tolist() == [0]


def test_prediction_tells_function_and_accuracy_per_length(padded):
    table = predict(padded.experiment, [2, 3])
    assert table["predicted_function"].tolist() == ["(a mod 10^2) + (b mod 10^2)"] * 2
    assert table["predicted_accuracy"].tolist() == [1, 0]


def test_the_length_map_of_the_truth_is_one_everywhere():
    table = length_map(add, [1, 2, 5], on="add", n=20)
    assert list(zip(table.a_digits, table.b_digits, strict=True)) == [(i, j) for i in (1, 2, 5) for j in (1, 2, 5)]
    assert (table["exact_match"] == 1).all()
    assert (table["n"] == 20).all()


def test_the_length_map_shows_which_operand_was_cut():
    table = length_map(add_three_places, [2, 3, 4], on="add", n=20, predicted=three_places)
    square = table.pivot(index="a_digits", columns="b_digits", values="exact_match").to_numpy()
    assert square.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (table["agreement"] == 1).all()


def test_the_length_map_asks_operands_of_just_these_lengths():
    asked = []
    length_map(lambda questions: asked.extend(questions) or [add(q) for q in questions], [2, 4], on="add", n=10)
    sizes = [tuple(len(operand) for operand in question.split("+")) for question in asked]
    assert sizes == [(i, j) for i in (2, 4) for j in (2, 4) for _ in range(10)]


def test_the_length_map_of_a_base_without_test_pairs_at_a_length_says_so():
    table = length_map(lambda q: "0", [1, 2, 3], on="add base 2", n=10)
    assert table.loc[table["n"] == 0, "exact_match"].isna().all()
    assert table.loc[table["n"] > 0, "exact_match"].notna().all()


def test_the_equivalent_function_of_a_truncating_one_comes_first():
    table = equivalence(add_three_places, 5, on="add", n=200)
    assert len(table) == 5
    assert table["candidate"][0] == "(a mod 10^3) + (b mod 10^3)"
    assert table["agreement"][0] == 1
    assert table["agreement"][1:].max() < 0.1
    assert equivalence(add, 5, on="add", n=200)["candidate"][0] == "a + b"


def test_candidates_may_be_given():
    table = equivalence(add_three_places, 4, {"zero": lambda a, b: 0 * a, "three": three_places}, on="add", n=50)
    assert table["candidate"].tolist() == ["three", "zero"]
    assert table["agreement"].tolist() == [1, 0]


def test_the_equivalent_function_of_a_run_is_judged_in_one_pass(padded):
    table = equivalence(padded, 2, n=200)
    assert dict(zip(table["candidate"], table["agreement"], strict=True))["a + b"] == 1


def test_every_place_is_right_where_every_answer_is(padded):
    table = place_accuracy(padded, [2, 3], n=300)
    assert table[table["digits"] == 2]["place"].tolist() == [0, 1, 2]
    assert table[table["digits"] == 3]["place"].tolist() == [0, 1, 2, 3]
    assert (table[table["digits"] == 2]["accuracy"] == 1).all()
    assert table["accuracy"].between(0, 1).all()
    assert table[table["digits"] == 3]["accuracy"].min() < 0.5


def test_a_place_is_judged_with_the_digits_below_it_given(padded):
    e = padded.experiment
    a, b = batches.held_out_pairs(domain("D_3"), 10, 300)
    ids = torch.from_numpy(e.format_.encode(e.task_, a, b).ids).long()  # 3 digits, +, 3 digits, =, 4 digits
    with torch.inference_mode():
        written = padded.model(ids[:, :-1]).argmax(-1)
    shares = [(written[:, 7 + place] == ids[:, 8 + place]).double().mean().item() for place in range(4)]
    assert len(set(shares)) == 4
    assert place_accuracy(padded, [3], n=300)["accuracy"].tolist() == pytest.approx(shares)


def test_places_of_answers_of_different_lengths_are_counted_where_they_are(unpadded):
    table = place_accuracy(unpadded, [2, 3], n=300)
    assert table["accuracy"].between(0, 1).all()
    assert table[table["digits"] == 3]["place"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "call",
    [
        lambda run: evaluate(run, [2], test_family="D_abc"),
        lambda run: evaluate(add, [2], on="add", test_family="d"),
        lambda run: test_domain("", 2),
        lambda run: evaluate(add, [2]),
        lambda run: equivalence(add, 2),
        lambda run: length_map(add, [2]),
        lambda run: evaluate(run, [2], on="mul"),
        lambda run: evaluate(run, [2], on="add mod 7"),
        lambda run: evaluate(add, [2], on="divide"),
        lambda run: evaluate(run, [4]),
        lambda run: place_accuracy(run, [4]),
        lambda run: length_map(run, [4]),
        lambda run: evaluate(run, [0]),
        lambda run: evaluate(run, [-1]),
        lambda run: evaluate(run, [2], n=0),
        lambda run: evaluate(run, [9], n=-5),
        lambda run: length_map(run, [1], n=0),
        lambda run: place_accuracy(run, [2], n=0),
        lambda run: equivalence(run, 2, n=0),
        lambda run: evaluate(run, [2], n=2.5),
        lambda run: evaluate("run", [2], on="add"),
        lambda run: evaluate(None, [2], on="add"),
        lambda run: evaluate(lambda q: 7, [2], on="add"),
        lambda run: evaluate(lambda q: None, [2], on="add"),
        lambda run: evaluate(lambda q: 1 / 0, [2], on="add"),
        lambda run: evaluate(lambda: "7", [2], on="add"),
    ],
)
def test_what_makes_no_sense_is_refused(call, padded):
    with pytest.raises(ArithlabError):
        call(padded)


def test_the_right_task_may_be_named_beside_a_run(padded):
    assert evaluate(padded, [2], on=" add ", n=20)["exact_match"].tolist() == [1]


def test_a_probe_changes_what_is_tested(padded):
    plain, hot = (evaluate(padded, [2], n=300, probe=x)["exact_match"][0] for x in (None, Probe(temperature=9.0)))
    assert hot < plain
    assert evaluate(padded, [2], n=300, probe=Probe(temperature=1.0, attention=None))["exact_match"][0] == plain


def test_test_domains_follow_the_training_domain():
    assert Experiment(task="mul", train="D_1-5[b=1]", format="aligned repeated").test_family == "D[b=1]"
    assert str(test_domain("D[b=1]", 500)) == "D_500[b=1]"


def test_a_length_without_test_pairs_is_an_empty_row():
    table = evaluate(lambda q: "1", iter([3, 2]), on="add mod 3 base 2", predicted=lambda a, b: 0 * a)
    assert table["n"].tolist()[1] == 0 < table["n"][0]
    shares = table[["exact_match", "low", "high", "agreement", "agreement_low", "agreement_high"]]
    assert shares.iloc[0].notna().all()
    assert shares.iloc[1].isna().all()
    assert evaluate(lambda q: "1", [2, 3], on="add mod 3 base 2")["agreement"].isna().all()
    for lengths in ([2], [2, 2]):
        with pytest.raises(ArithlabError, match=r"D_ab2.*no test pair"):
            evaluate(lambda q: "1", lengths, on="add mod 3 base 2")
    with pytest.raises(ArithlabError, match="no test pair"):  # a domain that is named is meant
        evaluate(lambda q: "1", [3, "D_ab2"], on="add mod 3 base 2")


def test_a_table_by_place_leaves_out_lengths_without_test_pairs(tmp_path):
    e = Experiment(task="add mod 3 base 2", train="D_1-3", format="aligned", size="1-1-8", positions="rope")
    run = Run(tmp_path, e)
    run.__dict__["model"] = e.model().eval()
    assert set(place_accuracy(run, [2, 3], n=10)["digits"]) == {3}
    with pytest.raises(ArithlabError, match="no test pair"):
        place_accuracy(run, [2], n=10)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 33 GB")])
def test_too_little_memory_is_told_with_what_would_do(padded, error, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(type(padded.model), "forward", full)
    calls = [
        lambda: evaluate(padded, [2], n=49),
        lambda: answer(padded, ["1+2"]),
        lambda: length_map(padded, [2], n=5),
        lambda: place_accuracy(padded, [2], n=5),
    ]
    for call in calls:
        with pytest.raises(ArithlabError, match=r"out of memory with .* digits.*: ask shorter questions, or fewer"):
            call()
    monkeypatch.setattr(type(padded.model), "forward", lambda *_, **__: [][0])
    with pytest.raises(IndexError):  # a defect is not taken for a lack of memory
        evaluate(padded, [2], n=49)
