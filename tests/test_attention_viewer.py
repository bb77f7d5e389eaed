"""What an ideal adder reads, by enumeration; and the widget that lays it over what a model reads."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from training_fixtures import BRIEF

import arithlab as al
from arithlab.errors import ArithlabError
from arithlab.inspection.ideal import needed_tokens
from arithlab.notebook.attention_viewer import Grid, overview
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]


def tokens_of_the_answer_digit(format_, place, digits=3, base=3):
    """Every pair of operands: the needed tokens' values, and the digit that is to be written."""
    e = al.Experiment(task=f"add base {base}", format=format_)
    keys = [(role, k) for role in "abc" for k in range(digits)]
    table = pd.DataFrame(keys, columns=["key_role", "key_place"]).assign(writes_role="c", writes_place=place)
    needed = needed_tokens(e, table)
    rows = []
    for a, b in itertools.product(range(base**digits), repeat=2):
        of = {"a": a, "b": b, "c": a + b}
        values = [of[role] // base**k % base for role, k in keys]
        rows.append((tuple(np.array(values)[needed]), (a + b) // base**place % base))
    return [keys[i] for i in np.flatnonzero(needed)], rows


@pytest.mark.parametrize("format_", ["padded 4", "padded 4 answer high"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_needed_tokens_decide_the_digit_and_none_can_be_left_out(format_, place):
    keys, rows = tokens_of_the_answer_digit(format_, place)
    assert len(set(rows)) == len({seen for seen, _ in rows})  # one digit for everything that is seen
    for left_out in range(len(keys)):
        fewer = {(seen[:left_out] + seen[left_out + 1 :], digit) for seen, digit in rows}
        assert len(fewer) > len({seen for seen, _ in fewer}), keys[left_out]


def test_what_is_needed_is_unknown_for_products_and_scratchpads():
    table = pd.DataFrame({"key_role": ["a"], "key_place": [0], "writes_role": ["c"], "writes_place": [0]})
    with pytest.raises(ArithlabError, match="plain addition"):
        needed_tokens(al.Experiment(task="mul", format="padded 6"), table)
    with pytest.raises(ArithlabError, match="scratchpad"):
        needed_tokens(al.Experiment(), table.assign(key_role="r"))


def test_attention_that_knows_nothing_scores_chance_and_an_ideal_adder_scores_one(padded):
    grid, table = Grid(padded, "34+57"), al.attention(padded, "34+57")
    table = table[(table["writes_role"] == "c") & (table["writes_place"] < 3)]
    needed = needed_tokens(padded.experiment, table)
    marked = table.assign(
        share=table["weight"] * needed, chance=needed / table.groupby("query")["key"].transform("nunique")
    )
    wanted = marked.groupby(["layer", "head"])[["share", "chance"]].sum() / 3  # answer digits
    real = [grid.score(head) for head in range(4)]
    assert np.allclose(real, wanted)
    assert max(abs(share - chance) for share, chance in real) > 0.1
    seen = ~np.isnan(grid.weights)
    grid.weights = np.where(seen, 1 / seen.sum(2, keepdims=True), np.nan)
    assert np.allclose(*grid.score(1))
    grid.weights = np.where(seen, grid.needed / grid.needed.sum(1, keepdims=True), np.nan)
    assert grid.score(1) == pytest.approx((1, real[1][1]))


def test_a_grid_lines_up_operands_by_place_and_loses_no_weight(padded):
    grid = Grid(padded, "34+57")
    labels = [None if key is None else grid.labels[key] for key in grid.columns]
    assert labels[:8] == ["a\u2082=0", "a\u2081=3", "a\u2080=4", None, "b\u2082=0", "b\u2081=5", "b\u2080=7", None]
    assert grid.writes == ["c\u2080=1", "c\u2081=9", "c\u2082=0"]
    assert np.allclose(np.nansum(grid.weights, axis=2), 1, atol=1e-5)
    assert np.isnan(grid.weights[:, :, 3]).all()
    on_frames = (np.nan_to_num(grid.weights) * grid.needed).sum(2).mean(1)  # the frames lie where the score counts
    assert np.allclose([grid.score(index)[0] for index in range(4)], on_frames, atol=1e-6)


def test_a_head_at_rest_is_said_to_be_on_the_sink(monkeypatch, tmp_path, padded):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    sunk = al.train(BRIEF.with_(sink=50.0))
    table = al.attention(sunk, "34+57")
    read = Grid(sunk, "34+57").reads(0)
    of_head = table[(table["layer"] == 0) & (table["head"] == 0) & (table["writes_role"] == "c")]
    left = 100 * (1 - of_head.groupby("writes_place")["weight"].sum())
    assert read["on the sink (%)"].astype(float).tolist() == pytest.approx(left[: len(read)].tolist(), abs=0.51)
    assert left.min() > 10
    assert "on the sink (%)" not in Grid(padded, "34+57").reads(0)


def test_the_small_maps_are_framed_where_an_ideal_adder_reads(padded):
    grid = Grid(padded, "34+57")
    frames = [trace for trace in overview(grid).data if trace.type == "scatter"]
    assert len(frames) == len(grid.heads) == 4
    assert not any(trace.showlegend for trace in frames)
    marked = {name: set() for name in grid.writes}
    for corner in range(0, len(frames[0].x), 6):  # five points around a cell, and a gap
        column, row = (np.mean([min(side), max(side)]) for side in (frames[0].x[corner:][:5], frames[0].y[corner:][:5]))
        marked[grid.writes[round(row)]].add(grid.labels[grid.columns[round(column)]].split("=")[0])
    names = [{"a\u2080", "b\u2080"}, {"a\u2081", "b\u2081", "a\u2080", "b\u2080"},
             {"a\u2082", "b\u2082", "a\u2081", "b\u2081", "c\u2081"}]  # fmt: skip
    assert list(marked.values()) == names
    grid.needed = None
    assert len(overview(grid).data) == 4


def test_the_viewer_follows_its_controls_and_says_what_it_shows(padded):
    viewer = al.AttentionViewer(padded, ["34+57", "99+1"])
    assert "ideal adder needs" in viewer.words.value
    for name in ("layer", "head"):
        before = viewer.table.value, viewer.words.value
        control = getattr(viewer, name)
        control.value = 1 - control.value
        assert (viewer.table.value, viewer.words.value) != before, name
    viewer.example.value = "99+1"
    assert "99+1" in viewer.words.value
    assert "100  truth" in viewer.answer.value
    viewer.other.value = "12+<b>"
    assert "is no number" in viewer.words.value
    assert "<b>" not in viewer.words.value
    viewer.other.value = "12+34"
    assert "12+34" in viewer.words.value
    figure = viewer.detail.outputs[0]["data"]["application/vnd.plotly.v1+json"]
    meta = figure["layout"]["meta"]
    assert meta["choices"][meta["chosen"]]["alt"] == meta["alt"]
    assert all(len(one["visible"]) == len(figure["data"]) for one in meta["choices"])
    assert len({json.dumps(one["visible"]) for one in meta["choices"]}) == 4
    for control in (viewer.example, viewer.other, viewer.layer, viewer.head):
        assert control.description
        assert control.tooltip


def test_a_typed_question_joins_the_list_and_the_first_one_can_be_chosen_again(padded):
    viewer = al.AttentionViewer(padded, ["12+34"])
    viewer.other.value = "56+17"
    assert viewer.example.value == viewer.grid.question["question"] == "56+17"
    viewer.example.value = "12+34"
    assert viewer.grid.question["question"] == "12+34"
    viewer.other.value = "nonsense"
    assert "role='status'" in viewer.words.value
    assert "12+34" not in viewer.words.value
    assert viewer.example.options == ("12+34", "56+17")
    unasked = al.AttentionViewer(padded, ["nonsense"])
    assert "nonsense" in unasked.words.value
    unasked.other.value = "12+34"
    assert unasked.grid.question["question"] == "12+34"


def test_the_viewer_shows_other_tasks_without_an_ideal_pattern(tmp_path):
    e = al.Experiment(task="mul", train="D_1", format="padded 3", size="1-2-8")
    run = Run(tmp_path, e)
    run.__dict__["model"] = e.model().eval()
    viewer = al.AttentionViewer(run, ["3*4"])
    assert "plain addition only" in viewer.words.value
    assert "needed" not in viewer.table.value


@pytest.mark.parametrize("questions", [[], "34+57", None])
def test_the_viewer_wants_a_list_of_questions(padded, questions):
    with pytest.raises(ArithlabError, match="list of at least one"):
        al.AttentionViewer(padded, questions)
