"""The claims of 2407.17963 and 2308.08268 on how training goes: orders, plateaus, collapses, delays; for the ledger."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from .claims import LEARNED, P1, P2, Claim, papers, steps_to
from .training.curves import NEAR, standing
from .training.runs import Run, find_run

MODULI = 6  # that a seed needs for an order


def claims() -> list[Claim]:
    """The claims on training curves that recorded runs decide on, or could."""
    theirs = papers("modular_addition_grokking_iterations").set_index("modulus")
    theirs = theirs.log10_iterations_at_half_accuracy_read_off_figure
    return [
        Claim(
            id="order of the moduli",
            paper=P1,
            where="training curves of modular addition",
            says="the moduli are learned in the order " + ", ".join(str(p) for p in theirs.sort_values().index),
            theirs=", ".join(f"{p}: 10^{x:g}" for p, x in theirs.items()) + " iterations to half accuracy",
            grid="addition_mod",
            runs={"sink": 0.0},
            measure=partial(_rank_correlation, theirs=theirs),
            measured="rank correlation (x 100) of the examples seen until half accuracy, per seed of 6 moduli or more",
            least=70.0,
            notebook="04_mod_100_vs_101",
        ),
        Claim(
            id="plateaus",
            paper=P1,
            where="training curves of modular addition",
            says="until it learns the task, the loss stands at ln(k)/m for k open answers and m tokens",
            theirs="51: 0.17, 101: 0.20, 150: 0.05, 151: 0.22, 200: 0.23, 0.13, 0.03, 201: 0.23, 0.13 (23 tokens)",
            grid="addition_mod",
            runs={"task": tuple(f"add mod {p}" for p in (51, 101, 150, 151, 200, 201))},
            measure=partial(_by_run, number=_standing),
            measured="of the evaluations where the loss stands still, the share (%) within 5 % of a predicted plateau",
            least=80.0,
            variant="task",
            notebook="04_mod_100_vs_101",
        ),
        Claim(
            id="transient collapses",
            paper=P1,
            where="training curves of modular addition",
            says="modulo 151 and 201, accuracy collapses for a while after the task was learned",
            theirs="spikes down to 40 to 90 %",
            grid="addition_mod",
            runs={"task": ("add mod 151", "add mod 201")},
            measure=partial(_by_run, number=_deepest_fall),
            measured="deepest fall (points) from 90 % or more at the training length, at 20 looks during training",
            least=10.0,
            variant="task",
            learned=3,
            notebook="04_mod_100_vs_101",
        ),
        Claim(
            id="order of the lengths",
            paper=P1,
            where="training curves of addition",
            says="trained on D_4 or D_5, the training length is learned first and shorter numbers later",
            theirs="1.4 to 10 times as many iterations",
            grid="heads",  # looked at twice as often as the runs of `addition`
            measure=partial(_by_run, number=_lag),
            measured="steps until all shorter lengths are at half accuracy, divided by those of the training length",
            least=1.1,
            variant="train",
            notebook="02_ape_vs_rpe",
        ),
        Claim(
            id="P2 V3",
            where="table 3, V3",
            says="with the answer written highest digit first learning takes several times as long",
            theirs="7.44 times",
            measure=_slowed,
            measured="steps to 99 % exact match, in multiples of those with the units first, per seed",
            least=2.0,
            paper=P2,
            grid="orders",
            runs={"train": "D_3"},
            notebook="01_data",
        ),
    ]


def _by_run(table: pd.DataFrame, *, number: Callable[[Run], float]) -> pd.Series:
    return table["run"].map(find_run).map(number)


def _deepest_fall(run: Run) -> float:
    """How far exact match at the training length falls from 90 % or more, in points."""
    metrics = run.metrics
    curve = metrics.exact_match[metrics.digits == run.experiment.train_domain.digits]
    top = curve.cummax()
    return 100 * (top - curve)[top >= LEARNED].max()


def _lag(run: Run) -> float:
    """Steps until all lengths below that of training are at half accuracy, in multiples of those of the latter."""
    trained = run.experiment.train_domain.digits
    return max(steps_to(run, 0.5, digits) for digits in range(1, trained)) / steps_to(run, 0.5)


def _standing(run: Run) -> float:
    """How often (%) the loss stands at a predicted plateau where it stands still; not-a-number where it never does.

    That is before 90 % exact match, where it changes by less than 5 % to the next evaluation.
    """
    curve = standing(run)
    still = curve[(curve.loss.pct_change().shift(-1).abs() < NEAR) & (curve.step < steps_to(run, LEARNED))]
    return 100 * (still.open > 0).mean()


def _rank_correlation(table: pd.DataFrame, *, theirs: pd.Series) -> pd.Series:
    values = {}
    for _, runs in table.groupby("seed"):
        examples = {}
        for run in map(find_run, runs.run):
            examples[run.experiment.task_.modulus] = steps_to(run, 0.5) * run.experiment.batch
        if len(examples) >= MODULI:
            ours = pd.Series(examples).reindex(theirs.index)
            values[runs.index[0]] = 100 * ours.rank().corr(theirs.rank())
    return pd.Series(values)


def _slowed(table: pd.DataFrame) -> pd.Series:
    """How many times as many steps each seed takes with the answer highest digit first."""
    values = {}
    for _, runs in table.groupby("seed"):
        steps = {run.experiment.format_.answer: steps_to(run, 0.99) for run in map(find_run, runs.run)}
        values[runs.index[0]] = steps["high"] / steps["units"]
    return pd.Series(values)
