"""Which tokens each head reads, and what breaks when a head is cut."""

import numpy as np
import pandas as pd
import torch

from ..arithmetic import batches
from ..arithmetic import digits as dg
from ..arithmetic.tokens import ROLES, Tokens
from ..errors import ArithlabError
from ..model.positions import Layout
from ..model.transformer import Probe
from ..training.evaluate import matching_tokens, test_domain
from ..training.experiment import Experiment
from ..training.runs import Run

SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


def token_labels(run_tokens: Tokens, vocabulary: tuple[str, ...], row: int = 0) -> list[str]:
    """A label per token: the operand with its place as a subscript and the digit, or the sign itself.

    The label of a₁=4 says: the digit of a at place 1 (the tens) is 4.
    """
    ids = run_tokens.ids[row]
    roles, places = (np.broadcast_to(x, run_tokens.ids.shape)[row] for x in (run_tokens.role, run_tokens.place))
    labels = []
    for token, role, place in zip(ids, roles, places, strict=True):
        name, symbol = ROLES[role], vocabulary[token]
        labels.append(f"{name}{str(place).translate(SUBSCRIPTS)}={symbol}" if name in "abc" else symbol)
    return labels


def attention(run: Run, question: str) -> pd.DataFrame:
    """Attention of the forward passes with which the model answers a question, one row per weight.

    The answer is decoded greedily first; the weights are those of the pass over question and answer,
    whose argmax at every supervised token is that answer (checked). Columns: layer, head, query, key
    (token numbers), key_label, key_role and key_place (see formats.Tokens), writes, writes_role and
    writes_place (of the token that the query predicts next), weight.
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


def needed_tokens(experiment: Experiment, table: pd.DataFrame) -> np.ndarray:
    """Whether each weight of a table of `attention` lies on a token that an ideal adder has to read; shape (rows,).

    Units first, the digit at place k takes a_k and b_k, and the carry into it: a_(k-1) and b_(k-1) make it, and the
    written c_(k-1) tells whether a carry came into *them* (nothing comes into the units, so c_0 is not needed).
    Highest first, nothing written helps: the carry has to be worked out from every place below. Tokens that
    write no answer digit need nothing. Raises ArithlabError for tasks and formats in which this is not known.

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


def on_needed(experiment: Experiment, table: pd.DataFrame) -> pd.DataFrame:
    """How much of each head's attention lies on `needed_tokens`: one row per layer, head and written answer digit.

    Columns: layer, head, query, writes, share (0 to 1), chance (the share if every visible token were read alike).
    """
    marked = table.assign(needed=needed_tokens(experiment, table))
    marked = marked[marked["writes_role"] == "c"].assign(share=lambda t: t["weight"] * t["needed"])
    groups = marked.groupby(["layer", "head", "query", "writes"])
    return groups.agg(share=("share", "sum"), chance=("needed", "mean")).reset_index()


def cut_heads(run: Run, digits: int, n: int = 500) -> pd.DataFrame:
    """What breaks when a head is cut (its output replaced by zero): one row per head and place of the answer.

    Columns: layer, head, place, accuracy (share of right digits, the digits below given), whole (without
    a cut), exact_match (of the whole answer). Layer and head are -1 in the rows of the uncut model.
    """
    e = run.experiment
    e.check_length(digits)
    if e.format_.width is None:
        raise ArithlabError("cut_heads lines up answers by place and needs a padded format.")
    a, b = batches.held_out_pairs(test_domain(e.test_family, digits), e.base, n)
    tokens = e.format_.encode(e.task_, a, b)
    places = tokens.place[0, -tokens.tail :]
    answer = np.array([ROLES[role] == "c" for role in tokens.role[0, -tokens.tail :]])

    def measure(cut: set[tuple[int, int]]) -> tuple[np.ndarray, float]:
        right = matching_tokens(run.model, tokens, Probe(cut=cut))
        return right[:, answer].mean(0), right.all(1).mean()

    whole, exact = measure(set())
    rows = []
    every = [(layer, head) for layer in range(e.shape.layers) for head in range(e.shape.heads)]
    for layer, head in [(-1, -1), *every]:
        accuracy, match = (whole, exact) if layer < 0 else measure({(layer, head)})
        for place, share, before in zip(places[answer], accuracy, whole, strict=True):
            rows.append(
                {
                    "layer": layer,
                    "head": head,
                    "place": int(place),
                    "accuracy": share,
                    "whole": before,
                    "exact_match": match,
                }
            )
    return pd.DataFrame(rows).sort_values(["layer", "head", "place"], ignore_index=True)
