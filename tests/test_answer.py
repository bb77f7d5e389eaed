"""Free-running answers: every question is answered in its place, or refused with a reason."""

import numpy as np
import pytest
import torch
from training_fixtures import BRIEF, UNPADDED

from arithlab import Experiment, answer
from arithlab.arithmetic import digits as dg
from arithlab.errors import ArithlabError
from arithlab.model.positions import Layout
from arithlab.model.transformer import Probe
from arithlab.training.answer import answerer, lined_up, rows_of
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]


def untrained(tmp_path, **changes):
    """A run with the weights that training starts from."""
    e = Experiment(**{"size": "1-2-16", "train": "D_2", **changes})
    run = Run(tmp_path, e)
    torch.manual_seed(e.seed)
    run.__dict__["model"] = e.model().eval()
    return run


def written_out(run, question):
    """The answer decoded in the plainest way: the whole sequence is read again for every token."""
    e = run.experiment
    vocabulary = e.format_.vocabulary(e.task_)
    a, b = (digits[None] for digits in e.task_.parse_question(question))
    width = max(a.shape[1], b.shape[1])
    tokens = e.format_.encode(e.task_, dg.fit_width(a, width), dg.fit_width(b, width), np.zeros((1, 1), np.uint8))
    ids = torch.from_numpy(tokens.ids[:, : -tokens.tail]).long()
    text = ""
    for _ in range(e.format_.answer_width(e.task_) if e.format_.width else e.task_.answer_width(width) + 1):
        with torch.inference_mode():
            ids = torch.cat([ids, run.model(ids)[:, -1:].argmax(-1)], 1)
        if vocabulary[ids[0, -1]] == ";":
            break
        text = vocabulary[ids[0, -1]] + text
    return "".join(symbol if symbol in dg.SYMBOLS else "?" for symbol in text).lstrip("0") or "0"


@pytest.mark.parametrize("name", ["padded", "unpadded"])
def test_answers_are_those_of_the_plainest_decoding(name, request):
    run = request.getfixturevalue(name)
    questions = ["1+2", "12+21", "2+210", "0+0", "201+2", "22+1", "111+222"]
    assert answer(run, questions) == [written_out(run, question) for question in questions]


@pytest.mark.parametrize("name", ["padded", "unpadded"])
def test_answers_come_in_the_order_of_the_questions(name, request):
    run = request.getfixturevalue(name)
    questions = ["12+1", "1+2", "222+1", "2+1", "11+22", "1+222", "10+1", "0+2", "102+201"]
    alone = [answer(run, [question])[0] for question in questions]
    assert len(set(alone)) > 3
    assert answer(run, questions) == alone
    assert answer(run, questions[::-1]) == alone[::-1]


@pytest.mark.parametrize("name", ["padded", "unpadded"])
def test_leading_zeros_and_spaces_do_not_change_a_question(name, request):
    run = request.getfixturevalue(name)
    assert answer(run, ["0012+02", " 12 + 2 "]) == answer(run, ["12+2"]) * 2


def test_no_question_has_no_answer(padded):
    assert answer(padded, []) == []


def test_a_trained_model_adds(padded):
    assert answer(padded, ["34+57", "99+98", "60+10"]) == ["91", "197", "70"]


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal", "rope", "alibi", "t5", "shaw"])
@pytest.mark.parametrize("style", ["padded 3 answer high", "unpadded operands high", "p1", "p2 3"])
def test_every_format_and_encoding_can_be_asked(positions, style, tmp_path):
    run = untrained(tmp_path, positions=positions, format=style)
    (given,) = answer(run, ["12+7"])
    assert set(given) <= set("0123456789?")
    assert 1 <= len(given) <= (21 if style == "p1" else 4)


TEXTS = ["", "+", "12", "12+", "+12", "1+2+3", "1*2", "1-2", "a+1", "1.5+2", "-1+2", "1e3+2", "1 2+3", "1+2=3"]
FOREIGN_DIGITS = ["\u0661+\u0662", "\u00b2+1"]


@pytest.mark.parametrize("question", [*TEXTS, *FOREIGN_DIGITS, None, 12, ["1+2"]])
def test_what_is_no_question_is_refused(question, padded):
    with pytest.raises(ArithlabError, match=r"question|number|operands"):
        answer(padded, ["1+2", question])


def test_digits_outside_the_base_are_refused(unpadded):
    with pytest.raises(ArithlabError, match="base 3"):
        answer(unpadded, ["12+3"])


def test_a_question_wider_than_the_format_is_refused_with_both_numbers(padded):
    with pytest.raises(ArithlabError, match=r"5 digits.*3 places"):
        answer(padded, ["1+2", "1+12345"])


def test_learned_positions_end_where_the_context_ends(tmp_path):
    run = untrained(tmp_path, format="unpadded")
    assert len(answer(run, ["123456789+987654321"])) == 1
    with pytest.raises(ArithlabError, match=r"10 digits need 33 learned positions and this run has 30"):
        answer(run, ["1+2", "1234567890+1"])
    wider = untrained(tmp_path, format="unpadded", context=33)
    assert len(answer(wider, ["1234567890+1234567890"])) == 1


def test_a_size_with_a_context_of_its_own_ends_there(tmp_path):
    run = untrained(tmp_path, format="unpadded", size="nano")
    run.experiment.check_length(84)  # 3 * 84 + 4 tokens, the last of them not read: 255 positions
    answer(run, [f"{'9' * 84}+{'9' * 84}"])
    with pytest.raises(ArithlabError, match="85 digits need 258 learned positions and this run has 256"):
        answer(run, [f"{'9' * 85}+1"])


