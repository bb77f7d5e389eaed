"""Positional encodings, all behind one switch in the same block.

A class says how it enters the block by overriding one or more of `embed`, `rotate` and `bias`.
A new encoding is one short class and one line in POSITIONS.

Shapes: B batch, H heads, Q queries, K keys, D width of a head. Index tensors hold token positions from 0.
"""

import math

import torch
from torch import Tensor, nn

from ..errors import UnknownName


class Positions(nn.Module):
    """No positions: the base of all others. The causal mask alone tells the model about order.

    Source: Kazemnejad et al. 2023, arXiv 2305.19466 (NoPE).
    """

    per_layer = False  # whether every block has parameters of its own

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.width, self.heads, self.context = width, heads, context

    def embed(self, index: Tensor) -> Tensor | None:
        """A vector to add to each token's embedding, shape (T, width), or None."""
        return None

    def rotate(self, x: Tensor, index: Tensor) -> Tensor:
        """Queries or keys (B, H, T, D) turned according to their positions."""
        return x

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor | None:
        """What is added to the attention logits q.k/sqrt(D): broadcastable to (B, H, Q, K), or None."""
        return None


class Learned(Positions):
    """One learned vector per position, added to the token embedding (GPT; Vaswani et al. 2017, section 3.5)."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(context, width)

    def embed(self, index: Tensor) -> Tensor:
        """Rows of the table."""
        return self.table(index)


class Sinusoidal(Positions):
    """sin and cos of position / 10000^(2i/width), added to the embedding (Vaswani et al. 2017, section 3.5).

    Scaled to the size of a fresh token embedding; the paper scales the embeddings up instead.
    """

    scale = 0.02 * math.sqrt(2)

    def embed(self, index: Tensor) -> Tensor:
        """Even columns sine, odd columns cosine, times `scale`."""
        half = torch.arange(0, self.width, 2, device=index.device)
        angle = index[:, None] * 10_000.0 ** (-half / self.width)
        out = torch.empty(len(index), self.width, device=index.device)
        out[:, 0::2] = angle.sin()
        out[:, 1::2] = angle.cos()[:, : self.width // 2]
        return self.scale * out


class Rope(Positions):
    """Queries and keys turned by position-dependent angles (RoPE; Su et al. 2021, arXiv 2104.09864, eq. 34).

    Coordinates i and i + D/2 form a plane, turned by position / 10000^(2i/D).
    """

    def rotate(self, x: Tensor, index: Tensor) -> Tensor:
        """x turned plane by plane."""
        half = x.shape[-1] // 2
        angle = index[:, None] * 10_000.0 ** (-torch.arange(half, device=x.device) / half)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Alibi(Positions):
    """A penalty that grows linearly with distance, slope 2^(-8h/H) for head h (Press et al. 2022, arXiv 2108.12409)."""

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """-slope * distance, shape (H, Q, K)."""
        slopes = 2.0 ** (-8.0 * torch.arange(1, self.heads + 1, device=q.device) / self.heads)
        return (slopes[:, None, None] * -(queries[:, None] - keys).abs()).to(q.dtype)


class T5(Positions):
    """A learned bias per head and bucket of distance, shared by the layers (Raffel et al. 2020, arXiv 1910.10683).

    32 buckets: distances 0 to 15 have their own, larger ones share, logarithmically up to 128.
    """

    buckets, farthest = 32, 128

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(self.buckets, heads)

    def bucket(self, distance: Tensor) -> Tensor:
        """Bucket of each distance >= 0."""
        exact = self.buckets // 2
        ratio = torch.log(distance.clamp(min=1) / exact) / math.log(self.farthest / exact)
        far = exact + (ratio * (self.buckets - exact)).long()
        return torch.where(distance < exact, distance, far.clamp(max=self.buckets - 1))

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """The learned value of each distance's bucket, shape (H, Q, K)."""
        distance = (queries[:, None] - keys).clamp(min=0)
        return self.table(self.bucket(distance)).permute(2, 0, 1).to(q.dtype)


class Shaw(Positions):
    """q . r(distance) beside q . k, with a learned vector r per distance up to 16, further ones sharing the last.

    Source: Shaw et al. 2018, arXiv 1803.02155, eq. 4 (relative vectors on the keys, shared by the heads of a layer).
    """

    per_layer, farthest = True, 16

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(self.farthest + 1, width // heads)

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """q . r / sqrt(D), shape (B, H, Q, K)."""
        distance = (queries[:, None] - keys).clamp(0, self.farthest)
        scores = q @ self.table.weight.to(q.dtype).T / math.sqrt(q.shape[-1])  # (B, H, Q, farthest + 1)
        return scores.gather(-1, distance.expand(*scores.shape[:2], -1, -1))


POSITIONS: dict[str, type[Positions]] = {
    "none": Positions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rope": Rope,
    "alibi": Alibi,
    "t5": T5,
    "shaw": Shaw,
}


def positions_class(name: str) -> type[Positions]:
    """The class of an encoding, by name.

    >>> positions_class("rope").__name__
    'Rope'
    """
    if name not in POSITIONS:
        raise UnknownName("positions", name, POSITIONS)
    return POSITIONS[name]
