"""Does the circuit form before the accuracy jumps, or after? What can be seen inside, stage by stage of training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..arithmetic.tokens import ROLE
from ..model.transformer import Probe
from ..training.evaluate import matching_tokens
from ..training.runs import Run
from ..training.waiting import waiting
from .cuts import cut_parts
from .ideal import ideal_share
from .patching import carry_followed
from .recording import check_addition, held_out, record
from .representations import fact, read_out

MEASURES = {
    "exact_match": "whole answers that are right",
    "digits_right": "single digits that are right, those below given",
    "carry_read_out": "carries that can be read out of the last block's stream after attention, in a straight line",
    "carry_control": "the same with the carries in a random order",
    "carry_followed": "of two sums that differ in one carry, both answered rightly there",
    "attention": "most attention of one head on the place below, where the carry is made",
    "cut_costs": "exact match lost where the head that matters most is cut",
}


def progress(stages: Mapping[int, Run], digits: int, n: int = 500) -> pd.DataFrame:
    """What the model can do and what can be seen inside, at each stage of its training (of `train_stages`).

    One row per stage, in the order of the steps: step, and MEASURES, as fractions, each a mean over the places
    1 ... digits - 1 of the answer where it is about places. Needs a plain addition with the answer units first.
    """
    rows = []
    for step, run in waiting(sorted(stages.items()), "stages"):
        check_addition(run, "progress")
        questions, places = held_out(run, digits, n), range(1, digits)
        right = matching_tokens(run.model, questions.tokens, Probe(attention=None))
        answer = questions.tokens.role[0, -questions.tokens.tail :] == ROLE["c"]
        last = run.experiment.shape.layers - 1
        stream = record(run.model, questions, ("resid_mid",))["resid_mid", last]
        read = [
            read_out(stream[:, questions.writer(place)].numpy(), fact(questions, f"carry {place}")) for place in places
        ]
        shares = ideal_share(run, digits, min(n, 200)).query("reads == 'place below' and place in @places")
        cut = cut_parts(run, digits, n)
        heads = cut[cut.part.isin(["whole", "head"])].groupby(["layer", "head"]).exact_match.first()
        found = (
            right.all(1).mean(), right[:, answer].mean(), *np.mean(read, 0),
            carry_followed(run, digits, min(n, 200)).right[:-1].mean(),
            shares.groupby(["layer", "head"]).share.mean().max(), heads.loc[-1, -1] - heads.min(),
        )  # fmt: skip
        rows.append({"step": step, **dict(zip(MEASURES, map(float, found), strict=True))})
    return pd.DataFrame(rows)
