"""One decoder-only Transformer (GPT, pre-LayerNorm) with switchable positions.

Shapes: B batch, T tokens, C width, H heads, D = C/H, V vocabulary, S = tail (the last S tokens).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arithmetic.encodings import encoding
from ..arithmetic.tokens import ROLES
from ..errors import ArithlabError, UnknownName, shorten
from .positions import Layout, Positions, make_positions
from .window import FAR, attend_near


@dataclass(frozen=True)
class Shape:
    """Size and make of a model.

    context: length of the table of learned positions; None = as long as needed. sink: what is added to the
    denominator of every attention softmax, as if so many more tokens of logit 0 and value 0 were seen: a head reads
    only what outweighs them, and may rest there (an attention sink as in Xiao et al. 2023, arXiv 2309.17453, but fixed;
    1 is the softmax of Miller 2023, "Attention is off by one").
    """

    layers: int
    heads: int
    width: int
    activation: str = "relu"  # relu | gelu (exact) | gelu_tanh
    bias: bool = False  # in Linear and LayerNorm
    tied: bool = False  # output matrix = token embedding
    context: int | None = None
    sink: float = 0.0


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
    **{f"in-context-{layers}": Shape(layers, 4, 512, tied=True) for layers in (2, 4, 6)},  # 2406.02550
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
    if encoding(positions).name == "rope" and wide % 2:
        raise ArithlabError(
            f"rope turns pairs of coordinates, but {shape.heads} heads in a width of {shape.width} are {wide} wide: "
            f"the nearest widths that fit are {(wide - 1) * shape.heads} and {(wide + 1) * shape.heads}."
        )


# Places of a forward pass that a probe may read and change, in the order of a block; D = C/H, hidden = 4 C.
SITES = (
    "resid_pre",  # (B, T, C) the residual stream before the block
    "k",  # (B, H, T, D) the keys, by which heads find tokens
    "v",  # (B, H, T, D) the values, which they take from them
    "z",  # (B, H, T, D) what each head brings, before the output matrix
    "attn_out",  # (B, T, C) what attention adds to the stream
    "resid_mid",  # (B, T, C) the stream after attention
    "mlp_hidden",  # (B, T, hidden) the MLP's activations
    "mlp_out",  # (B, T, C) what the MLP adds
    "resid_post",  # (B, T, C) the stream after the block
)


@dataclass
class Probe:
    """Looks into one forward pass, and may change it.

    cut: (layer, head) pairs whose output is replaced by zero. attention: filled with one tensor (B, H, Q, K) per
    layer, the very weights that produced the logits (what is missing to 1 went to the sink); None = none are kept,
    which saves memory at great lengths. temperature: the attention logits are divided by it, one number or one per
    layer, or per layer and head. trained_on: where given, the logits of a query that sees n tokens are multiplied by
    log n / log trained_on, but never made smaller (scalable softmax, Nakanishi 2025, arXiv 2501.19399). window: in
    place of the encoding's own; math.inf for none. edit: called as edit(site, layer, x) at each of SITES, returns
    what to go on with: x itself where it only looks. The last block works out the asked-for last tokens only.
    """

    cut: set[tuple[int, int]] = field(default_factory=set)
    attention: list[Tensor] | None = field(default_factory=list)
    temperature: float | list = 1.0
    trained_on: int | None = None
    window: float | None = None
    edit: Callable[[str, int, Tensor], Tensor] | None = None

    def at(self, site: str, layer: int, x: Tensor) -> Tensor:
        """What to go on with at one of SITES."""
        return x if self.edit is None else self.edit(site, layer, x)

    def sharpness(self, layer: int, heads: int, seen: Tensor) -> Tensor:
        """What the attention logits of a layer are multiplied by, (H, Q, 1), where queries see so many tokens."""
        at = torch.as_tensor(self.temperature, dtype=torch.float64, device=seen.device)
        factor = 1 / (at[layer] if at.ndim else at).expand(heads)[:, None, None].expand(heads, len(seen), 1)
        if self.trained_on is None:
            return factor
        return factor * (seen.double().log() / math.log(self.trained_on)).clamp(min=1)[:, None]


class Attention(nn.Module):
    """Causal self-attention of the last `tail` tokens over all tokens."""

    fused = True  # whether to use torch's own attention, which knows no seed axis

    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        self.heads, self.dropout, self.sink = shape.heads, dropout, shape.sink
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=shape.bias)
        self.out = nn.Linear(shape.width, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, positions: Positions, at: Tensor, tail: int, layer: int, probe=None, cache=None):
        """Returns (B, tail, C). at: positions of all tokens so far, x's last; cache: keys and values, extended here."""
        B, T, C = x.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        if tail == T:
            q, k, v = self._project(x, weight, bias, 3)
        else:  # queries of the tail only
            (q,) = self._project(x[:, T - tail :], weight[:C], None if bias is None else bias[:C], 1)
            k, v = self._project(x, weight[C:], None if bias is None else bias[C:], 2)
        q, k = positions.rotate(q, at[..., -tail:]), positions.rotate(k, at[..., -T:])
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        if probe is not None:
            k, v = probe.at("k", layer, k), probe.at("v", layer, v)
        K, window = k.shape[2], positions.encoding.window
        if probe is not None and probe.window is not None:
            window = None if math.isinf(probe.window) else probe.window
        seen = torch.arange(K - tail, K, device=x.device) + 1  # how many tokens each query may look back at
        sharp = None if probe is None else probe.sharpness(layer, self.heads, seen).to(q.dtype)
        far = window is not None and at.ndim < 3 and K > FAR and not (self.training and self.dropout)
        if far and (probe is None or probe.attention is None):
            y = attend_near(q, k, v, at, positions, window, sharp, self.sink)
        else:
            kept = None if probe is None else probe.attention
            y = self._attend(q, k, v, at, positions, window, sharp, kept)
        for head in () if probe is None else (head for where, head in probe.cut if where == layer):
            y = y * (torch.arange(self.heads, device=x.device) != head)[:, None, None]
        y = y if probe is None else probe.at("z", layer, y)
        y = self.out(y.transpose(1, 2).reshape(B, tail, C))
        return F.dropout(y, self.dropout, self.training)

    def _project(self, x: Tensor, weight: Tensor, bias: Tensor | None, parts: int) -> tuple[Tensor, ...]:
        """Queries, keys or values of x (B, T, C): `parts` tensors (B, H, T, D)."""
        B, T, C = x.shape
        return F.linear(x, weight, bias).view(B, T, parts, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind()

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, at: Tensor, positions: Positions, window, sharp, kept) -> Tensor:
        """Queries of the last tokens over all keys (B, H, Q, D); the weights are appended to `kept` unless None."""
        Q, K = q.shape[2], k.shape[2]
        queries, keys = at[..., -Q:, None], at[..., None, :]
        bias, mask = positions.bias(q, queries, keys), None
        fused = kept is None and self.fused
        # on a CPU is_causal is slow in bfloat16, a mask is not
        plain = bias is None and window is None and not self.sink
        causal_only = fused and plain and Q == K and (q.dtype == torch.float32 or q.is_cuda)
        if not causal_only:
            hidden = torch.ones(Q, K, dtype=torch.bool, device=q.device).triu(K - Q + 1)
            if window is not None:
                hidden = (hidden | positions.beyond(queries, keys, window)).unsqueeze(-3)
            mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill(hidden, float("-inf"))
            mask = mask if bias is None else mask + (bias if sharp is None else bias * sharp)
        if self.sink:  # a token after the last, of key and value 0
            rest = torch.full_like(mask[..., :1], math.log(self.sink)) * (1 if sharp is None else sharp)
            mask = torch.cat((mask.expand(*rest.shape[:-1], K), rest), -1)
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        q = q if sharp is None else q * sharp
        if fused:
            dropout = self.dropout if self.training else 0.0
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal_only)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask).softmax(-1)
        if kept is not None:
            kept.append(weights[..., :K])
        return weights @ v


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

    def forward(self, x: Tensor, positions: Positions, at: Tensor, tail: int, layer: int, probe=None, cache=None):
        """(B, T, C) to (B, tail, C)."""
        seen = (lambda site, layer, x: x) if probe is None else probe.at
        x = seen("resid_pre", layer, x)
        read = self.attention(self.norm1(x), positions, at, tail, layer, probe, cache)
        x = seen("resid_mid", layer, x[:, x.shape[1] - tail :] + seen("attn_out", layer, read))
        y = seen("mlp_hidden", layer, self.activation(self.up(self.norm2(x))))
        y = F.dropout(self.down(y), self.dropout, self.training)
        return seen("resid_post", layer, x + seen("mlp_out", layer, y))


