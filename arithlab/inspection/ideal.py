"""Where an ideal adder would look, and how much of each head's attention lies there."""

import numpy as np
import pandas as pd
import torch

from ..arithmetic import digits as dg
from ..arithmetic.tokens import ROLE, Tokens
from ..errors import ArithlabError
from ..model.transformer import Probe
from ..training.experiment import Experiment
from ..training.runs import Run
from .recording import check_addition, held_out

READS = ("own place", "place below", "written digit")


def ideal_tokens(tokens: Tokens, place: int) -> dict[str, list[int]]:
    """The tokens that an adder needs to write the answer digit at a place, units first: token numbers by READS.

    Own place: both operands' digits there. Place below: both digits there, which settle the carry unless they add to
    base - 1. Written digit: the answer digit below, which tells the carry where they do. At place 0 nothing is below.

    >>> from arithlab.arithmetic import digits as dg
    >>> from arithlab import format_, task
    >>> tokens = format_("padded 3").encode(task("add"), dg.from_ints([345], 10), dg.from_ints([67], 10, 3))
    >>> ideal_tokens(tokens, 1)
    {'own place': [1, 5], 'place below': [0, 4], 'written digit': [8]}
    """
    if len(tokens.role) > 1:
        raise ArithlabError("these tokens stand for other places in every row: write them in a padded format.")
    where = {(int(r), int(p)): i for i, (r, p) in enumerate(zip(tokens.role[0], tokens.place[0], strict=True))}

    def found(roles: str, place: int) -> list[int]:
        return [where[ROLE[role], place] for role in roles if (ROLE[role], place) in where]

    parts = (found("ab", place), found("ab", place - 1), found("c", place - 1))
    return dict(zip(READS, parts, strict=True))


def ideal_share(run: Run, digits: int, n: int = 200) -> pd.DataFrame:
    """The share of each head's attention that lies where an ideal adder looks, for every digit of the answer.

    Columns: layer, head, place (of the digit that is being written), reads (one of READS), share (mean over n
    questions), with_carry and without (the same over the questions with a carry into that place, and without; not a
    number where there are none), uniform (what attention spread evenly over all tokens so far would give). The score
    of the attention viewer is their sum, but for place 1, where it leaves c_0 out. Needs a plain addition with the
    answer units first.
    """
    check_addition(run, "ideal_share")
    questions = held_out(run, digits, n)
    carries = dg.carries(questions.a, questions.b, run.experiment.base)
    probe = Probe()
    with torch.inference_mode():
        run.model(questions.ids, probe=probe, layout=questions.layout)
    rows = []
    for place in range(len(questions.answer)):
        at, needed = questions.writer(place), ideal_tokens(questions.tokens, place)
        carry = carries[:, place - 1] if 0 < place <= carries.shape[1] else np.zeros(len(carries), bool)
        for layer, weights in enumerate(probe.attention):  # (N, H, Q, K)
            for reads, tokens in needed.items():
                shares = weights[:, :, at][..., tokens].double().sum(-1).numpy()  # (N, H)
                groups = {"share": shares, "with_carry": shares[carry], "without": shares[~carry]}
                means = {name: x.mean(0) if len(x) else np.full(x.shape[1], np.nan) for name, x in groups.items()}
                for head in range(shares.shape[1]):
                    about = {"layer": layer, "head": head, "place": place, "reads": reads}
                    found = {name: float(mean[head]) for name, mean in means.items()}
                    rows.append({**about, **found, "uniform": len(tokens) / (at + 1)})
    return pd.DataFrame(rows)


def needed_tokens(experiment: Experiment, table: pd.DataFrame) -> np.ndarray:
    """Whether each weight of a table of `attention` lies on a token that an ideal adder has to read; shape (rows,).

    Units first, those of `ideal_tokens` less c_0, into which nothing carries. Highest first, nothing written helps:
    the carry comes from every place below. Tokens that write no answer digit need nothing. Raises ArithlabError for
    tasks and formats in which this is not known.

    >>> reads = pd.DataFrame({"key_role": ["a", "b", "c", "a"], "key_place": [3, 2, 2, 1]})
    >>> needed_tokens(Experiment(task="add"), reads.assign(writes_role="c", writes_place=3)).tolist()
    [True, True, True, False]
    """
    e = experiment
    if e.task_.operation != "add" or e.task_.modulus is not None or (table["key_role"] == "r").any():
        raise ArithlabError(
            f"what an ideal model reads is known for plain addition without a scratchpad, not for {e.task} in the "
            f"format {e.format}: use task='add' and a format such as 'padded 9'."
        )
    back = (table["writes_place"] - table["key_place"]).to_numpy()
    operand, written = table["key_role"].isin(["a", "b"]).to_numpy(), (table["key_role"] == "c").to_numpy()
    if e.format_.answer == "units":
        needed = operand & ((back == 0) | (back == 1)) | written & (back == 1) & (table["key_place"] > 0).to_numpy()
    else:
        needed = operand & (back >= 0)
    return needed & (table["writes_role"] == "c").to_numpy()
