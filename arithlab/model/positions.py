"""Positional encodings, all behind one switch in the same block.

A class says how it enters the block by overriding one or more of `embed`, `rotate` and `bias`; positions are
token positions or places, as the encoding's text says. A new encoding is one short class, here (one line in
POSITIONS, one in arithmetic.encodings) or anywhere else, under `new_encoding`.

Shapes: B batch, H heads, Q queries, K keys, D width of a head. `at` holds positions, whole numbers from 0, of
shape (T,), or (B or 1, T) where they are places.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

import torch
from torch import Tensor, nn

from ..arithmetic.encodings import CODE, KIND, Encoding
from ..arithmetic.tokens import ANY, ROLE, Tokens
from ..errors import ArithlabError, UnknownName

RANGE = 2_048  # positions that randomised encodings choose from, unless a sequence is longer


@dataclass(frozen=True)
class Layout:
    """What the tokens of a whole sequence stand for: role, place and levels as in formats.Tokens, (B or 1, T)."""

    role: Tensor
    place: Tensor
    levels: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tokens, device: torch.device | str = "cpu") -> "Layout":
        """The layout of encoded examples."""
        parts = (tokens.role, tokens.place, tokens.levels)
        return cls(*(None if x is None else torch.from_numpy(x).to(device, torch.long) for x in parts))


class Positions(nn.Module):
    """No positions: the base of all others. The causal mask alone tells the model about order.

    Source: Kazemnejad et al. 2023, arXiv 2305.19466 (NoPE).
    """

    per_layer = False  # whether every block has parameters of its own
    rows: int | None = None  # positions that a learned table of fixed size has room for
    encoding = Encoding("none")

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.width, self.heads, self.context = width, heads, context

    def measure(self, layout: Layout, batch: int) -> Tensor:
        """The positions of a whole sequence: tokens (T,), or places (B or 1, T) from 0 for the place below the units.

        Random in training only, and then drawn from torch's generator; `batch` is the number of examples.
        """
        place, encoding = layout.place, self.encoding
        at = place + 1 if encoding.places else torch.arange(place.shape[1], device=place.device)
        return ordered_subset(int(at.max()) + 1, self.training).to(at.device)[at] if encoding.randomized else at

    def embed(self, at: Tensor) -> Tensor | None:
        """A vector to add to each token's embedding, shape (T, width) or (B or 1, T, width), or None."""
        return None

    def rotate(self, x: Tensor, at: Tensor) -> Tensor:
        """Queries or keys (B, H, T, D) turned according to their positions."""
        return x

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor | None:
        """What is added to the attention logits q.k/sqrt(D): broadcastable to (B, H, Q, K), or None.

        queries: positions of shape (..., Q, 1). keys: (..., 1, K), or (..., Q, K) where every query has its own.
        """
        return None

    def beyond(self, queries: Tensor, keys: Tensor, window: float) -> Tensor:
        """Where keys are further away than the window, of the shape that queries and keys broadcast to."""
        return (queries - keys).abs() > window


def ordered_subset(count: int, random: bool) -> Tensor:
    """`count` increasing positions below RANGE, drawn at random or evenly spread (where a random draw is on average).

    Source: randomised positional encodings, Ruoss et al. 2023, arXiv 2305.16843, section 3.
    """
    longest = max(RANGE, count)
    if random:
        return torch.randperm(longest)[:count].sort().values
    return (torch.arange(count) + 1) * (longest + 1) // (count + 1) - 1