def test_relative_positions_take_questions_of_any_length(unpadded):
    (given,) = answer(unpadded, [f"{'12' * 30}+{'21' * 30}"])
    assert 1 <= len(given) <= 62


def test_rows_tell_question_answer_truth_and_whether_it_is_right(padded):
    rows = rows_of(padded, ["034+57=91", "34+57=1", "1+1"])
    assert rows[1] == {"question": "34+57", "answer": "91", "truth": "91", "correct": True}
    assert rows[0] == {**rows[1], "question": "034+57"}  # as it was typed
    assert (rows[2]["truth"], rows[2]["correct"]) == ("2", rows[2]["answer"] == "2")


def test_truths_are_exact_at_any_length(tmp_path):
    run = untrained(tmp_path, task="mul", format="padded 40")
    a, b = 10**39 + 7, 3 * 10**38 + 1
    assert rows_of(run, [f"{a}*{b}"])[0]["truth"] == str(a * b)


def test_wrong_digits_are_marked():
    row = {"question": "95+7", "answer": "12", "truth": "102", "correct": False}
    assert lined_up(BRIEF.task_, row).splitlines() == [
        "     95", "  +   7", "  -----", "     12  model", "    102  truth", "    ^^",
    ]  # fmt: skip
    assert lined_up(BRIEF.task_, row | {"answer": "102"}).endswith("all digits right")


def test_a_run_answers_as_an_answerer(padded):
    assert answerer(padded)(["34+57"]) == ["91"]


def test_an_answerer_keeps_the_order_and_asks_nothing_twice_where_a_list_is_taken():
    seen = []

    def model(questions):
        seen.append(questions)
        return [question[::-1] for question in questions] if isinstance(questions, list) else None

    assert answerer(model)(["1+23", "4+56"]) == ["32+1", "65+4"]
    assert seen == [["1+23", "4+56"]]


def test_an_error_of_an_answering_function_is_told():
    with pytest.raises(ArithlabError, match="ZeroDivisionError"):
        answerer(lambda question: str(1 / 0))(["1+2"])


def test_unpadded_runs_say_which_lengths_they_take():
    UNPADDED.check_length(500)
    with pytest.raises(ArithlabError, match="learned positions"):
        UNPADDED.with_(positions="learned").check_length(500)


@pytest.mark.parametrize("positions", ["clipped places window 1", "coupled", "fire places randomized", "rope", "grid"])
@pytest.mark.parametrize(
    ("text", "style", "questions"),
    [
        ("add", "aligned", ["12+1", "1+2", "99+99", "105+12"]),
        ("add", "unpadded", ["12+1", "1+2", "99+99", "105+12"]),
        ("mul", "aligned repeated", ["12*1", "999*9"]),
        ("add mod 11", "remainders", ["12+1", "1+2", "123456+1"]),
        ("mul", "schoolbook", ["3*4", "12*1", "120*999"]),
        ("add", "sums", ["3+4", "12+1", "120+999+8", "1+2+3+4+5"]),
    ],
)
def test_written_answers_are_those_of_one_pass_over_them(positions, text, style, questions, tmp_path):
    if (style == "unpadded" and "randomized" in positions) or (
        style not in ("schoolbook", "sums") and positions == "grid"
    ):
        return  # refused: see test_positions_that_need_the_length_of_the_answer_are_refused
    train = "D_1-3[b=1]" if style == "aligned repeated" else "D_1-3"
    run = untrained(tmp_path, task=text, format=style, positions=positions, train=train, size="2-2-16")
    e = run.experiment
    with torch.no_grad():
        for weight in run.model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    for question in questions:
        a, b = (digits[None] for digits in e.task_.parse_question(question))
        terms = question.count("+") + 1 if style == "sums" else 2
        assert b.ndim == 2 if terms == 2 else b.shape[2] == terms - 1
        width = max(a.shape[1], b.shape[1])
        a, b = dg.fit_width(a, width), dg.fit_width(b, width)
        longest = dg.from_ints([e.base ** (e.task_.answer_width(width) - 1)], e.base)
        tokens = e.format_.encode(e.task_, a, b, longest)
        ids, layout = torch.from_numpy(tokens.ids).long(), Layout.of(tokens)
        with torch.inference_mode():
            for at in range(ids.shape[1] - tokens.tail, ids.shape[1]):
                ids[:, at] = run.model(ids[:, :at], layout=layout)[:, -1].argmax(-1)
        assert answer(run, [question]) == [e.format_.decode(e.task_, ids[0, -tokens.tail :].numpy(), terms)]


def test_a_probe_changes_answers(tmp_path):
    run = untrained(tmp_path, positions="rope", size="2-2-16")
    with torch.no_grad():
        for weight in run.model.parameters():
            weight += 0.5 * torch.randn_like(weight)
    questions = [f"{a}+{b}" for a in range(10, 20) for b in range(10, 20)]
    assert answer(run, questions, Probe(temperature=1.0, attention=None)) == answer(run, questions)
    assert answer(run, questions, Probe(temperature=0.1, attention=None)) != answer(run, questions)


def test_many_questions_show_how_far_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ARITHLAB_QUIET", raising=False)
    monkeypatch.setattr("arithlab.training.waiting.SECONDS", 0.0)
    answer(untrained(tmp_path), ["1+2", "12+21"])
    assert "answering, digit by digit: " in capsys.readouterr().err
