"""Record the finished runs of a grid: `record.py grids/NAME.toml [--weights SEED ...] [--of TASK ...]`.

With a [test], and in context, the table of results goes to outputs/reference/NAME.csv. Otherwise, or where --weights
is given, every run is copied to outputs/reference, with its curve and what was measured of it; with weights for the
seeds named only (and the tasks, where --of names some), and where they are recorded already. In context, only the runs
of these seeds are copied: nothing stands for weights there.
"""

import argparse
import sys
from pathlib import Path

from arithlab.errors import ArithlabError
from arithlab.training.grids import read_grid, results
from arithlab.training.in_context import InContextExperiment
from arithlab.training.remember import record
from arithlab.training.runs import WEIGHTS, Run, reference_folder, write_file

# fields by which claims tell runs apart: in every table, varied or not
CHOSEN_BY = ("weight_decay", "sink", "positions", "train", "task")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--weights", type=int, nargs="*", help="of these seeds (default: 0 1 without a [test])")
    parser.add_argument("--of", nargs="+", metavar="TASK", help="weights of these tasks only")
    given = parser.parse_args()
    grid = read_grid(given.grid)
    missing = [e for e in grid.experiments if not Run.of(e).finished]
    if missing:
        raise ArithlabError(f"{len(missing)} runs of {given.grid} are not finished: `arithlab sweep` it first.")
    in_context = isinstance(grid.experiments[0], InContextExperiment)
    table = grid.digits or in_context
    if table:
        found, first = results(given.grid), grid.experiments[0]
        for name in () if in_context else CHOSEN_BY:
            if name not in found:
                found.insert(2, name, getattr(first, name))
        write_file(reference_folder() / f"{given.grid.stem}.csv", found.to_csv(index=False))
    if given.weights is not None or not table:
        seeds = [0, 1] if given.weights is None else given.weights
        for experiment in grid.experiments:
            if experiment.seed in seeds or not in_context:
                wanted = experiment.seed in seeds and (not given.of or experiment.task in given.of)
                kept = (reference_folder() / experiment.id / WEIGHTS).exists()  # a notebook may look inside them
                record(Run.of(experiment), weights=wanted or kept)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ArithlabError as error:
        sys.exit(str(error))
