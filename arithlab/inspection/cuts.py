"""What breaks when a part of the model is cut (a head, attention, MLP, a layer), or looks more or less sharply."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from ..errors import ArithlabError, UnknownName, shorten
from ..model.transformer import Probe, Shape
from ..training.evaluate import matching_tokens
from ..training.runs import Run
from ..training.waiting import waiting
from .recording import held_out, record

FILLS = ("zero", "mean")
PART_SITES = {  # where a part's output can be replaced
    "head": ("z",),
    "attention": ("attn_out",),
    "mlp": ("mlp_out",),
    "layer": ("attn_out", "mlp_out"),
}


def part_name(part: str, layer: int, head: int = -1) -> str:
    """What a part of the model is called in tables and figures; layers and heads are counted from 1 there.

    >>> part_name("head", 0, 2), part_name("mlp", 1)
    ('layer 1, head 3', 'layer 2, MLP')
    """
    if layer < 0:
        return part
    return f"layer {layer + 1}, " + {"head": f"head {head + 1}", "mlp": "MLP", "layer": "whole"}.get(part, part)


def parts(shape: Shape) -> list[tuple[str, int, int]]:
    """Every part of a model that can be cut, as (part, layer, head), in the order of the forward pass.

    Head is -1 where the part is no head.
    """
    out = []
    for layer in range(shape.layers):
        out += [("head", layer, head) for head in range(shape.heads)]
        out += [("attention", layer, -1), ("mlp", layer, -1), ("layer", layer, -1)]
    return out


def cut_parts(run: Run, digits: int, n: int = 500, *, fill: str = "zero") -> pd.DataFrame:
    """What breaks when a part is cut: one row per part and place of the answer, the whole model first.

    Its output is replaced, at every token, by zero or by its mean over n other questions at that token (which
    takes away what it says about this question and leaves what it always says). Columns: part (whole, head,
    attention, mlp, or layer: both), layer, head (-1 where there is none), name, place, accuracy (share of right
    digits, the digits below given), exact_match (of the whole answer). Raises ArithlabError where the format has no
    fixed layout.
    """
    if fill not in FILLS:
        raise UnknownName("fill", fill, FILLS)
    questions = held_out(run, digits, n)
    tokens = questions.tokens
    means = {}
    if fill == "mean":
        seen = record(
            run.model, held_out(run, digits, n, seed=1), {site for sites in PART_SITES.values() for site in sites}
        )
        means = {key: x.mean(0) for key, x in seen.items()}
    answer = [at - tokens.ids.shape[1] for at in questions.answer]  # counted from the end: place 0, 1, ...
    rows = []
    for part, layer, head in waiting([("whole", -1, -1), *parts(run.experiment.shape)], "cutting"):
        edit = None if part == "whole" else _replace(PART_SITES[part], layer, head, means)
        right = matching_tokens(run.model, tokens, Probe(attention=None, edit=edit))
        about = {"part": part, "layer": layer, "head": head, "name": part_name(part, layer, head)}
        for place, share in enumerate(right[:, answer].mean(0)):
            rows.append({**about, "place": place, "accuracy": share, "exact_match": right.all(1).mean()})
    return pd.DataFrame(rows)


def temperatures(run: Run, digits: int, values: Sequence[float] = (0.25, 0.5, 2.0, 4.0), n: int = 500) -> pd.DataFrame:
    """What breaks when attention looks more sharply (below 1) or less: everywhere, in one layer, or in one head.

    The attention logits are divided by the temperature; 1 is as trained. One row each: part (whole, attention or
    head), layer, head (-1 where there is none), name, temperature, exact_match of n held-out questions of so many
    digits. Raises ArithlabError where the format has no fixed layout, or a temperature is not above 0.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ArithlabError(f"temperature {shorten(value)}: allowed are numbers above 0, such as 0.5.")
    tokens, shape = held_out(run, digits, n).tokens, run.experiment.shape
    chosen = [("whole", -1, -1), *(one for one in parts(shape) if one[0] in ("attention", "head"))]
    rows = []
    for part, layer, head in waiting(chosen, "changing temperatures"):
        for value in [1.0, *values] if part == "whole" else values:
            heat = np.ones((shape.layers, shape.heads))
            heat[slice(None) if layer < 0 else layer, slice(None) if head < 0 else head] = value
            right = matching_tokens(run.model, tokens, Probe(attention=None, temperature=heat.tolist()))
            about = {"part": part, "layer": layer, "head": head, "name": part_name(part, layer, head)}
            rows.append({**about, "temperature": float(value), "exact_match": right.all(1).mean()})
    return pd.DataFrame(rows)


def _replace(sites: tuple[str, ...], layer: int, head: int, means: dict) -> Callable[[str, int, Tensor], Tensor]:
    """An edit that replaces a part's output by its mean at every token, or by zero where there is none.

    means: by (site, layer): (T, C), or (H, T, D) for heads. Only the last tokens may have been worked out.
    """

    def edit(here: str, at: int, x: Tensor) -> Tensor:
        if here not in sites or at != layer:
            return x
        mean = means.get((here, at))
        value = x.new_zeros(x.shape[1:]) if mean is None else mean[..., mean.shape[-2] - x.shape[-2] :, :]
        if head < 0:
            return value.expand_as(x)
        x = x.clone()
        x[:, head] = value[head]
        return x

    return edit
