"""One decoder-only Transformer (GPT, pre-LayerNorm) with switchable positions.

Shapes: B batch, T tokens, C width, H heads, D = C/H, V vocabulary, S = tail (the last S tokens).
"""

import math
import re
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ArithlabError, UnknownName, shorten
from .positions import Positions, positions_class


@dataclass(frozen=True)
class Shape:
    """Size and make of a model. context: length of the table of learned positions; None = as long as needed."""

    layers: int
    heads: int
    width: int
    activation: str = "relu"  # relu | gelu (exact) | gelu_tanh
    bias: bool = False  # in Linear and LayerNorm
    tied: bool = False  # output matrix = token embedding
    context: int | None = None


_P1 = {"activation": "gelu", "tied": True, "context": 256}  # 2407.17963
_P2 = {"activation": "gelu_tanh", "bias": True}  # 2308.08268, named as in minGPT

SIZES = {
    "tiny": Shape(2, 4, 64),  # the laptop's: 0.1 M parameters
    "small": Shape(2, 4, 128),  # 0.4 M, for the moduli
    "nano": Shape(3, 3, 48, **_P1),
    "micro": Shape(4, 4, 128, **_P1),
    "mini": Shape(6, 6, 384, **_P1),
    "gpt-nano": Shape(3, 3, 48, **_P2),
    "gpt-micro": Shape(4, 4, 128, **_P2),
    "gpt-mini": Shape(6, 6, 192, **_P2),
    "gpt2": Shape(12, 12, 768, "gelu_tanh", True, True, 1024),
    "gpt2-medium": Shape(24, 16, 1024, "gelu_tanh", True, True, 1024),
}

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def shape_of(size: str) -> Shape:
    """The shape of a named size, or of one written `layers-heads-width`.

    >>> shape_of("3-4-96").width
    96
    """
    if size in SIZES:
        return SIZES[size]
    match = re.fullmatch(r"([0-9]{1,3})-([0-9]{1,3})-([0-9]{1,5})", size) if isinstance(size, str) else None
    if not match:
        raise UnknownName("size", size, [*SIZES, "layers-heads-width such as 2-4-64"])
    layers, heads, width = map(int, match.groups())
    if not layers or not heads or width < 2 * heads:
        raise ArithlabError(
            f"size {shorten(size)}: layers and heads must be at least 1, the width at least 2 per head."
        )
    if width % heads:
        near = max(heads, round(width / heads) * heads)
        raise ArithlabError(
            f"size {shorten(size)}: {heads} heads do not divide the width {width}; the nearest that fits is {near}."
        )
    return Shape(layers, heads, width)


def check_rope(shape: Shape, positions: str) -> None:
    """Raise ArithlabError where rope cannot pair the coordinates of a head."""
    wide = shape.width // shape.heads
    if positions == "rope" and wide % 2:
        raise ArithlabError(
            f"rope turns pairs of coordinates, but {shape.heads} heads in a width of {shape.width} are {wide} wide: "
            f"the nearest widths that fit are {(wide - 1) * shape.heads} and {(wide + 1) * shape.heads}."
        )


@dataclass
class Probe:
    """Looks into one forward pass, and may change it.

    cut: (layer, head) pairs whose output is replaced by zero. attention: filled with one tensor
    (B, H, Q, K) per layer: the very weights that produced the logits.
    """

    cut: set[tuple[int, int]] = field(default_factory=set)
    attention: list[Tensor] = field(default_factory=list)


