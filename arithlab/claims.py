"""What a claim is, and how runs decide on it. No verdict is typed: each is computed from recorded runs, by this rule.

A claim names the runs that test it, what is measured of each of them (one number per run), and the range in which
it must be. It is **reproduced** if every run is inside; **reproduced with conditions** if at least half of the runs
are, or every run of a variant (an encoding, say) with three runs or more, which is then named, or if a printed row is
met by every run up to some number of digits past the training length (unless a variant meets all of it); else **not
reproduced**.
Runs that did not learn their training length say nothing about what comes after it: where a claim names that length
(`learned`), they are set aside. Where fewer than three runs are left, the claim is **not testable here**.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .errors import UnknownName
from .training.grids import recorded
from .training.runs import Run, reference_folder

P1, P2 = "2407.17963", "2308.08268"
VERDICTS = ("reproduced", "reproduced with conditions", "not reproduced", "not testable here")
LEARNED = 0.9  # exact match at the training length from which a run counts as having learned
FEWEST = 3  # runs that a verdict needs, and a variant that it names
POINTS = 2.0  # a cell that a paper has at 0 or 100 % counts as met within so many points


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper, and how recorded runs decide on it.

    grid: name of the recorded table, None where nothing can be run, for the reason `why`. runs: which of its rows, by
    column; a tuple allows several values. measure: a number for each row, or for each seed where rows belong together.
    row: where the claim is a printed row, its percentages by length, and past: the training length behind which it
    may be met in part. variant: the column, or columns, by which "with conditions" may single out runs. learned: the
    training length, at which a run must be right for 90 % to count.
    """

    id: str
    paper: str
    where: str
    says: str
    theirs: str
    grid: str | None = None
    runs: Mapping[str, object] = field(default_factory=dict)
    measure: Callable[[pd.DataFrame], pd.Series] | None = None
    measured: str = ""  # what the number is
    least: float = 0.0
    most: float = 100.0
    row: Mapping[int, float] | None = None
    past: int = 0
    variant: str | tuple[str, ...] = ()
    learned: int | None = None
    notebook: str = "09_ledger"
    why: str = ""

    @property
    def rule(self) -> str:
        """The criterion in words."""
        if self.grid is None:
            return self.why
        bounds = f"at least {self.least:g}" if self.most == 100 else f"at most {self.most:g}"
        if 0 < self.least and self.most < 100:
            bounds = f"{self.least:g} to {self.most:g}"
        return f"{self.measured}: {bounds}"

    def check(self, table: pd.DataFrame | None = None) -> dict:
        """The claim as a row of the ledger; table: the runs to judge it by, where not the recorded ones."""
        row = {"id": self.id, "paper": self.paper, "where": self.where, "claim": self.says, "theirs": self.theirs}
        row |= {"ours": "", "seeds": 0, "values": [], "holds": "", "cost": "", "verdict": VERDICTS[3], "condition": ""}
        row |= {"rule": self.rule, "least": self.least, "most": self.most, "grid": self.grid or ""}
        row["notebook"] = self.notebook
        if self.grid is None:
            return row
        if table is None:
            table = recorded(self.grid) if is_recorded(self.grid) else pd.DataFrame(columns=list(self.runs))
        table = selected(table, self.runs)
        if not len(table):
            return row | {"condition": "no such run is recorded at this scale"}
        recorded_runs = len(table)
        if self.learned is not None:
            table = table[table[f"exact_match_{self.learned}"] >= LEARNED]
        if len(table) < FEWEST:
            what = "recorded" if self.learned is None else f"of {recorded_runs} runs learned their training length"
            return row | {"condition": f"{len(table)} {what}: a verdict needs {FEWEST}"}
        values = self.measure(table).dropna()
        inside = values.between(self.least, self.most)
        measured = table.reindex(values.index)
        row["verdict"], row["condition"] = verdict(inside, measured, self.variant)
        whole = inside.all() or met_by(inside, measured, self.variant)
        if self.row and not whole and (longest := self.met_up_to(table)) > self.past:
            row["verdict"], row["condition"] = VERDICTS[1], f"up to {longest} digits"
        row["values"] = [round(value, 2) for value in values]
        row["ours"] = f"{values.median():.1f} ({values.min():.1f} to {values.max():.1f})"
        row["seeds"] = table["seed"].reindex(values.index).nunique()
        row["holds"] = f"{inside.sum()} of {len(inside)}"
        if len(table) < recorded_runs:
            row["holds"] += f" ({recorded_runs - len(table)} set aside)"
        row["cost"] = f"{len(table)} runs of {table['seconds'].median():.0f} s"
        return row

    def met_up_to(self, table: pd.DataFrame) -> int:
        """The number of digits up to which every run meets the printed row; 0 where none is met."""
        longest = 0
        for digits in sorted(self.row):
            if not self.measure(table, cells={digits: self.row[digits]}).between(self.least, self.most).all():
                break
            longest = digits
        return longest


