"""Which tokens each head reads."""

import numpy as np
import pandas as pd
import torch

from ..arithmetic import digits as dg
from ..arithmetic.tokens import ROLES, Tokens
from ..errors import ArithlabError
from ..model.positions import Layout
from ..model.transformer import Probe
from ..training.runs import Run
from .recording import subscript


def token_labels(run_tokens: Tokens, vocabulary: tuple[str, ...], row: int = 0) -> list[str]:
    """A label per token: the operand with its place as a subscript and the digit, or the sign itself.

    The label of a₁=4 says: the digit of a at place 1 (the tens) is 4.
    """
    ids = run_tokens.ids[row]
    roles, places = (np.broadcast_to(x, run_tokens.ids.shape)[row] for x in (run_tokens.role, run_tokens.place))
    labels = []
    for token, role, place in zip(ids, roles, places, strict=True):
        name, symbol = ROLES[role], vocabulary[token]
        labels.append(f"{name}{subscript(place)}={symbol}" if name in "abc" else symbol)
    return labels


def attention(run: Run, question: str) -> pd.DataFrame:
    """Attention of the forward passes with which the model answers a question, one row per weight.

    The answer is decoded greedily first; the weights are those of the pass over question and answer,
    whose argmax at every supervised token is that answer (checked). Columns: layer, head, query, key
    (token numbers), key_label, key_role and key_place (see formats.Tokens), writes, writes_role and
    writes_place (of the token that the query predicts next), weight (those of a query sum to 1; what is missing went to
    the model's sink).
    """
    e = run.experiment
    a, b = e.task_.parse_question(question)
    width = max(len(a), len(b))
    a, b = dg.fit_width(a[None], width), dg.fit_width(b[None], width)
    e.check_length(width)
    tokens = e.format_.encode(e.task_, a, b)
    vocabulary = e.format_.vocabulary(e.task_)
    tail = tokens.tail
    ids, layout = torch.from_numpy(tokens.ids).long(), Layout.of(tokens)
    for at in range(ids.shape[1] - tail, ids.shape[1]):  # write the model's own answer over the true one
        with torch.inference_mode():
            ids[:, at] = run.model(ids[:, :at], tail=1, layout=layout).argmax(-1)[:, 0]
    probe = Probe()
    with torch.inference_mode():
        written = run.model(ids[:, :-1], probe=probe, layout=layout).argmax(-1)[0, -tail:]
    if not torch.equal(written, ids[0, -tail:]):
        raise ArithlabError(
            "the model's answer differs between two passes: its two best tokens are equally likely. Ask something else."
        )
    labels = token_labels(Tokens(ids.numpy(), tokens.role, tokens.place, tokens.supervised), vocabulary)
    frames = []
    for layer, weights in enumerate(probe.attention):
        _, heads, queries, keys = weights.shape
        head, query, key = (x.ravel() for x in np.indices((heads, queries, keys)))
        weight = weights[0].numpy().ravel()
        keep = key <= query
        frames.append(pd.DataFrame({"layer": layer, "head": head, "query": query, "key": key, "weight": weight})[keep])
    table = pd.concat(frames, ignore_index=True)
    about = pd.DataFrame({"label": labels, "role": [ROLES[r] for r in tokens.role[0]], "place": tokens.place[0]})
    keys = about.iloc[table["key"]].add_prefix("key_").reset_index(drop=True)
    writes = about.iloc[table["query"] + 1].add_prefix("writes_").reset_index(drop=True)
    table = pd.concat([table, keys, writes], axis=1).rename(columns={"writes_label": "writes"})
    return table[[*(c for c in table.columns if c != "weight"), "weight"]]
