"""Hiding unread digits from attention: what it must leave alone, and what it must give back."""

import pytest
import torch

from arithlab.errors import ArithlabError
from arithlab.inspection.recording import Questions, held_out, record
from arithlab.inspection.unread import hide_unread
from arithlab.model.transformer import Probe
from arithlab.training.evaluate import evaluate
from arithlab.training.experiment import Experiment
from arithlab.training.fit import train

pytest_plugins = ["training_fixtures"]


@pytest.fixture(scope="module")
def hidden(padded):
    return hide_unread(padded, 3, 200)


def agreement(table, hidden, layer=-1):
    return table[(table.hidden == hidden) & (table.layer == layer)].agreement.item()


def as_read(run, n):
    asked = held_out(run, 3, n)
    return Questions(run.experiment, *run.experiment.predicted.operands(asked.a, asked.b))


def test_with_nothing_hidden_it_is_the_agreement_of_free_answers(padded, hidden):
    family = padded.experiment.test_family
    assert agreement(hidden, "nothing") == evaluate(padded, [3], test_family=family, n=200).agreement.item()


def test_with_all_hidden_the_answers_are_those_of_the_pair_that_is_read(padded, hidden):
    read = as_read(padded, 200)
    said = record(padded.model, read, ())["logits", 0].argmax(-1)
    right = [(said[:, read.writer(place)] == read.right(place)).numpy() for place in range(len(read.answer))]
    assert agreement(hidden, "both") == sum(map(all, zip(*right, strict=True))) / 200
    assert agreement(hidden, "both") > agreement(hidden, "nothing")


def test_keys_and_values_in_each_layer_and_in_all(hidden):
    assert hidden.groupby("hidden", sort=False).layer.agg(list).to_dict() == {
        "nothing": [-1], "keys": [-1, 0, 1], "values": [-1, 0, 1], "both": [-1, 0, 1]
    }  # fmt: skip


def test_attention_is_that_of_the_writers_on_the_hundreds_of_both_operands(padded, hidden):
    read = as_read(padded, 200)  # padded 3: a2 a1 a0 + b2 b1 b0 = c0 ..., the hundreds are unread
    tokens = [i for i in range(read.ids.shape[1]) if read.about(i)["label"] in ("a₂", "b₂")]
    assert len(tokens) == 2
    writers = [read.writer(place) for place in range(len(read.answer))]
    assert hidden.even.iloc[0] == pytest.approx(sum(2 / (writer + 1) for writer in writers) / len(writers))
    with torch.inference_mode():
        padded.model(read.ids, probe=(probe := Probe()), layout=read.layout)
    by_hand = [weights[:, :, writers][..., tokens].sum(-1).mean().item() for weights in probe.attention]
    assert hidden[hidden.layer >= 0].groupby("layer").attention.first().tolist() == pytest.approx(by_hand)


def test_a_model_that_takes_nothing_is_disturbed_by_nothing(padded, out):
    """Keys and values are told apart: with values that are 0 everywhere, hiding keys or values changes nothing."""
    made = train(padded.experiment.with_(steps=1, seed=7))
    state = made.model.state_dict()
    width = padded.experiment.shape.width
    for name, weight in state.items():
        if name.endswith("qkv.weight"):
            weight[2 * width :] = 0
    made.model.load_state_dict(state)
    assert hide_unread(made, 3, 50).agreement.nunique() == 1


def test_an_unread_digit_counts_although_no_question_shows_another(padded, out):
    gap = train(Experiment(train="D_2[place0=0]", format="padded 3", size="1-2-16", steps=1, batch=16))
    assert len(hide_unread(gap, 2, 1)) == 7  # nothing; keys, values and both, in its one layer and in all


def test_where_theory_names_no_function_or_every_digit_is_read_nothing_can_be_hidden(padded, out):
    with pytest.raises(ArithlabError, match="ask for more digits"):
        hide_unread(padded, padded.experiment.train_domain.digits)
    with pytest.raises(ArithlabError, match="learned positions"):
        hide_unread(train(Experiment(train="D_2", positions="shaw", steps=1)), 4)
    with pytest.raises(ArithlabError, match="names no function"):
        hide_unread(train(Experiment(train="D_2", format="aligned", positions="learned", steps=1)), 4, 20)
