"""What breaks when a part of the model is cut: heads, whole attention layers, MLPs."""

from collections.abc import Callable

import pandas as pd
from torch import Tensor

from ..errors import UnknownName
from ..model.transformer import Probe, Shape
from ..training.evaluate import matching_tokens
from ..training.runs import Run
from ..training.waiting import waiting
from .recording import held_out, record

FILLS = ("zero", "mean")
PART_SITES = {"head": "z", "attention": "attn_out", "mlp": "mlp_out"}  # where a part's output can be replaced


def part_name(part: str, layer: int, head: int = -1) -> str:
    """What a part of the model is called in tables and figures; layers and heads are counted from 1 there.

    >>> part_name("head", 0, 2), part_name("mlp", 1)
    ('layer 1, head 3', 'layer 2, MLP')
    """
    if layer < 0:
        return part
    return f"layer {layer + 1}, " + {"head": f"head {head + 1}", "mlp": "MLP"}.get(part, part)


def parts(shape: Shape) -> list[tuple[str, int, int]]:
    """Every part of a model that can be cut, as (part, layer, head), in the order of the forward pass.

    Head is -1 where the part is no head.
    """
    out = []
    for layer in range(shape.layers):
        out += [("head", layer, head) for head in range(shape.heads)]
        out += [("attention", layer, -1), ("mlp", layer, -1)]
    return out


def cut_parts(run: Run, digits: int, n: int = 500, *, fill: str = "zero") -> pd.DataFrame:
    """What breaks when a part is cut: one row per part and place of the answer, the whole model first.

    Its output is replaced, at every token, by zero or by its mean over n other questions at that token (which
    takes away what it says about this question and leaves what it always says). Columns: part (whole, head,
    attention or mlp), layer, head (-1 where there is none), name, place, accuracy (share of right digits, the digits
    below given), exact_match (of the whole answer). Raises ArithlabError where the format has no fixed layout.
    """
    if fill not in FILLS:
        raise UnknownName("fill", fill, FILLS)
    questions = held_out(run, digits, n)
    tokens = questions.tokens
    means = {}
    if fill == "mean":
        seen = record(run.model, held_out(run, digits, n, seed=1), set(PART_SITES.values()))
        means = {key: x.mean(0) for key, x in seen.items()}
    answer = [at - tokens.ids.shape[1] for at in questions.answer]  # counted from the end: place 0, 1, ...
    rows = []
    for part, layer, head in waiting([("whole", -1, -1), *parts(run.experiment.shape)], "cutting"):
        mean = means.get((PART_SITES.get(part), layer))
        edit = None if part == "whole" else _replace(PART_SITES[part], layer, head, mean)
        right = matching_tokens(run.model, tokens, Probe(attention=None, edit=edit))
        about = {"part": part, "layer": layer, "head": head, "name": part_name(part, layer, head)}
        for place, share in enumerate(right[:, answer].mean(0)):
            rows.append({**about, "place": place, "accuracy": share, "exact_match": right.all(1).mean()})
    return pd.DataFrame(rows)


def _replace(site: str, layer: int, head: int, mean: Tensor | None) -> Callable[[str, int, Tensor], Tensor]:
    """An edit that replaces a part's output by its mean at every token, or by zero where there is none.

    mean: (T, C), or (H, T, D) for heads. Only the last tokens may have been worked out.
    """

    def edit(here: str, at: int, x: Tensor) -> Tensor:
        if (here, at) != (site, layer):
            return x
        value = x.new_zeros(x.shape[1:]) if mean is None else mean[..., mean.shape[-2] - x.shape[-2] :, :]
        if head < 0:
            return value.expand_as(x)
        x = x.clone()
        x[:, head] = value[head]
        return x

    return edit
