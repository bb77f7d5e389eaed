"""Tables of many runs: what is predicted stands beside what was measured, and the figures say it in words."""

import pandas as pd
import pytest

from arithlab import Experiment, predict
from arithlab.errors import ArithlabError
from arithlab.notebook.table_plots import accuracy_table, agreement, beside_paper, beside_theory, claims, scaling


@pytest.fixture
def table():
    """Two encodings, two tasks, two seeds; the second fails past three digits."""
    rows = [
        {"run": f"{task}{positions}{seed}", "state": "finished", "task": task, "positions": positions, "seed": seed,
         "seconds": 1.0, "exact_match_3": 1.0, "exact_match_6": right + 0.1 * seed, "exact_match_30": right}
        for task in ("add", "add mod 101") for seed in (0, 1)
        for positions, right in (("clipped places window 1", 0.9 if task == "add" else 0.01), ("learned", 0.0))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[frame.positions == "learned", "exact_match_30"] = None  # no positions for so many digits
    return frame


@pytest.fixture
def measured(table):
    return beside_theory(table, Experiment(train="D_1-3", format="aligned"))


def test_every_accuracy_has_its_prediction(table, measured):
    assert len(measured) == 3 * len(table)
    for row in measured.to_dict("records"):
        e = Experiment(train="D_1-3", format="aligned", task=row["task"], positions=row["positions"])
        assert row["predicted"] == predict(e, [row["digits"]])["predicted_accuracy"][0]
        source = table[(table.run == row["run"])].iloc[0]
        assert row["exact_match"] == pytest.approx(source[f"exact_match_{row['digits']}"], nan_ok=True)


def test_agreement_counts_runs_past_training(measured):
    counts = agreement(measured, train_digits=3)
    assert counts.loc["carries on", "carries on"] == 4  # addition by places: 2 seeds at 6 and 30
    assert counts.loc["fails", "fails"] == 4 + 2 + 2  # mod 101 by places; learned, once each at 6
    assert counts.to_numpy().sum() == 12


def test_the_table_shows_medians_and_frames_what_theory_expects(measured):
    figure = accuracy_table(measured, panel="task", row="positions", train_digits=3, title="All")
    first = figure.data[0]
    assert list(first.y) == ["learned", "clipped places window 1"]
    assert first.z[1].tolist() == pytest.approx([100, 95, 90])
    assert first.text[0].tolist() == ["100", "5", ""]
    assert [(shape.xref, shape.x0 > 0.5, shape.y0 > 0.5) for shape in figure.layout.shapes] == [("x", True, True)] * 2
    assert "add: at 30 digits clipped places window 1 at 50 % or more" in figure.layout.meta["alt"]
    assert "add mod 101: at 30 digits none" in figure.layout.meta["alt"]
    assert "2 seeds" in first.hovertemplate
    assert first.customdata[1][1].tolist() == pytest.approx([90, 100])


def test_a_printed_table_stands_beside_medians_and_ranges():
    rows = {
        ("D_4", "paper"): [100, 0, 0],
        ("D_4", "ours, median of 3"): [100, 1, None],
        ("D_4", "ours, min of 3"): [40, 0, None],
        ("D_4", "ours, max of 3"): [100, 2, None],
        ("D_5", "paper"): [100, 100, 0],
        ("D_5", "with a sink, median of 2"): [90, 50, None],
        ("D_5", "with a sink, min of 2"): [80, 50, None],
        ("D_5", "with a sink, max of 2"): [100, 50, None],
    }
    table = pd.DataFrame(rows, index=pd.Index([4, 5, 6], name="digits")).T.rename_axis(index=["trained on", "%"])
    figure = beside_paper(table, title="Table A")
    paper, ours, sunk = figure.data
    assert (list(paper.x), list(paper.y)) == ([4, 5, 6], ["D_5", "D_4"])
    assert paper.text.tolist() == [["100", "100", "0"], ["100", "0", "0"]]
    assert list(ours.x) == [4, 5]  # no run was asked six digits
    assert ours.text.tolist() == [
        ["", ""],
        ["100<br><span style='font-size:7px'>40-100</span>", "1"],
    ]  # two points apart are one number
    assert sunk.text.tolist() == [["90<br><span style='font-size:7px'>80-100</span>", "50"], ["", ""]]
    assert "paper: D_4 100 0 0; D_5 100 100 0. ours, median: D_4 100 1" in figure.layout.meta["alt"]


def test_scaling_is_logarithmic_and_has_a_guide():
    table = pd.DataFrame(
        {"digits": [10, 100, 10, 100], "seconds": [1.0, 10.0, 1.0, 100.0], "model": ["a", "a", "b", "b"]}
    )
    figure = scaling(table, x="digits", y="seconds", by="model", title="Time")
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert [trace.name for trace in figure.data] == ["a", "b", "in proportion"]
    assert figure.data[2].y[1] / figure.data[2].y[0] == pytest.approx(10)
    assert "a: seconds from 1 at 10 to 10 at 100" in figure.layout.meta["alt"]


def seeds_only(**columns):
    rows = {"run": ["x", "y"], "state": "finished", "seconds": 1.0, "exact_match_3": [1.0, 0.9], "exact_match_6": 0.5}
    return pd.DataFrame({**rows, **columns})


def test_seeds_alone_may_vary():
    measured = beside_theory(seeds_only(seed=[0, 1]), Experiment(train="D_1-3", format="aligned"))
    assert len(measured) == 4
    assert measured["predicted"].notna().all()


def test_fields_that_may_be_empty_are_read_back_as_they_were():
    measured = beside_theory(seeds_only(context=[None, 50.0]), Experiment(train="D_1-3", format="aligned"))
    assert measured["run"].value_counts().to_dict() == {"x": 2, "y": 2}
    figure = accuracy_table(measured, panel="state", row="context", train_digits=3, title="All")
    assert list(figure.data[0].y) == ["50", "None"]
    assert figure.data[0].z.tolist() == [[90, 50], [100, 50]]
    panels = accuracy_table(measured, panel="context", row="state", train_digits=3, title="All")
    assert [note.text for note in panels.layout.annotations] == ["None", "50"]


def test_a_table_without_accuracies_is_refused():
    with pytest.raises(ArithlabError, match="exact_match"):
        beside_theory(pd.DataFrame({"run": ["x"], "state": ["unfinished"]}), Experiment())


def test_a_table_of_one_seed_or_with_a_gap_is_shown(measured):
    gap = measured[~((measured["task"] == "add") & (measured["positions"] == "learned"))].drop(columns="seed")
    figure = accuracy_table(gap, panel="task", row="positions", train_digits=3, title="All")
    assert all(pd.isna(figure.data[0].z[list(figure.data[0].y).index("learned")]))
    assert not pd.isna(figure.data[1].z).all()
    assert "1 seed<" in figure.data[0].hovertemplate


def test_claims_show_every_run_and_the_range():
    table = pd.DataFrame(
        {
            "id": ["x", "y", "z"],
            "claim": "so",
            "rule": "r",
            "values": [[1.0, 2.0], [97.0], []],
            "least": [0.0, 90.0, 0.0],
            "most": [2.0, 100.0, 5.0],
            "verdict": ["reproduced", "not reproduced", "not testable here"],
        }
    )
    figure = claims(table)
    bars, *dots = figure.data
    assert (list(bars.y), list(bars.base), list(bars.x)) == (["x", "y"], [0, 90], [2, 10])
    assert {(name, x) for dot in dots for name, x in zip(dot.y, dot.x, strict=True)} == {("x", 1), ("x", 2), ("y", 97)}
    assert "1 reproduced, 1 not reproduced" in figure.layout.meta["alt"]
