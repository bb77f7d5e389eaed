"""An experiment is the same however it is written down, and one that cannot run says everything that is wrong."""

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arithlab import Experiment
from arithlab.errors import ArithlabError, ConfigError
from arithlab.model.positions import Layout

pytest_plugins = ["training_fixtures"]

DEFAULT = Experiment()
CHANGES = {
    "task": "mul", "train": "D_3", "format": "padded 10", "size": "2-2-32", "positions": "rope", "steps": 7, "batch": 7,
    "optimizer": "adamw", "lr": 0.0125, "matrix_lr": 0.0125, "weight_decay": 0.0125, "dropout": 0.125, "warmup": 7,
    "schedule": "constant", "precision": "bfloat16", "pairs": 7, "context": 77, "seed": 7, "sink": 7.5,
}  # fmt: skip


def problems(**changes):
    with pytest.raises(ConfigError) as caught:
        Experiment(**changes)
    return str(caught.value)


def test_the_id_is_short_and_of_hexadecimal_digits():
    assert len(DEFAULT.id) == 12
    int(DEFAULT.id, 16)


def test_the_id_does_not_depend_on_the_order_of_the_arguments():
    assert Experiment(**CHANGES).id == Experiment(**dict(reversed(CHANGES.items()))).id


def test_defaults_spelled_out_do_not_change_the_id():
    for name, value in DEFAULT.to_json().items():
        assert Experiment(**{name: value}).id == DEFAULT.id
    assert Experiment(**DEFAULT.to_json()).id == DEFAULT.id


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("task", ["add mod 101", "add  mod 101", " add mod 101 ", "add mod 0101", "add mod 101 base 10"]),
        ("train", ["D_3+2*D_4", "D_3 + 2 * D_4", "D_03+2.0*D_4"]),
        ("format", ["padded 12 answer high", "padded  12  answer  high", "padded 12 operands units answer high"]),
        ("lr", [1, 1.0, np.float64(1)]),
        ("weight_decay", [0, 0.0, -0.0]),
    ],
)
def test_variants_of_the_same_value_have_one_id(field, texts):
    assert len({Experiment(**{field: text}).id for text in texts}) == 1


def test_every_field_changes_the_id():
    assert set(CHANGES) == {f.name for f in fields(Experiment)}
    ids = {Experiment(**{name: value}).id for name, value in CHANGES.items()} | {DEFAULT.id}
    assert len(ids) == len(CHANGES) + 1


def test_json_brings_an_experiment_back():
    changed = Experiment(**CHANGES)
    assert Experiment.from_json(json.loads(json.dumps(changed.to_json()))) == changed


@pytest.mark.parametrize("data", [None, [], "add", 7, {"tusk": "add"}, {"self": 1}, {"steps": "7"}, {"task": {}}])
def test_foreign_json_is_refused(data):
    with pytest.raises(ArithlabError):
        Experiment.from_json(data)


def test_an_unknown_field_is_refused_with_the_nearest_one():
    with pytest.raises(ArithlabError, match="Did you mean 'positions'"):
        DEFAULT.with_(position="rope")


def test_an_experiment_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        DEFAULT.steps = 5


def test_the_papers_model_has_the_papers_size_and_sequence():
    faithful = Experiment.faithful(seed=3)
    assert (faithful.seed, faithful.batch, faithful.dropout, faithful.steps) == (3, 64, 0.2, 8_000_000)
    assert faithful.model().parameter_count() == 10_726_272
    assert faithful.format_.length(faithful.task_) == 66


def test_all_problems_are_told_at_once():
    text = problems(
        task="div", train="D_x", size="2-3-20", positions="ropee", steps=0, batch="9", dropout=1.0, optimizer="sgd"
    )  # fmt: skip
    for told in ("'div'", "'D_x'", "'2-3-20'", "'rope'", "steps 0", "batch '9'", "dropout 1.0", "'sgd'"):
        assert told in text


