"""Grid files: many experiments in a few lines of TOML, and how their runs are to be tested.

[common]                                # every table below starts from these fields of an experiment
steps = 600
seed = [0, 1, 2]

[[runs]]                                # a list means each of its values: here 2 x 2 x 3 runs
task = ["add", "add mod 101"]
positions = ["learned", "rope"]

[[runs]]
task = "mul"
steps = 2000

[test]                                  # may be left out: each finished run is tested with n pairs of each length
digits = [5, 50, 1000]
n = 200
"""

import itertools
import math
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..arithmetic.digits import MAX_DIGITS
from ..errors import ArithlabError, RunMissing, UnknownName, shorten
from .evaluate import evaluate, has_test_pairs, test_domain
from .in_context import InContextExperiment, read_experiment
from .recipe import Recipe
from .remember import recall
from .runs import Run, list_runs, reference_folder
from .shots import outcome
from .waiting import waiting

MAX_RUNS = 10_000  # in one grid
LOG = "failed.log"  # in a run's folder: the traceback of a training that failed


@dataclass(frozen=True)
class Grid:
    """The experiments of a grid, each once, the lengths that their runs are tested at, and with how many pairs."""

    experiments: list[Recipe]
    digits: tuple[int, ...] = ()
    n: int = 200

    def possible(self, run: Run) -> list[int]:
        """The lengths that the run has positions for, and that hold pairs to test with."""
        e, found = run.experiment, []
        for digits in self.digits:
            with suppress(ArithlabError):
                e.check_length(digits)
                if has_test_pairs(test_domain(e.test_family, digits), e.base):
                    found.append(digits)
        return found

    def tested(self, run: Run) -> bool:
        """Whether a finished run was tested at all these lengths."""
        tests = (str(test_domain(run.experiment.test_family, digits)) for digits in self.possible(run))
        return all(recall(run, test, self.n) for test in tests)

    def test(self, run: Run) -> dict[str, float | None]:
        """exact_match_N and agreement_N of each length N, None where the run cannot be asked; measured once."""
        if not self.digits:
            return {}
        found = {}
        with suppress(RunMissing):  # recorded without its weights, and this was not measured
            found = {row["digits"]: row for row in evaluate(run, self.possible(run), n=self.n).to_dict("records")}
        names = [(name, digits) for name in ("exact_match", "agreement") for digits in self.digits]
        return {f"{name}_{digits}": found.get(digits, {}).get(name) for name, digits in names}


def read_grid(path: str | Path) -> Grid:
    """The grid in a file. Raises ArithlabError where one of its experiments cannot run."""
    path = Path(path)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.toml", path.name):
        raise ArithlabError(f"grid file {shorten(path.name)}: name it with letters, digits, - and _, ending in .toml.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArithlabError(f"cannot read the grid {shorten(str(path), 200)}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ArithlabError(f"{path} is no TOML: {str(error)[:200]}.") from error
    return grid(data, str(path))


def grid(data: dict, name: str = "grid") -> Grid:
    """The grid that the tables of a file describe.

    >>> found = grid({"common": {"positions": "rope"}, "runs": [{"seed": [0, 1]}, {"seed": [1, 2]}]})
    >>> [e.seed for e in found.experiments]
    [0, 1, 2]
    """
    for key in data:
        if key not in ("common", "runs", "test"):
            raise UnknownName(f"table of {name}", key, ["common", "runs", "test"])
    common, tables, test = data.get("common", {}), data.get("runs", [{}]), data.get("test", {})
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in [common, test, *tables]):
        raise ArithlabError(
            f"{name}: write one [common] and any number of [[runs]], each with fields of an experiment."
        )
    digits, n = test.get("digits", []), test.get("n", Grid.n)
    lengths = isinstance(digits, list) and all(type(length) is int and length > 0 for length in digits)
    if not lengths or type(n) is not int or n < 1 or set(test) - {"digits", "n"}:
        raise ArithlabError(f"{name}: write a [test] as digits = [5, 50] and, where wanted, n = 200, and nothing else.")
    too_long = next((length for length in digits if length > MAX_DIGITS), None)
    if too_long is not None:  # said here, not of every run once it is trained
        raise ArithlabError(
            f"{name}: [test] has digits {shorten(too_long)}, allowed are 1 to {MAX_DIGITS:,}: test shorter ones."
        )
    lists = [{k: v if isinstance(v, list) else [v] for k, v in {**common, **table}.items()} for table in tables]
    count = sum(math.prod(map(len, table.values())) for table in lists)
    if not 0 < count <= MAX_RUNS:
        raise ArithlabError(f"{name} has {count:,} runs: allowed are 1 to {MAX_RUNS:,}, and no empty list.")
    found = {}
    for number, table in enumerate(lists, 1):
        for values in itertools.product(*table.values()):
            try:
                experiment = read_experiment(dict(zip(table, values, strict=True)))
            except ArithlabError as error:
                raise ArithlabError(f"{name}, table {number} of [[runs]]: {error}") from error
            found[experiment.id] = experiment
    return Grid(list(found.values()), tuple(digits), n)


def recorded(name: str) -> pd.DataFrame:
    """The recorded `results` of a grid of many runs, of which the table is kept and not the weights."""
    path = reference_folder() / f"{name}.csv"
    if not path.is_file():
        known = sorted(p.stem for p in reference_folder().glob("*.csv"))
        raise UnknownName("recorded table", name, known)
    return pd.read_csv(path)


def results(path: str | Path | None = None) -> pd.DataFrame:
    """One row per run of a grid file, or of every finished run: id, state, the fields that vary, and how it went.

    Columns: run, state (finished, failed or unfinished), the fields of the experiment in which the runs differ,
    seconds, and exact_match_1, exact_match_2 ... by number of digits, as fractions: what the grid's [test] found, with
    agreement_1 ... (with the predicted function), or where it has none the last measurement of training.
    """
    chosen = Grid([run.experiment for run in list_runs()]) if path is None else read_grid(path)
    experiments = chosen.experiments
    described = [e.to_json() for e in experiments]
    names = dict.fromkeys(name for fields in described for name in fields)
    varied = [name for name in names if len({fields.get(name) for fields in described}) > 1]
    rows = []
    for experiment, fields in waiting([*zip(experiments, described, strict=True)], "reading runs"):
        run = Run.of(experiment)
        state = "finished" if run.finished else "failed" if (run.path / LOG).exists() else "unfinished"
        row = {"run": run.id, "state": state, **{name: fields.get(name) for name in varied}, "seconds": None}
        if state == "finished":
            row["seconds"] = run.summary["seconds"]
            if chosen.digits:
                row |= chosen.test(run)
            elif isinstance(experiment, InContextExperiment):
                row |= outcome(run)
            else:
                metrics = run.metrics
                last = metrics[metrics.step == experiment.steps]
                row |= {f"exact_match_{at.digits}": at.exact_match for at in last.itertuples()}
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["run", "state", "seconds"])
