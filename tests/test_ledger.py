"""Verdicts follow from runs, by the stated rule, and from nothing else."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from arithlab import claims, digit_claims, ledger
from arithlab.claims import VERDICTS, Claim, best, deviation, selected, shortfall, verdict, worst
from arithlab.cli import main
from arithlab.errors import UnknownName
from arithlab.training.grids import read_grid
from arithlab.training.runs import reference_folder

LENGTHS = range(1, 10)


def runs(right: list[list[float]], **columns) -> pd.DataFrame:
    """A table of results: one run per row of `right`, which holds the exact match at 1, 2, ... digits."""
    frame = pd.DataFrame(right, columns=[f"exact_match_{n}" for n in range(1, len(right[0]) + 1)])
    return frame.assign(seed=range(len(frame)), seconds=10.0, **columns)


def claim(**changes) -> Claim:
    fields = {"id": "x", "paper": "p", "where": "here", "says": "so", "theirs": "100", "grid": "none such"}
    fields |= {"measure": lambda table: worst(table, name="exact_match", lengths=(1, 2)), "least": 98.0}
    return Claim(**fields | changes)


@pytest.mark.parametrize(
    ("inside", "variants", "expected"),
    [
        ([True] * 4, "aabb", (0, "")),
        ([True] * 3 + [False] * 4, "aaabbbb", (1, "kind a")),
        ([True, False, True, True, True], "aabbb", (1, "kind b")),
        ([True, True, False, False, False], "aabbb", (2, "")),  # two runs do not make a condition
        ([True, False, False, True], "aabb", (1, "2 of 4 runs")),
        ([True, False, False, False], "aabb", (2, "")),
        ([False] * 4, "aabb", (2, "")),
        ([], "", (3, "no run was measured")),
    ],
)
def test_the_rule(inside, variants, expected):
    table = pd.DataFrame({"kind": list(variants)})
    word, condition = verdict(pd.Series(inside, dtype=bool), table, "kind")
    assert (VERDICTS.index(word), condition) == expected


def test_a_claim_is_judged_by_every_run():
    row = claim().check(runs([[1.0, 0.99], [1.0, 0.98], [1.0, 0.5]]))
    assert row["verdict"] == "reproduced with conditions"
    assert row["values"] == [99.0, 98.0, 50.0]
    assert row["ours"] == "98.0 (50.0 to 99.0)"
    assert (row["holds"], row["seeds"], row["cost"]) == ("2 of 3", 3, "3 runs of 10 s")
    assert claim(least=40.0).check(runs([[1.0, 0.99], [1.0, 0.5], [1.0, 1.0]]))["verdict"] == "reproduced"


def test_a_printed_row_may_be_met_up_to_some_length():
    row = {1: 100, 2: 100, 3: 0, 4: 0}
    printed = claim(measure=partial(deviation, name="exact_match", cells=row), row=row, past=2, least=0.0, most=2.0)
    assert printed.check(runs(3 * [[1, 0.99, 0, 0.01]]))["verdict"] == "reproduced"
    found = printed.check(runs([[1, 1, 0, 0.5], [1, 1, 0, 0], [1, 1, 0.01, 0.5]]))
    assert (found["verdict"], found["condition"]) == ("reproduced with conditions", "up to 3 digits")
    found = printed.check(runs([[1, 1, 0.5, 0], [1, 1, 0, 0.5], [1, 1, 0, 0]]))
    assert found["verdict"] == "not reproduced"


def test_a_variant_that_is_a_number_is_written_as_one():
    sinks = pd.DataFrame({"sink": 3 * [100.0, 0.0, 0.5]})
    found = verdict(sinks["sink"] > 0, sinks, "sink")
    assert found == (VERDICTS[1], "sink 0.5, sink 100")


def test_a_variant_may_be_two_columns_together():
    both = pd.DataFrame({"sink": 6 * [10.0] + 3 * [0.0], "decay": 3 * [0.1] + 6 * [4.0]})
    inside = (both["sink"] == 10) & (both["decay"] == 4)
    assert verdict(inside, both, ("sink", "decay")) == (VERDICTS[1], "sink 10 and decay 4")
    assert verdict(inside, both, "decay") == (VERDICTS[2], "")


def test_runs_that_learned_nothing_are_set_aside():
    table = runs([*3 * [[1.0, 0.99, 0.0]], [0.2, 0.1, 0.0]])
    fails = claim(measure=lambda t: best(t, name="exact_match", lengths=[3]), least=0.0, most=5.0)
    assert fails.check(table)["holds"] == "4 of 4"
    careful = claim(measure=fails.measure, least=0.0, most=5.0, learned=2)
    assert careful.check(table)["holds"] == "3 of 3 (1 set aside)"
    few = careful.check(table.iloc[1:])
    assert few["verdict"] == VERDICTS[3]
    assert few["condition"] == "2 of 3 runs learned their training length: a verdict needs 3"
    assert fails.check(table.iloc[2:])["condition"] == "2 recorded: a verdict needs 3"


def test_what_was_never_run_is_not_testable():
    assert claim().check()["condition"] == "no such run is recorded at this scale"
    assert claim(grid=None, why="too large").check()["rule"] == "too large"
    table = runs([[1.0, 1.0]], task="add")
    assert claim(runs={"task": "mul"}).check(table)["verdict"] == VERDICTS[3]
    with pytest.raises(UnknownName, match="column"):
        selected(table, {"tsk": "add"})


def test_measures():
    table = runs([[1.0, 0.5, 0.25], [0.0, 1.0, 0.75]])
    assert worst(table, name="exact_match", lengths=(1, 2)).tolist() == [50, 0]
    assert best(table, name="exact_match", lengths=(2, 3)).tolist() == [50, 100]
    assert deviation(table, name="exact_match", cells={1: 100, 3: 20.0}).tolist() == [5, 100]
    assert shortfall(table, name="exact_match", cells={1: 0, 2: 75, 3: 20.0}).tolist() == [25, 0]


@pytest.mark.parametrize("c", ledger.claims(), ids=lambda c: c.id)
def test_every_claim_says_what_decides_it(c):
    assert c.says
    assert c.theirs
    assert c.rule
    assert (c.measure is None) == (c.grid is None)
    assert c.grid is not None or c.why
    row = c.check()
    assert row["verdict"] in VERDICTS
    assert (row["verdict"] == VERDICTS[3]) == (row["values"] == [])


def test_the_claims_are_those_of_the_tables():
    found = ledger.claims()
    assert len({c.id for c in found}) == len(found)
    printed = claims.papers("accuracy_by_length")
    rows = printed.groupby(["table", "task", "train_domain"]).ngroups
    assert (
        sum(c.where.startswith("table ") and c.paper == ledger.P1 and len(c.theirs.split()) == 9 for c in found) == rows
    )


@pytest.mark.parametrize("c", [c for c in ledger.claims() if claims.is_recorded(c.grid or "")], ids=lambda c: c.id)
def test_a_claim_can_fail_and_can_hold(c):
    """The measure of every claim tells perfect runs from runs that do the opposite."""
    table = selected(claims.recorded(c.grid), c.runs)
    if not len(table):
        pytest.skip("no such run is recorded")
    verdicts = set()
    for value in (0.0, 0.5, 1.0):
        shares = [name for name in table if name.startswith(("exact_match_", "agreement_", "best_"))]
        shares = {*shares, *(name for name in table if name.endswith("_late"))} - {"best_step"}
        made = table.assign(**dict.fromkeys(shares, value))
        if c.learned is not None:
            made[f"exact_match_{c.learned}"] = 1.0
        inside = c.measure(made).between(c.least, c.most)
        verdicts.add(bool(inside.all()))
    assert False in verdicts


@pytest.mark.parametrize("letter", "ABEF")
def test_a_printed_table_stands_beside_ours(letter):
    table = ledger.beside(letter)
    printed = claims.papers("accuracy_by_length").query("table == @letter")
    for (train, whose), row in table.iterrows():
        if whose == "paper":
            assert row.tolist() == printed[printed.train_domain == train].accuracy_percent.tolist()
        else:
            assert row.dropna().between(0, 100).all()
    with pytest.raises(UnknownName):
        ledger.beside("Z")


def test_runs_with_a_sink_have_rows_of_their_own():
    runs, table = claims.recorded("addition").query("train == 'D_4'"), ledger.beside("B")
    for whose, part in (("ours", runs[runs.sink == 0]), ("with a sink", runs[runs.sink > 0])):
        for name in ("median", "min", "max"):
            shown = table.loc["D_4", f"{whose}, {name} of {len(part)}"][9]
            assert shown == pytest.approx(100 * getattr(part.agreement_9, name)(), abs=0.051)


@pytest.mark.parametrize(
    ("letter", "row", "whose", "grid", "chosen", "column"),
    [
        ("C", "addition mod 151", "mixed lengths", "moduli", "task == 'add mod 151'", "exact_match_5"),
        ("C", "addition mod 200", "strong decay", "moduli", "task == 'add mod 200' and sink == 100", "exact_match_5"),
        ("C", "addition mod 100", "strong decay", "addition_mod", "weight_decay == 1", "exact_match_5"),
        ("G", "multiplication mod 51", "two digits", "moduli_two_digits", "task == 'mul mod 51'", "exact_match_4"),
        ("H", "multiplication mod 200", "mixed lengths", "moduli", "task == 'mul mod 200'", "agreement_5"),
        ("F", "D_34", "base 4", "multiplication_base_4", "train == 'D_3+D_4'", "agreement_5"),
    ],
)
def test_runs_trained_in_another_way_have_rows_of_their_own(letter, row, whose, grid, chosen, column):
    runs, table = claims.recorded(grid).query(chosen), ledger.beside(letter)
    shown = table.loc[row, f"{whose}, median of {len(runs)}"][2 if "mod" in row else 5]
    assert shown == pytest.approx(100 * runs[column].median(), abs=0.051)


@pytest.mark.parametrize(
    ("printed", "runs", "expected"),
    [
        ("addition", {"train": "D_4"}, ("addition", "addition")),
        ("addition mod 101", {"task": "add mod 101"}, ("addition mod 101", "addition_mod")),
        ("addition mod 51", {"task": "add mod 51"}, ("addition mod 51 (mixed lengths, with a sink)", "moduli")),
        ("multiplication mod 150", {"task": "mul mod 150"}, ("multiplication mod 150 (mixed lengths)", "moduli")),
        ("multiplication mod 51", {"task": "mul mod 51"}, ("multiplication mod 51 (two digits)", "moduli_two_digits")),
        ("multiplication", {"train": "D_2"}, ("multiplication", "multiplication")),
        ("multiplication", {"train": "D_3"}, ("multiplication (base 4, with a sink)", "multiplication_base_4")),
    ],
)
def test_which_recorded_table_decides(printed, runs, expected):
    assert digit_claims.deciding(printed, runs) == expected


@pytest.mark.parametrize("letter", "CDGH")
def test_a_printed_modular_table_counts_digits_past_the_training_length(letter):
    table = ledger.beside(letter)
    printed = claims.papers("accuracy_by_length").query("table == @letter")
    for (task, whose), row in table.iterrows():
        if whose == "paper":
            cells = printed[printed.task == task]
            trained = 4 if "addition" in task else 3
            assert row.dropna().tolist() == cells.accuracy_percent.tolist()
            assert [digits + trained for digits in row.dropna().index] == cells.test_digits.tolist()
        elif whose == "theory, from three":
            assert (row[[-2, -1, 0]] == 100).all()
    if letter == "C":
        assert table.loc[("addition mod 150", "theory, from three"), 1] == pytest.approx(33.3)
        assert table.loc[("addition mod 101", "theory, from three"), 1] == 0


def test_steps_to(monkeypatch):
    class Finished:
        experiment = next(iter(read_grid(reference_folder().parent.parent / "grids" / "encodings.toml").experiments))
        metrics = pd.DataFrame({"step": [1, 2, 3, 3], "digits": [3, 3, 3, 1], "exact_match": [0.1, 0.6, 0.7, 1.0]})

    assert claims.steps_to(Finished, 0.5) == 2
    assert claims.steps_to(Finished, 0.9) == np.inf


def test_the_command_prints_every_claim(capsys):
    assert main(["ledger", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["claims"]
    assert [row["id"] for row in rows] == [c.id for c in ledger.claims()]
    assert main(["ledger"]) == 0
    out = capsys.readouterr().out
    assert all(row["verdict"] in out for row in rows)
    assert "relative addition" in out


def test_away_from_the_recorded_runs_the_command_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["ledger"]) == 0
    assert "run this in the checkout" in capsys.readouterr().err