def test_problems_between_fields_are_told_beside_others():
    text = problems(train="D_20", size="2-3-21", positions="rope", seed=-1)
    assert "20 digits" in text
    assert "18 and 24" in text
    assert "seed -1" in text


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"positions": "sinusiodal"}, "sinusoidal"),
        ({"optimizer": "adam"}, "adamw"),
        ({"schedule": "linaer"}, "linear"),
        ({"size": "tinny"}, "tiny"),
        ({"format": "padded 9 answer first"}, "padded 9 answer high"),
        ({"format": "paded 9"}, "padded"),
        ({"size": "2-4-65"}, "64"),
        ({"format": "padded 30", "size": "nano", "train": "D_30", "context": 91}, "92"),
        ({"format": "unpadded", "context": 29}, "30"),
        ({"format": "padded 100", "size": "nano"}, "302"),
        ({"train": "D_10"}, "at least 10"),
        ({"train": "D_4", "format": "p2 3"}, "3 places"),
        ({"task": "mul", "format": "p1", "train": "D_11"}, "21 places"),
        ({"train": "D_3[digits=6-9]", "task": "add base 8"}, "01234567"),
        ({"train": "D_3[place3=1]"}, "place"),
        ({"train": "D_3[digits=0]"}, "empty"),
        ({"train": "D_3[chain=4]"}, "chain"),
    ],
)
def test_a_problem_is_told_with_what_would_do(changes, hint):
    assert hint in problems(**changes)


@pytest.mark.parametrize("value", [True, "5", None, float("nan"), float("inf"), -1, -1.5, 1e300, 10**400, [1], {}])
@pytest.mark.parametrize(
    "name", ["steps", "batch", "warmup", "seed", "lr", "matrix_lr", "weight_decay", "dropout", "sink"]
)
def test_values_that_are_no_such_number_are_refused(name, value):
    assert name in problems(**{name: value})


@pytest.mark.parametrize("name", ["pairs", "context"])
@pytest.mark.parametrize("value", [0, -3, True, 2.0, "5", 10**400])
def test_optional_numbers_are_checked_too(name, value):
    assert name in problems(**{name: value})


def test_a_context_of_the_experiment_replaces_that_of_the_size():
    made = Experiment(size="nano", format="padded 100", train="D_100", context=310).model()
    assert len(made.positions[0].table.weight) == 310


numbers = st.one_of(st.integers(), st.floats(), st.booleans(), st.sampled_from([0, 1, 300, 2**63, 10**5000, 1e-3]))
words = st.sampled_from([
    "add", "mul mod 50 base 7", "add mod 3 base 2", "D_4", "D_ab2[digits=0-1]", "D_3[chain=1]", "D_9+0.5*D_10", "p1",
    "p2 5", "padded 9", "unpadded", "tiny", "2-3-21", "gpt2", "rope", "shaw", "none", "muon", "cosine", "linear", "",
])  # fmt: skip
values = st.one_of(
    words, numbers, st.none(), st.text(max_size=20), st.binary(max_size=3), st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(sorted(CHANGES)), values))
def test_any_values_make_an_experiment_or_an_error_of_the_package(changes):
    try:
        made = Experiment(**changes)
    except ArithlabError:
        return
    again = Experiment.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.id == made.id


sound = st.fixed_dictionaries({}, optional={
    "task": st.sampled_from(["add", "mul", "add mod 101", "mul mod 50 base 7", "add base 2"]),
    "train": st.sampled_from(["D_1", "D_4", "D_ab2", "D_3+2*D_4", "D_4[digits=0-1]", "D_5[chain=2]"]),
    "format": st.sampled_from(["padded 9", "aligned", "p1", "p2 5", "padded 7 operands high answer high"]),
    "size": st.sampled_from(["1-1-8", "2-2-16", "nano"]),
    "positions": st.sampled_from(["none", "learned", "sinusoidal", "rope", "t5", "fire randomized", "coupled"]),
    "steps": st.integers(1, 10**9), "lr": st.floats(0, 1), "dropout": st.floats(0, 1, exclude_max=True),
    "seed": st.integers(0, 2**63 - 1), "pairs": st.none() | st.integers(1, 10**6), "context": st.just(300),
})  # fmt: skip


@given(sound)
def test_sound_experiments_are_accepted_and_read_their_own_examples(changes):
    made = Experiment(**changes)
    a, b = made.train_domain.sample(np.random.default_rng(0), 3, made.base)
    ids = torch.from_numpy(made.format_.encode(made.task_, a, b).ids).long()
    assert made.model()(ids[:, :-1]).shape == (3, ids.shape[1] - 1, len(made.format_.vocabulary(made.task_)))


