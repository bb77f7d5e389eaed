"""Attention over the keys within a window of positions only: time and memory grow linearly with the length.

Shapes as in transformer.py; M is the most keys that any query has within its window.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .positions import Positions

FAR = 256  # tokens from which on this pays
CHUNK = 32_000  # queries times examples worked out at once


def neighbours(at: Tensor, queries: int, window: int) -> tuple[Tensor, Tensor]:
    """For each of the last `queries` tokens the tokens within the window that are not later: (R, Q, M) indices.

    at: positions (R, K). The second tensor says which entries count, since not all queries have M such tokens.

    >>> near, counts = neighbours(torch.tensor([[0, 1, 2, 0, 1, 2]]), queries=2, window=0)
    >>> [row[keep].tolist() for row, keep in zip(near[0], counts[0])]
    [[1, 4], [2, 5]]
    """
    K = at.shape[1]
    sorted_at, order = at.sort(dim=1, stable=True)
    own = at[:, K - queries :].contiguous()
    first, end = torch.searchsorted(sorted_at, own - window), torch.searchsorted(sorted_at, own + window, right=True)
    # a window is a stretch of `order`
    slot = first[..., None] + torch.arange(int((end - first).max()), device=at.device)
    near = order.gather(1, slot.clamp(max=K - 1).flatten(1)).view(slot.shape)
    return near, (slot < end[..., None]) & (near <= torch.arange(K - queries, K, device=at.device)[:, None])


def attend_near(
    q: Tensor, k: Tensor, v: Tensor, at: Tensor, positions: Positions, window: int, sharp: Tensor | None, sink: float
) -> Tensor:
    """What attention with the window as a mask gives (B, H, Q, D), without its Q x K logits.

    at: positions of all keys, (K,) or (B or 1, K). sharp: what logits are multiplied by, (H, Q, 1), or None.
    sink: what is added to the softmax's denominator.
    """
    (B, _, Q, D), at = q.shape, at.reshape(-1, at.shape[-1])
    near, counts = neighbours(at, Q, window)
    k, v, rows = k.transpose(1, 2), v.transpose(1, 2), torch.arange(B, device=q.device)[:, None, None]
    parts = []
    for part in torch.arange(Q, device=q.device).split(max(1, CHUNK // B)):
        here = near[:, part]
        keys = at.gather(1, here.flatten(1)).view(here.shape)
        ours = q[:, :, part]
        logits = torch.einsum("bhqd,bqmhd->bhqm", ours, k[rows, here]) / math.sqrt(D)
        bias = positions.bias(ours, at[:, part - Q, None], keys)
        logits = logits if bias is None else logits + bias
        logits = logits.masked_fill(~counts[:, None, part], float("-inf"))
        logits = F.pad(logits, (0, 1), value=math.log(sink)) if sink else logits
        logits = logits if sharp is None else logits * sharp[:, part]
        weights = logits.softmax(-1)[..., : near.shape[-1]]
        parts.append(torch.einsum("bhqm,bqmhd->bhqd", weights, v[rows, here]))
    return torch.cat(parts, 2)
