"""What a training curve shows: where the loss should stand still, and where it did."""

import math

import numpy as np
import pandas as pd

from ..arithmetic import plateaus as theory
from .experiment import Experiment
from .runs import Run

NEAR = 0.05  # a loss this close to a level, as a fraction of it, stands there


def plateaus(experiment: Experiment) -> pd.DataFrame:
    """The predicted plateaus of the loss of a modular sum: columns open (equally likely answers), known, loss.

    See `arithmetic.plateaus`; the loss is the mean over the supervised tokens of an example, in nats.

    >>> plateaus(Experiment(task="add mod 101", format="padded 6")).loss.round(3).tolist()
    [1.538, 0.768]
    """
    e = experiment
    found = theory.plateaus(e.task_, units_first=e.format_.answer == "units")
    one = np.zeros((1, e.train_domain.digits), np.uint8)
    tokens = int(e.format_.encode(e.task_, one, one).supervised.sum())
    return pd.DataFrame([{"open": k, "known": known, "loss": math.log(k) / tokens} for k, known in found])


def standing(run: Run) -> pd.DataFrame:
    """The losses along a run's training and the plateau at which each stands, if any: columns step, loss, open.

    open: that of the predicted plateau within 5 % of the loss, 0 where there is none.
    """
    curve = run.metrics.drop_duplicates("step")[["step", "loss"]].reset_index(drop=True)
    levels = plateaus(run.experiment)
    away = np.abs(np.subtract.outer(curve.loss.to_numpy(), levels.loss.to_numpy())) / levels.loss.to_numpy()
    nearest = away.argmin(1)
    return curve.assign(open=np.where(away.min(1) <= NEAR, levels.open.to_numpy()[nearest], 0))