@pytest.mark.parametrize(
    ("positions", "fmt"),
    [("rope randomized", "unpadded"), ("clipped places", "unpadded answer high"), ("coupled", "unpadded answer high")],
)
def test_positions_that_need_the_length_of_the_answer_are_refused(positions, fmt):
    with pytest.raises(ConfigError, match="use 'aligned' instead"):
        Experiment(positions=positions, format=fmt)
    Experiment(positions=positions, format=fmt.replace("unpadded", "aligned"))


@pytest.mark.parametrize(
    ("changes", "digits"),
    [
        ({"task": "mul", "format": "aligned", "positions": "coupled"}, 130),
        ({"format": "sums", "positions": "coupled"}, 253),
        ({"task": "mul", "format": "aligned", "positions": "learned places", "context": 14}, 9),
    ],
)
def test_places_past_the_table_are_refused(changes, digits):
    with pytest.raises(ArithlabError, match=r"need \d+ learned positions and this run has \d+: ask shorter questions"):
        Experiment(train="D_1", **changes).check_length(digits)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "padded 300", "positions": "coupled"},
        {"task": "mul", "format": "padded 130", "positions": "abacus"},
        {"task": "add mod 1" + 300 * "0", "format": "aligned", "positions": "coupled"},
    ],
)
def test_formats_wider_than_the_table_are_refused_before_training(changes):
    assert "this run has 256" in problems(train="D_4", **changes)


LAYOUTS = {
    "add": ["padded {}", "padded {} operands high answer high", "unpadded", "unpadded operands high", "aligned",
            "aligned answer high", "aligned operands high", "sums", "p1", "p2 {}"],
    "mul": ["padded {}", "unpadded", "aligned", "aligned repeated", "schoolbook"],
    "add mod 101": ["padded {} answer high", "unpadded", "aligned", "remainders"],
    "mul mod 100003": ["padded {}", "aligned"],
}  # fmt: skip


@pytest.mark.parametrize("positions", ["learned", "learned randomized", "learned places", "learned places randomized",
                                       "coupled", "abacus"])  # fmt: skip
@pytest.mark.parametrize(("task", "text"), [(task, text) for task, texts in LAYOUTS.items() for text in texts])
def test_the_longest_accepted_operands_stay_inside_the_table(task, text, positions, monkeypatch):
    """With small tables, which are quick to fill; the batches hold examples of several lengths."""
    monkeypatch.setattr("arithlab.model.positions.Coupled.rows", 24)
    monkeypatch.setattr("arithlab.model.positions.RANGE", 24)
    context = 24 if positions.startswith("learned") and "randomized" not in positions else None
    fields = {"task": task, "train": "D_1[b=1]", "size": "1-1-8", "positions": positions, "context": context}

    def accepted(digits):
        try:
            e = Experiment(format=text.format(digits), **fields)
            e.check_length(digits)
        except ArithlabError:
            return None
        return e

    longest = max((digits for digits in range(1, 40) if accepted(digits)), default=None)
    if longest is None:  # not even one digit fits, or the encoding does not know this format
        return
    e = accepted(longest)
    rows = len(e.model().positions[0].table.weight)
    a = np.full((3, longest), e.base - 1, np.uint8)
    a[1, 1:] = 0
    b = a.copy()
    b[2, 1:] = 0
    b = b * (np.arange(longest) < 1) if "repeated" in text else b
    tokens = e.format_.encode(e.task_, a, b)
    layout, ids = Layout.of(tokens), torch.from_numpy(tokens.ids).long()
    for model in (e.model().train(), e.model().eval()):
        assert model(ids[:, :-1], layout=layout).isfinite().all()
    if accepted(longest + 1) is None and not e.encoding.randomized and e.encoding.places and text != "p1":
        wide = Experiment(format=text.format(longest + 1), **{**fields, "positions": "none"})
        try:
            wide.check_length(longest + 1)
        except ArithlabError:
            return  # too long for the format itself
        more = np.full((1, longest + 1), e.base - 1, np.uint8)
        second = more * (np.arange(longest + 1) < 1) if "repeated" in text else more
        layout = Layout.of(wide.format_.encode(wide.task_, more, second))
        assert e.model().eval().positions[0].measure(layout, 1).max() >= rows  # one digit more would not fit
