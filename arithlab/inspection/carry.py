"""Where the carry travels: does a written answer digit decide the next one?"""

import numpy as np
import pandas as pd
import torch

from ..arithmetic import batches
from ..arithmetic.tokens import ROLE
from ..errors import ArithlabError
from ..model.positions import Layout
from ..training.evaluate import test_domain, wilson
from ..training.runs import Run


def carry_test(run: Run, digits: int, n: int = 2_000) -> pd.DataFrame:
    """Overwrite one written answer digit and see whether the model's next digit follows.

    Where a_k + b_k = base - 1, the operands at place k leave the carry open: the written digit c_k says
    which it was (base - 1: none, 0: one). Swapping these two must move the next digit by one if the carry
    travels through the answer. Control: places whose operand digits settle the carry by themselves
    (sum at most base - 3), c_k overwritten by its neighbour: the next digit should stay.

    Columns: case, place, n, moved (share of next digits that moved by one as the swap says), changed
    (share that changed at all), low, high (95 % Wilson interval of moved). Needs an addition whose answer
    is written units first.
    """
    e = run.experiment
    if (
        e.task_.operation != "add"
        or e.task_.modulus is not None
        or e.format_.answer != "units"
        or e.format_.width is None
    ):
        raise ArithlabError("carry_test needs a plain addition in a padded format with the answer units first.")
    a, b = batches.held_out_pairs(test_domain("D_ab", digits), e.base, n)
    tokens = e.format_.encode(e.task_, a, b)
    answer, layout = np.flatnonzero(tokens.role[0] == ROLE["c"]), Layout.of(tokens)
    vocabulary = e.format_.vocabulary(e.task_)
    zero, rows = vocabulary.index("0"), []
    for place in range(digits - 1):
        total = a[:, place].astype(int) + b[:, place]
        written = tokens.ids[:, answer[place]].astype(int) - zero
        for case, chosen in (("carry open", total == e.base - 1), ("control", total <= e.base - 3)):
            if not chosen.any():
                continue
            ids = tokens.ids[chosen].astype(int)
            before = _next_digit(run, ids, layout, answer[place]) - zero
            new = (written[chosen] + 1) % e.base
            if case == "carry open":
                new = e.base - 1 - written[chosen]  # 9 becomes 0 and 0 becomes 9
            ids[:, answer[place]] = new + zero
            after = _next_digit(run, ids, layout, answer[place]) - zero
            step = np.where(new == 0, 1, -1) if case == "carry open" else 1
            moved = after == (before + step) % e.base
            low, high = wilson(moved.sum(), len(moved))
            rows.append({"case": case, "place": place, "n": len(moved), "moved": moved.mean(),
                         "changed": (after != before).mean(), "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(rows)


def _next_digit(run: Run, ids: np.ndarray, layout: Layout, at: int) -> np.ndarray:
    """The token that the model writes after position `at`."""
    with torch.inference_mode():
        return run.model(torch.from_numpy(ids[:, : at + 1]), tail=1, layout=layout).argmax(-1)[:, 0].numpy()