def selected(table: pd.DataFrame, runs: Mapping[str, object]) -> pd.DataFrame:
    """The rows whose columns have these values; a tuple allows several. Raises UnknownName for a column not there."""
    for name, wanted in runs.items():
        if name not in table:
            raise UnknownName("column", name, list(table))
        table = table[table[name].isin(wanted if isinstance(wanted, tuple) else (wanted,))]
    return table


def met_by(inside: pd.Series, table: pd.DataFrame, variant: str | tuple[str, ...]) -> list[tuple]:
    """The values of a column, or of several together, whose runs all met the criterion, three or more of them.

    >>> runs = pd.DataFrame({"positions": 3 * ["rope"] + 4 * ["t5"]})
    >>> met_by(runs["positions"] == "rope", runs, "positions")
    [('rope',)]
    """
    groups = inside.groupby([table[column] for column in _names(variant)]) if variant else ()
    return [values for values, group in groups if group.all() and len(group) >= FEWEST]


def _names(variant: str | tuple[str, ...]) -> tuple[str, ...]:
    return (variant,) if isinstance(variant, str) else variant


def verdict(inside: pd.Series, table: pd.DataFrame, variant: str | tuple[str, ...] = ()) -> tuple[str, str]:
    """The verdict on runs that met the criterion or not, and under which condition.

    >>> runs = pd.DataFrame({"positions": 3 * ["rope"] + 4 * ["t5"]})
    >>> verdict(runs["positions"] == "rope", runs, "positions")
    ('reproduced with conditions', 'positions rope')
    """
    if not len(inside):
        return VERDICTS[3], "no run was measured"
    if inside.all():
        return VERDICTS[0], ""
    if met := met_by(inside, table, variant):
        words = ([f"{value:g}" if isinstance(value, float) else str(value) for value in values] for values in met)
        named = (" and ".join(map(" ".join, zip(_names(variant), values, strict=True))) for values in words)
        return VERDICTS[1], ", ".join(named)
    if inside.mean() >= 0.5:
        return VERDICTS[1], f"{inside.sum()} of {len(inside)} runs"
    return VERDICTS[2], ""


def columns(name: str, lengths) -> list[str]:
    """The columns of a recorded table that hold a measurement at these lengths."""
    return [f"{name}_{digits}" for digits in lengths]


def worst(table: pd.DataFrame, *, name: str, lengths) -> pd.Series:
    """The lowest percentage of each run over these lengths."""
    return 100 * table[columns(name, lengths)].min(axis=1)


def best(table: pd.DataFrame, *, name: str, lengths) -> pd.Series:
    """The highest percentage of each run over these lengths."""
    return 100 * table[columns(name, lengths)].max(axis=1)


def deviation(table: pd.DataFrame, *, name: str, cells: Mapping[int, float]) -> pd.Series:
    """The largest distance of each run from given percentages by length, in points."""
    measured = 100 * table[columns(name, cells)]
    return (measured - list(cells.values())).abs().max(axis=1)


def shortfall(table: pd.DataFrame, *, name: str, cells: Mapping[int, float]) -> pd.Series:
    """How far, at most, each run is below given percentages by length, in points; 0 where it is below none."""
    measured = 100 * table[columns(name, cells)]
    return (list(cells.values()) - measured).max(axis=1).clip(lower=0)


def steps_to(run: Run, accuracy: float, digits: int | None = None) -> float:
    """The first step at which exact match was at least this fraction, infinity if none was.

    digits: the test length; None for the training length.
    """
    metrics, digits = run.metrics, digits or run.experiment.train_domain.digits
    there = metrics[(metrics.digits == digits) & (metrics.exact_match >= accuracy)]
    return float(there.step.min()) if len(there) else float("inf")


def papers(name: str) -> pd.DataFrame:
    """A table of numbers that the papers print: accuracy_by_length, modular_addition_grokking_iterations, ..."""
    return pd.read_csv(Path(__file__).parent / "papers" / f"{name}.csv")


def is_recorded(grid: str) -> bool:
    """Whether the results of a grid are among the recorded ones."""
    return (reference_folder() / f"{grid}.csv").is_file()
