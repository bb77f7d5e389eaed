"""What a user would run instead: a textbook GPT with a textbook loop, honest and unhandicapped.

Eager float32, torch's own attention and AdamW, text lines encoded in Python, logits at every position,
generation without a cache. Shapes: B batch, T tokens, C width, V vocabulary.
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY = "0123456789+=;"


class Block(nn.Module):
    """Pre-LayerNorm attention and MLP with GELU."""

    def __init__(self, heads: int, width: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(C, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Learned positions, untied head."""

    def __init__(self, layers: int, heads: int, width: int, context: int):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(len(VOCABULARY), width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(heads, width) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(VOCABULARY), bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def lines(count: int, digits: int, width: int, rng: random.Random) -> list[str]:
    """Sums as text, operands padded to `width`, the answer units first; D_n as the papers draw it."""
    out = []
    for _ in range(count):
        a, b = rng.randint(10 ** (digits - 1), 10**digits - 1), rng.randint(0, 10**digits - 1)
        if rng.random() < 0.5:
            a, b = b, a
        out.append(f"{a:0{width}d}+{b:0{width}d}={str(a + b).zfill(width + 1)[::-1]}")
    return out


def encode(text: list[str]) -> Tensor:
    """Token ids (B, T) of lines of one length."""
    index = {symbol: i for i, symbol in enumerate(VOCABULARY)}
    return torch.tensor([[index[symbol] for symbol in line] for line in text])


class Trainer:
    """The usual loop: a batch of lines, cross-entropy on the answer, AdamW."""

    def __init__(self, layers: int, heads: int, width: int, places: int, batch: int, digits: int = 4):
        self.places, self.batch, self.digits = places, batch, digits
        self.model = GPT(layers, heads, width, 3 * places + 8)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
        self.rng = random.Random(0)

    def step(self, number: int) -> float:
        """One optimiser step; returns the loss."""
        ids = encode(lines(self.batch, self.digits, self.places, self.rng))
        targets = ids[:, 1:].clone()
        targets[:, : 2 * self.places + 1] = -100  # up to and including "="
        logits = self.model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, count: int) -> Tensor:
    """Greedy continuation by `count` tokens, reading everything again for each."""
    ids = prompt
    for _ in range(count):
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], 1)
    return ids[:, prompt.shape[1] :]
