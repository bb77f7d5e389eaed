"""How digits that a model was never taught to read disturb its answer all the same, and by which way they come in."""

from collections.abc import Container

import numpy as np
import pandas as pd
import torch

from ..arithmetic.theory import PredictedFunction
from ..arithmetic.tokens import ROLE, Tokens
from ..errors import ArithlabError
from ..model.transformer import Probe
from ..training.runs import Run
from ..training.waiting import waiting
from .recording import Questions, held_out, record

WAYS = {"nothing": (), "keys": ("k",), "values": ("v",), "both": ("k", "v")}


def hide_unread(run: Run, digits: int, n: int = 300) -> pd.DataFrame:
    """Agreement with the predicted function while attention is kept from the digits that theory says are unread.

    n held-out pairs of so many digits are asked. At the tokens of unread digits, keys or values are replaced by those
    of the pair that theory says is read (zeros there, or the digit of a gap, as in training). A head finds by the keys
    and takes the values. One row each: hidden (nothing, keys, values, both), layer (-1: in all), agreement (share of
    answers all of whose digits are the predicted ones, the predicted ones before them given), attention (of the tokens
    that write the answer, on those tokens, with nothing to disturb them: mean over heads; of a layer, or of all), even
    (if it were spread evenly). Raises ArithlabError where theory says that every digit is read, or names no function.
    """
    model, asked, predicted = run.model, held_out(run, digits, n), run.experiment.predicted
    read = Questions(run.experiment, *predicted.operands(asked.a, asked.b))
    if (predicted.lost and digits > predicted.digits) or read.ids.shape != asked.ids.shape:
        raise ArithlabError(
            f"theory names no function that this run computes at {digits} digits ({predicted}): ask a run of a padded "
            "format with learned positions."
        )
    unread = torch.from_numpy(_unread(predicted, read.tokens, digits))
    if not len(unread):
        raise ArithlabError(
            f"theory says that this run reads all digits of {digits}-digit numbers: ask for more digits than its "
            f"{run.experiment.train_domain.digits} training digits, of a run with learned positions."
        )
    ids = read.ids.clone()
    ids[:, unread] = asked.ids[:, unread]
    held, looking, layers = record(model, read, ("k", "v")), Probe(), range(run.experiment.shape.layers)
    writers = [token - 1 for token in read.answer]
    right = torch.from_numpy(read.tokens.ids[:, read.answer]).long()

    def agreement(sites: Container[str], where: Container[int]) -> float:
        def hide(site: str, layer: int, x: torch.Tensor) -> torch.Tensor:
            if site not in sites or layer not in where:
                return x
            x = x.clone()
            x[..., unread, :] = held[site, layer][..., unread, :]
            return x

        logits = model(ids, probe=Probe(attention=None, edit=hide), layout=read.layout)
        return (logits[:, writers].argmax(-1) == right).all(1).double().mean().item()

    rows = []
    with torch.inference_mode():
        model(read.ids, probe=looking, layout=read.layout)
        on = torch.stack([kept[:, :, writers][..., unread].sum(-1).mean() for kept in looking.attention])
        even = sum(len(unread) / (writer + 1) for writer in writers) / len(writers)  # all unread ones come before
        cases = [(hidden, layer) for hidden in WAYS for layer in ([-1, *layers] if WAYS[hidden] else [-1])]
        for hidden, layer in waiting(cases, "hiding unread digits"):
            agreed = agreement(WAYS[hidden], layers if layer < 0 else [layer])
            share = (on.mean() if layer < 0 else on[layer]).item()
            rows.append({"hidden": hidden, "layer": layer, "agreement": agreed, "attention": share, "even": even})
    return pd.DataFrame(rows)


def _unread(predicted: PredictedFunction, tokens: Tokens, digits: int) -> np.ndarray:
    """The tokens of operand digits that the predicted function does not depend on."""
    some, other = (np.full((1, digits), digit, np.uint8) for digit in (0, 1))
    found = []
    for operand, x, y in zip("ab", predicted.operands(some, some), predicted.operands(other, other), strict=True):
        places = np.flatnonzero(x[0] == y[0])
        found.append((tokens.role[0] == ROLE[operand]) & np.isin(tokens.place[0], places[places < digits]))
    return np.flatnonzero(np.logical_or(*found))