class Cache:
    """Keys and values of the tokens already read, per layer, for free-running decoding."""

    def __init__(self):
        self.kept: dict[int, tuple[Tensor, int]] = {}  # (2, B, H, room, D) and how much of it is used

    @property
    def read(self) -> int:
        """How many tokens have been read."""
        return self.kept[0][1] if self.kept else 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append along the token axis; returns all keys and values so far."""
        room, used = self.kept.get(layer, (None, 0))
        total = used + k.shape[2]
        if room is None or total > room.shape[3]:  # twice what is needed: copying stays linear in the length
            larger = k.new_empty(2, *k.shape[:2], 2 * total, k.shape[3])
            if used:
                larger[:, :, :, :used] = room[:, :, :, :used]
            room = larger
        room[:, :, :, used:total] = torch.stack((k, v))
        self.kept[layer] = room, total
        return room[0, :, :, :total], room[1, :, :, :total]


class Transformer(nn.Module):
    """Tokens to logits. See SIZES for shapes and POSITIONS for encodings.

    >>> model = Transformer(shape_of("nano"), vocabulary=16, context=256, positions="learned")
    >>> model.parameter_count()
    96336
    """

    def __init__(self, shape: Shape, vocabulary: int, context: int, positions: str, dropout: float = 0.0):
        super().__init__()
        context = shape.context or context
        check_rope(shape, positions)
        self.shape, self.dropout = shape, dropout
        self.embedding = nn.Embedding(vocabulary, shape.width)
        chosen = encoding(positions)
        self.positions = make_positions(chosen, shape.width, shape.heads, context, shape.layers)
        self.role = nn.Embedding(len(ROLES), shape.width) if chosen.places and chosen.kind != "offset" else None
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
        layout: Layout | None = None,
    ) -> Tensor:
        """Logits (B, S, V) of the last `tail` tokens (all where None) of ids (B, T).

        shift moves every position by so much. With a cache, ids continue what the cache has read. layout: what
        the tokens of the whole sequence stand for (may be longer than ids); None = token i stands at place i.
        """
        start = 0 if cache is None else cache.read
        end = start + ids.shape[1]
        if layout is None:
            count = torch.arange(end, device=ids.device)[None]
            layout = Layout(torch.zeros_like(count), count)
        at = self.positions[0].measure(layout, len(ids))[..., :end] + shift
        tail = ids.shape[1] if tail is None else tail
        x = self.embedding(ids)
        position = self.positions[0].embed(at[..., start:])
        x = x if position is None else x + position
        x = x if self.role is None else x + self.role(layout.role[:, start:end])
        x = F.dropout(x, self.dropout, self.training)
        for layer, block in enumerate(self.blocks):
            last = layer == len(self.blocks) - 1  # only here may the other tokens be left out
            positions = self.positions[layer % len(self.positions)]
            x = block(x, positions, at, tail if last else ids.shape[1], layer, probe, cache)
        return self.head(self.norm(x))

    @property
    def draws(self) -> bool:
        """Whether training draws random numbers: for dropout, or for positions."""
        chosen = self.positions[0].encoding
        return self.dropout > 0 or chosen.randomized or chosen.kind == "offset"

    def parameter_count(self) -> int:
        """Number of trained numbers; tied matrices count once."""
        return sum(p.numel() for p in self.parameters())
