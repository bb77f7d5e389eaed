"""The papers' claims, one by one, beside our runs: which runs test them, what is measured, and what must be found."""

from collections.abc import Iterator

import pandas as pd

from . import context_claims, curve_claims, digit_claims
from .claims import P1, Claim, columns, papers
from .digit_claims import COMPARED, grids_of, in_words, our_domain, runs_of, tested_lengths, trained_digits
from .errors import UnknownName
from .training.evaluate import predict
from .training.experiment import Experiment

P3 = context_claims.P3
STRONG = 1.0  # a weight decay from which runs are shown apart; that of the others is at most 0.5


def claims() -> list[Claim]:
    """Every claim of the ledger."""
    return [*digit_claims.claims(), *curve_claims.claims(), *context_claims.claims(), *_untested()]


def ledger() -> pd.DataFrame:
    """One row per claim: theirs, ours (median, range and number of seeds), cost, verdict, and the rule behind it."""
    return pd.DataFrame([claim.check() for claim in claims()])


def beside(letter: str) -> pd.DataFrame:
    """A table of 2407.17963, A to H: their percentages by number of digits, and ours below each row.

    Ours: median, lowest and highest of the recorded runs; missing where none is recorded, or tested at that length. The
    runs of models with an attention sink have rows of their own, and so have those that `grids_of` calls otherwise, and
    those with a weight decay of 1 or more. Of the modular tables, C, D, G and H, the columns count digits past the
    training length (theirs four for sums, ours three or two), and a row says what theory counts for three.
    """
    printed, rows = papers("accuracy_by_length"), {}
    for (task, train, against), cells in printed[printed["table"] == letter].groupby(
        ["task", "train_domain", "compared_with"], sort=False
    ):
        modular, theirs = "mod" in task, cells.set_index("test_digits")["accuracy_percent"]
        row, wanted = (task, {"task": in_words(task)}) if modular else (train, {"train": our_domain(train)})
        past = int(train[-1]) if modular else 0
        rows[row, "paper"] = theirs.rename(lambda digits, past=past: digits - past)
        if modular and against == "ground truth":
            theory = predict(Experiment(task=in_words(task), train="D_3"), range(1, 7))
            rows[row, "theory, from three"] = pd.Series(100 * theory.predicted_accuracy.values, range(-2, 4))
        for whose, grid, runs in _ours(task, wanted):
            tested = tested_lengths(grid, COMPARED[against], theirs.index)
            measured = 100 * runs[columns(COMPARED[against], tested)]
            measured.columns = [digits - modular * trained_digits(grid) for digits in tested]
            for name in ("median", "min", "max"):
                rows[row, f"{whose}, {name} of {len(runs)}"] = getattr(measured, name)()
    if not rows:
        raise UnknownName("table", letter, [*"ABCDEFGH"])
    over = "digits past the training length" if any("mod" in row for row, _ in rows) else "digits"
    table = pd.DataFrame(rows).T.rename_axis(index=["task" if over != "digits" else "trained on", "%"], columns=over)
    return table.sort_index(axis=1).round(1)


def _ours(task: str, wanted: dict) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The recorded runs to set beside a printed row, in groups: what these are called, their table, the runs."""
    for called, grid in grids_of(task).items():
        runs = runs_of(grid, wanted | {"positions": "learned"})
        names = pd.Series(called, runs.index)
        if called == "ours" and "sink" in runs:
            names[runs["sink"] > 0] = "with a sink"
        if "weight_decay" in runs:
            names[runs["weight_decay"] >= STRONG] = "strong decay"
        yield from ((name, grid, group) for name, group in runs.groupby(names, sort=False))


def _untested() -> list[Claim]:
    """Claims that nothing recorded here can decide, and why."""
    gpu = "needs a large GPU for hours; grids/paper/in_context.toml describes the runs"
    large = "needs a large GPU for days; grids/paper describes the runs"
    later = "no runs of this are recorded yet"
    first = "no run of four blocks answers new tasks here (P3 four blocks)"
    rows = [
        (P1, "P1 full size", "tables A to H", "the tables hold for 10.7 M parameters and 8 million steps", large),
        (P3, "P3 full size", "figures 1 and 3", "the phases at p = 29, 512 wide, two to six blocks", gpu),
        (P3, "P3 regression", "figure 5", "four blocks combine examples (modular regression)", first),
        (P3, "P3 moduli", "figure 28", "larger moduli need more tasks", later),
    ]
    return [Claim(paper=p, id=i, where=w, says=s, theirs="yes", why=why) for p, i, w, s, why in rows]