class Attention(nn.Module):
    """Causal self-attention of the last `tail` tokens over all tokens."""

    fused = True  # whether to use torch's own attention, which knows no seed axis

    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        self.heads, self.dropout = shape.heads, dropout
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=shape.bias)
        self.out = nn.Linear(shape.width, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, positions: Positions, index: Tensor, tail: int, layer: int, probe=None, cache=None):
        """Returns (B, tail, C). index: positions of x's tokens; cache: keys and values so far, extended here."""
        B, T, C = x.shape
        if tail == T:
            q, k, v = self._heads(x, self.qkv.weight, self.qkv.bias, 3)
        else:  # queries of the tail only
            weight, bias = self.qkv.weight, self.qkv.bias
            (q,) = self._heads(x[:, T - tail :], weight[:C], None if bias is None else bias[:C], 1)
            k, v = self._heads(x, weight[C:], None if bias is None else bias[C:], 2)
        q, k = positions.rotate(q, index[T - tail :]), positions.rotate(k, index)
        keys = index
        if cache is not None:
            k, v = cache.extend(layer, k, v)
            keys = torch.arange(k.shape[2], device=x.device) + (index[-1] + 1 - k.shape[2])
        queries = index[T - tail :]
        bias = positions.bias(q, queries, keys)
        # on a CPU is_causal is slow in bfloat16, a mask is not
        causal_only = bias is None and tail == T == k.shape[2] and (q.dtype == torch.float32 or q.is_cuda)
        mask = None
        if not causal_only:
            mask = torch.zeros(len(queries), len(keys), dtype=q.dtype, device=x.device)
            mask = mask.masked_fill(queries[:, None] < keys, float("-inf"))
            mask = mask if bias is None else mask + bias
        dropout = self.dropout if self.training else 0.0
        if probe is None and self.fused:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal_only)
        else:
            logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            if causal_only:
                mask = torch.full((T, T), float("-inf"), device=x.device, dtype=q.dtype).triu(1)
            weights = (logits + mask).softmax(-1)
            y = weights @ v
        if probe is not None:
            probe.attention.append(weights)
            for head in (head for at, head in probe.cut if at == layer):
                y = y * (torch.arange(self.heads, device=x.device) != head)[:, None, None]
        y = self.out(y.transpose(1, 2).reshape(B, tail, C))
        return F.dropout(y, self.dropout, self.training)

    def _heads(self, x: Tensor, weight: Tensor, bias: Tensor | None, parts: int) -> tuple[Tensor, ...]:
        """`parts` projections of x (B, T, C), each (B, H, T, D)."""
        B, T, C = x.shape
        return F.linear(x, weight, bias).view(B, T, parts, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind()


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); works out the last `tail` tokens only."""

    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, bias=shape.bias)
        self.attention = Attention(shape, dropout)
        self.norm2 = nn.LayerNorm(shape.width, bias=shape.bias)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=shape.bias)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=shape.bias)
        self.activation, self.dropout = ACTIVATIONS[shape.activation], dropout

    def forward(self, x: Tensor, positions: Positions, index: Tensor, tail: int, layer: int, probe=None, cache=None):
        """(B, T, C) to (B, tail, C)."""
        read = self.attention(self.norm1(x), positions, index, tail, layer, probe, cache)
        x = x[:, x.shape[1] - tail :] + read
        y = self.down(self.activation(self.up(self.norm2(x))))
        return x + F.dropout(y, self.dropout, self.training)


class Cache:
    """Keys and values of the tokens already read, per layer, for free-running decoding."""

    def __init__(self):
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append along the token axis; returns all keys and values so far."""
        if layer in self.kept:
            k, v = (torch.cat(pair, 2) for pair in zip(self.kept[layer], (k, v), strict=True))
        self.kept[layer] = k, v
        return k, v


class Transformer(nn.Module):
    """Tokens to logits. See SIZES for shapes and POSITIONS for encodings.

    >>> model = Transformer(shape_of("nano"), vocabulary=16, context=256, positions="learned")
    >>> model.parameter_count()
    96336
    """

    def __init__(self, shape: Shape, vocabulary: int, context: int, positions: str, dropout: float = 0.0):
        super().__init__()
        context = shape.context or context
        encoding = positions_class(positions)
        check_rope(shape, positions)
        self.shape, self.dropout = shape, dropout
        self.embedding = nn.Embedding(vocabulary, shape.width)
        copies = shape.layers if encoding.per_layer else 1
        self.positions = nn.ModuleList(encoding(shape.width, shape.heads, context) for _ in range(copies))
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, bias=shape.bias)
        self.head = nn.Linear(shape.width, vocabulary, bias=False)
        self.apply(self._init)
        for block in self.blocks:
            for last in (block.attention.out, block.down):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * shape.layers))
        if shape.tied:
            self.head.weight = self.embedding.weight

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        ids: Tensor,
        tail: int | None = None,
        probe: Probe | None = None,
        cache: Cache | None = None,
        shift: int = 0,
    ) -> Tensor:
        """Logits (B, S, V) of the last `tail` tokens (all where None) of ids (B, T).

        shift moves every position by so many tokens. With a cache, ids continue what the cache has read.
        """
        start = shift + (cache.kept[0][0].shape[2] if cache is not None and cache.kept else 0)
        index = torch.arange(start, start + ids.shape[1], device=ids.device)
        tail = ids.shape[1] if tail is None else tail
        x = self.embedding(ids)
        position = self.positions[0].embed(index)
        x = x if position is None else x + position
        x = F.dropout(x, self.dropout, self.training)
        for layer, block in enumerate(self.blocks):
            last = layer == len(self.blocks) - 1  # only here may the other tokens be left out
            positions = self.positions[layer % len(self.positions)]
            x = block(x, positions, index, tail if last else ids.shape[1], layer, probe, cache)
        return self.head(self.norm(x))

    def parameter_count(self) -> int:
        """Number of trained numbers; tied matrices count once."""
        return sum(p.numel() for p in self.parameters())