class Learned(Positions):
    """One learned vector per position, added to the token embedding (GPT; Vaswani et al. 2017, section 3.5)."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(context, width)

    def embed(self, at: Tensor) -> Tensor:
        """Rows of the table."""
        return self.table(at)


class Sinusoidal(Positions):
    """sin and cos of position / 10000^(2i/width), added to the embedding (Vaswani et al. 2017, section 3.5).

    Scaled to the size of a fresh token embedding; the paper scales the embeddings up instead.
    """

    scale = 0.02 * math.sqrt(2)

    def embed(self, at: Tensor) -> Tensor:
        """Even columns sine, odd columns cosine, times `scale`."""
        half = torch.arange(0, self.width, 2, device=at.device)
        angle = at[..., None] * 10_000.0 ** (-half / self.width)
        out = torch.empty(*at.shape, self.width, device=at.device)
        out[..., 0::2] = angle.sin()
        out[..., 1::2] = angle.cos()[..., : self.width // 2]
        return self.scale * out


class Rope(Positions):
    """Queries and keys turned by position-dependent angles (RoPE; Su et al. 2021, arXiv 2104.09864, eq. 34).

    Coordinates i and i + D/2 form a plane, turned by position / 10000^(2i/D).
    """

    def rotate(self, x: Tensor, at: Tensor) -> Tensor:
        """x turned plane by plane."""
        half = x.shape[-1] // 2
        angle = at[..., None, :, None] * 10_000.0 ** (-torch.arange(half, device=x.device) / half)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Alibi(Positions):
    """A penalty that grows linearly with distance, slope 2^(-8h/H) for head h (Press et al. 2022, arXiv 2108.12409)."""

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """-slope * distance, shape (H, Q, K)."""
        slopes = 2.0 ** (-8.0 * torch.arange(1, self.heads + 1, device=q.device) / self.heads)
        return (slopes[:, None, None] * -(queries - keys).abs().unsqueeze(-3)).to(q.dtype)


class T5(Positions):
    """A learned bias per head and bucket of distance, shared by the layers (Raffel et al. 2020, arXiv 1910.10683).

    32 buckets: distances 0 to 15 have their own, larger ones share, logarithmically up to 128.
    """

    buckets, farthest = 32, 128

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(self.buckets, heads)

    def bucket(self, far: Tensor) -> Tensor:
        """Bucket of each distance >= 0."""
        exact = self.buckets // 2
        ratio = torch.log(far.clamp(min=1) / exact) / math.log(self.farthest / exact)
        shared = exact + (ratio * (self.buckets - exact)).long()
        return torch.where(far < exact, far, shared.clamp(max=self.buckets - 1))

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """The learned value of each distance's bucket, shape (H, Q, K)."""
        return self.table(self.bucket((queries - keys).abs())).movedim(-1, -3).to(q.dtype)


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
        scores = q @ self.table.weight.to(q.dtype).T / math.sqrt(q.shape[-1])  # (B, H, Q, farthest + 1)
        near = (queries - keys).abs().clamp(max=self.farthest).unsqueeze(-3)
        return scores.gather(-1, near.expand(*scores.shape[:2], -1, -1))


class Kerple(Positions):
    """-r1 log(1 + r2 distance) with learned r1, r2 > 0 per head (Kerple, log variant).

    Source: Chi et al. 2022, arXiv 2205.09921, corollary 1. Logarithms of r1 and r2 are learned, from 1 and 1/2.
    """

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.log_r1 = nn.Parameter(torch.zeros(heads))
        self.log_r2 = nn.Parameter(torch.full((heads,), -math.log(2)))

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """The kernel of each distance, shape (H, Q, K)."""
        r1, r2 = self.log_r1.exp()[:, None, None], self.log_r2.exp()[:, None, None]
        return (-r1 * torch.log1p(r2 * (queries - keys).abs().unsqueeze(-3))).to(q.dtype)


class Fire(Positions):
    """f(psi(distance) / psi(max(L, position of the query))), psi(x) = log(c x + 1), f a small MLP.

    Source: FIRE, Li et al. 2023, arXiv 2310.04418, eq. 5 and 6; c and L learned from 0.1 and 512, 32 hidden units.
    """

    per_layer, hidden = True, 32

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.up, self.down = nn.Linear(1, self.hidden), nn.Linear(self.hidden, heads)
        self.c, self.stretch = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(1.0))

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """f of the interpolated distance, shape (H, Q, K)."""
        c, longest = self.c.abs(), torch.maximum(queries, 512 * self.stretch.abs())
        share = torch.log1p(c * (queries - keys).abs()) / torch.log1p(c * longest)
        return self.down(torch.relu(self.up(share[..., None].to(self.c.dtype)))).movedim(-1, -3).to(q.dtype)


class Clipped(Positions):
    """A learned bias per head for every signed difference, those of more than 4 sharing one on either side.

    The clipping is that of Shaw et al. 2018, arXiv 1803.02155, eq. 2; a number per head instead of a vector.
    """

    per_layer, farthest = True, 4
    scale = 16.0  # optimisers move weights by their learning rate, and biases must grow to several units

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(2 * self.farthest + 1, heads)

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """The learned value of each difference query - key, shape (H, Q, K)."""
        row = (queries - keys).clamp(-self.farthest, self.farthest) + self.farthest
        return (self.scale * self.table(row)).movedim(-1, -3).to(q.dtype)


