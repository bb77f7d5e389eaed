"""The claims of 2406.02550 (tasks in context) at laptop scale, for the ledger."""

from functools import partial

import pandas as pd

from .claims import Claim, best
from .training.shots import PHASES

P3 = "2406.02550"
GRID, SMALLER, NOTEBOOK = "in_context", "in_context_small", "07_in_context_modular"  # p = 7, p = 5
FEW, MANY, SMALL, LARGE = 4, 40, 0.5, 0.8  # tasks of 49, shares of the inputs
CHOSEN = {"rule": "rectangular"}  # how the tasks of pre-training are chosen, unless a claim is about that
TWO, ONE = {"size": "tiny"} | CHOSEN, {"size": "1-4-64"} | CHOSEN  # blocks


def claims() -> list[Claim]:
    """The claims that the recorded runs decide on."""
    common = {"paper": P3, "grid": GRID, "notebook": NOTEBOOK}
    smaller = common | {"grid": SMALLER}
    many = TWO | {"tasks": MANY, "alpha": LARGE}
    learners = TWO | {"tasks": MANY, "phase": (PHASES["ood train"], PHASES["ood test"])}  # say something of new tasks
    return [
        Claim(
            id="P3 phases",
            where="figure 1b",
            says="four phases, by number of tasks and share of inputs",
            theirs="4",
            runs=TWO,
            measure=_phases,
            measured="how many of the four phases the runs of one seed show",
            least=4,
            most=4,
            **common,
        ),
        Claim(
            id="P3 tasks",
            where="figures 1b and 3",
            says="new tasks are solved in context after pre-training on many tasks, not on few",
            theirs="yes",
            runs=TWO | {"alpha": LARGE, "tasks": (FEW, MANY)},
            measure=partial(_rise, column="best_ood train", by="tasks"),
            measured=f"points of accuracy on new tasks, known inputs: {MANY} tasks above {FEW}",
            least=40,
            **common,
        ),
        Claim(
            id="P3 inputs",
            where="figure 1b",
            says="with few inputs new tasks are solved on known inputs only (o.o.d. memorization)",
            theirs="yes",
            runs=TWO | {"alpha": SMALL, "tasks": MANY},
            measure=lambda table: 100 * (table["best_ood train"] - table["best_ood test"]),
            measured="points of accuracy on new tasks, known inputs above new ones",
            least=25,
            **common,
        ),
        Claim(
            id="P3 transience",
            where="figures 3 and 25",
            says="the ability to solve new tasks in context can fade again",
            theirs="yes, in deeper models at intermediate numbers of tasks",
            runs=TWO | {"alpha": SMALL},
            measure=_fading,
            measured="largest loss on new tasks, known inputs, from the best step to the end, in points, per seed",
            least=10,
            **common,
        ),
        Claim(
            id="P3 random tasks",
            where="figure 9",
            says="tasks chosen at random do as well as rectangular ones",
            theirs="yes",
            runs={"size": "tiny", "rule": "random"},
            measure=lambda table: 100 * table["best_ood train"],
            measured=f"accuracy (%) on new tasks, known inputs, after {MANY} tasks chosen at random, at the best step",
            least=50,
            **common,
        ),
        Claim(
            id="P3 depth",
            where="figure 4",
            says="one block learns no new task in context (two are the least that does)",
            theirs="yes",
            runs=ONE,
            measure=lambda table: 100 * table["best_ood train"],
            measured=f"accuracy (%) of one block on new tasks, known inputs, after {MANY} tasks, at its best step",
            most=30,
            **common,
        ),
        Claim(
            id="P3 four blocks",
            where="figures 1 and 3",
            says="four blocks learn to solve new tasks in context",
            theirs="yes",
            runs={"size": "4-4-64"},
            measure=lambda table: 100 * table["best_ood train"],
            measured="accuracy (%) on new tasks, known inputs, at the best step; p = 5, 20 of 25 tasks",
            least=50,
            **smaller,
        ),
        Claim(
            id="P3 two blocks stay",
            where="figure 25",
            says="with two blocks the ability does not fade",
            theirs="yes",
            runs={"size": "tiny", "tasks": 20, "shared": False},
            measure=lambda table: 100 * table["exact_match_ood train"] / table["best_ood train"],
            measured="accuracy on new tasks, known inputs, at the end, in % of the best step; p = 5, 20 of 25 tasks",
            least=90,
            **smaller,
        ),
        *(
            Claim(
                id=f"P3 {name}",
                where="figure 5",
                says=says,
                theirs="yes",
                runs=learners,
                measure=lambda table, column=f"{kind}_late": 100 * table[column],
                measured=f"accuracy (%) on new tasks late in the context, {what}",
                **bound,
                **common,
            )
            for name, kind, what, says, bound in (
                (
                    "ratio matching",
                    "ratio",
                    "where the question is a multiple of one example",
                    "a model of two blocks does ratio matching",
                    {"least": 95},
                ),
                (
                    "no regression",
                    "regression",
                    "where only a combination of examples gives the answer",
                    "and nothing else: it does not combine examples",
                    {"most": 30},
                ),
            )
        ),
        Claim(
            id="P3 noise",
            where="figure 24",
            says="a model of two blocks is not robust against wrong labels",
            theirs="yes",
            runs=learners,
            measure=lambda table: 100 * table["noisy_late"],
            measured="accuracy on new tasks with 40 % of the labels wrong, in % of that with none",
            most=75,
            **common,
        ),
        Claim(
            id="P3 design",
            where="section 2",
            says="without batches that share one list of inputs the models do not train",
            theirs="yes",
            runs=many,
            measure=partial(best, name="exact_match", lengths=["id train"]),
            measured="accuracy (%) on known tasks and inputs, every sequence with inputs of its own",
            most=50,
            **common,
        ),
    ]


def _phases(table: pd.DataFrame) -> pd.Series:
    runs = table.groupby("seed").seed.transform("size")
    table = table[runs == runs.max()]  # seeds with a run in every cell
    seen = table[table.phase.isin(PHASES.values())].groupby("seed").phase.nunique()
    return seen.set_axis([table.index[table.seed == seed][0] for seed in seen.index]).astype(float)


def _rise(table: pd.DataFrame, *, column: str, by: str) -> pd.Series:
    """The last value less the first, in points, for each seed, going by a column."""
    values = {}
    for _, runs in table.groupby("seed"):
        ordered = runs.sort_values(by)
        values[ordered.index[0]] = 100 * (ordered[column].iloc[-1] - ordered[column].iloc[0])
    return pd.Series(values)


def _fading(table: pd.DataFrame) -> pd.Series:
    lost = 100 * (table["best_ood train"] - table["exact_match_ood train"])
    return lost.loc[lost.groupby(table.seed).idxmax()]