class Grid(Clipped):
    """Clipped in two levels, column and row, their biases added; what belongs to every row is at one with each.

    Positions have a first axis for the levels: (2, B or 1, T). Outside of the window is what is outside in either.
    """

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, context)
        self.table = nn.Embedding(2 * (2 * self.farthest + 2), heads)

    def measure(self, layout: Layout, batch: int) -> Tensor:
        """Columns and rows; where the layout tells of none, places in a single row."""
        return torch.stack((layout.place, torch.zeros_like(layout.place))) if layout.levels is None else layout.levels

    def bias(self, q: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """The sum of both levels' learned values, shape (B or 1, H, Q, K)."""
        one = 2 * self.farthest + 2
        row = (queries - keys).clamp(-self.farthest, self.farthest) + self.farthest
        row = torch.where((queries == ANY) | (keys == ANY), one - 1, row)
        both = self.table(row[0]) + self.table(row[1] + one)
        return (self.scale * both).movedim(-1, -3).to(q.dtype)

    def beyond(self, queries: Tensor, keys: Tensor, window: float) -> Tensor:
        """Where either level is further away; ANY never is."""
        return (super().beyond(queries, keys, window) & (queries != ANY) & (keys != ANY)).any(0)


class Coupled(Learned):
    """A learned vector per place, whatever the role, with a random offset in training, none when tested.

    Source: position coupling, Cho et al. 2024, arXiv 2405.20671, section 3.
    """

    rows = 256

    def __init__(self, width: int, heads: int, context: int):
        super().__init__(width, heads, self.rows)

    def measure(self, layout: Layout, batch: int) -> Tensor:
        """Places from 1, plus an offset of its own for each example in training: (B or 1, T)."""
        at = layout.place + 2  # row 0 is for what has no place
        offsets = max(1, self.rows - int(at.max()))
        return at + torch.randint(offsets, (batch, 1)).to(at.device) if self.training else at


class Abacus(Coupled):
    """As Coupled, but all signs share one vector that says nothing of their place.

    Source: Abacus embeddings, McLeish et al. 2024, arXiv 2405.17399, section 3.1.
    """

    def measure(self, layout: Layout, batch: int) -> Tensor:
        """As Coupled, but 0 for every token that is no digit."""
        digit = torch.isin(layout.role, torch.tensor([ROLE[name] for name in "abc"], device=layout.role.device))
        return super().measure(layout, batch) * digit


POSITIONS: dict[str, type[Positions]] = {
    "none": Positions,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rope": Rope,
    "alibi": Alibi,
    "t5": T5,
    "shaw": Shaw,
    "kerple": Kerple,
    "clipped": Clipped,
    "grid": Grid,
    "fire": Fire,
    "abacus": Abacus,
    "coupled": Coupled,
}


def new_encoding(name: str, kind: str = "relative") -> Callable[[type[Positions]], type[Positions]]:
    """Class decorator: from here on the class answers to `name`; kind is one of encodings.KIND's.

    A class with other code under the same name is another encoding: its runs are trained anew.

    >>> @new_encoding("nearest")
    ... class Nearest(Positions):
    ...     def bias(self, q, queries, keys):
    ...         return -(queries - keys).abs().unsqueeze(-3).to(q.dtype)
    >>> POSITIONS["nearest"] is Nearest
    True
    >>> del POSITIONS["nearest"], KIND["nearest"], CODE["nearest"]
    """
    if not re.fullmatch("[a-z][a-z0-9_]{0,30}", name) or (name in POSITIONS and POSITIONS[name].__module__ == __name__):
        raise ArithlabError(f"an encoding cannot be named {name!r}: take another word, in small letters.")
    if kind not in KIND.values():
        raise UnknownName("kind of encoding", kind, sorted(set(KIND.values())))

    def add(made: type[Positions]) -> type[Positions]:
        POSITIONS[name], KIND[name] = made, kind
        CODE[name] = hashlib.sha256(
            _code({k: v for k, v in vars(made).items() if k not in _ABOUT}).encode()
        ).hexdigest()
        return made

    return add


_ABOUT = ("__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__")


def _code(value: object) -> str:
    """What a piece of a class does, as text that is the same in every process."""
    if isinstance(value, dict):
        return repr([(name, _code(value[name])) for name in sorted(value)])
    value = getattr(value, "__func__", getattr(value, "fget", value))
    value = getattr(value, "__code__", value)
    if isinstance(value, CodeType):
        return repr((value.co_code, value.co_names, [_code(inner) for inner in value.co_consts]))
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def table_rows(encoding: Encoding, context: int) -> int | None:
    """How many positions there is a learned vector for; None where any number will do."""
    if encoding.name == "learned":
        return RANGE if encoding.randomized else context
    return POSITIONS[encoding.name].rows


def make_positions(encoding: Encoding, width: int, heads: int, context: int, layers: int) -> nn.ModuleList:
    """The modules of an encoding: one for all blocks, or one for each."""
    kind = POSITIONS[encoding.name]
    rows, copies = table_rows(encoding, context) or context, layers if kind.per_layer else 1
    made = [kind(width, heads, rows) for _ in range(copies)]
    for positions in made:
        positions.encoding = encoding
    return nn.ModuleList(made)
