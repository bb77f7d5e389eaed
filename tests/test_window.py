"""Attention over a window: equal to the mask, and linear in the length."""

import math

import numpy as np
import pytest
import torch

from arithlab.arithmetic import batches
from arithlab.arithmetic.domains import domain
from arithlab.arithmetic.formats import format_
from arithlab.arithmetic.tasks import task
from arithlab.model import transformer
from arithlab.model.positions import Layout
from arithlab.model.transformer import Cache, Probe, Shape, Transformer
from arithlab.model.window import neighbours

pytest_plugins = ["training_fixtures"]


def examples(digits, count=4, fmt="aligned"):
    return format_(fmt).encode(task("add"), *batches.held_out_pairs(domain(f"D_{digits}"), 10, count))


def model(name, sink=0.0):
    torch.manual_seed(1)
    made = Transformer(Shape(2, 2, 16, sink=sink), 14, context=200, positions=name).eval().double()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return made


def logits(monkeypatch, name, tokens, far, sink=0.0, **options):
    """By the window from the first token on, or by the mask up to the last."""
    monkeypatch.setattr(transformer, "FAR", 0 if far else 10**9)
    with torch.inference_mode():
        ids = torch.from_numpy(tokens.ids).long()
        return model(name, sink)(ids[:, :-1], layout=Layout.of(tokens), **options)


@pytest.mark.parametrize("fmt", ["aligned", "unpadded"])  # one layout for all, and one for each
@pytest.mark.parametrize(
    "name",
    ["clipped places window 1", "none places window 0", "rope places window 3", "shaw window 5", "t5 places window 2",
     "fire places window 2", "kerple window 4", "alibi places window 1", "learned places window 2"],
)  # fmt: skip
def test_the_window_gives_what_the_mask_gives(monkeypatch, name, fmt):
    tokens = examples(12, fmt=fmt)
    for options in ({}, {"tail": tokens.tail}, {"probe": Probe(temperature=[0.5, 2.0], trained_on=3, attention=None)}):
        for sink in (0.0, 20.0):
            near, masked = (logits(monkeypatch, name, tokens, far, sink, **options) for far in (True, False))
            assert torch.allclose(near, masked, atol=1e-9)


@pytest.mark.parametrize("far", [False, True])
def test_a_probe_may_set_another_window(monkeypatch, far):
    tokens = examples(12)
    as_trained = logits(monkeypatch, "clipped places window 2", tokens, far)
    same = {"probe": Probe(window=2, attention=None)}
    assert torch.allclose(logits(monkeypatch, "clipped places", tokens, far, **same), as_trained, atol=1e-9)
    none = {"probe": Probe(window=math.inf, attention=None)}
    whole = logits(monkeypatch, "clipped places", tokens, far)
    assert torch.allclose(logits(monkeypatch, "clipped places window 2", tokens, far, **none), whole, atol=1e-9)
    assert not torch.allclose(whole, as_trained)


def test_the_window_works_with_a_cache(monkeypatch):
    tokens, cache = examples(12), Cache()
    whole = logits(monkeypatch, "clipped places window 1", tokens, False)
    monkeypatch.setattr(transformer, "FAR", 0)
    made, ids, layout = model("clipped places window 1"), torch.from_numpy(tokens.ids).long(), Layout.of(tokens)
    pieces = [made(piece, cache=cache, layout=layout) for piece in ids[:, :-1].split([25, 1, 1, 5, 6], 1)]
    assert torch.allclose(torch.cat(pieces, 1), whole[:, :38], atol=1e-9)


def test_neighbours_are_the_earlier_tokens_within_the_window():
    at = torch.from_numpy(np.random.default_rng(0).integers(-3, 12, (3, 40)))
    near, counts = neighbours(at, 25, 2)
    for row in range(3):
        for query in range(25):
            own = 15 + query
            wanted = [key for key in range(own + 1) if abs(at[row, key] - at[row, own]) <= 2]
            assert sorted(near[row, query][counts[row, query]].tolist()) == wanted


@pytest.mark.parametrize("window", [0, 1, 4])
def test_the_number_of_keys_does_not_grow_with_the_length(window):
    widths = []
    for digits in (20, 300):
        layout = Layout.of(examples(digits))
        widths.append(neighbours(layout.place, layout.place.shape[1], window)[0].shape[2])
    assert widths[0] == widths[1] <= 3 * (2 * window + 1) + 2


def test_a_sum_of_ten_thousand_digits_is_read_in_one_pass():
    tokens = examples(10_000, count=2)  # a mask of 30,003 x 30,003 would take 900 MB per head
    made = Transformer(Shape(1, 2, 8), 14, context=10, positions="clipped places window 1").eval()
    with torch.inference_mode():
        found = made(torch.from_numpy(tokens.ids).long()[:, :-1], tail=tokens.tail, layout=Layout.of(tokens))
    assert found.shape == (2, 10_001, 14)
    assert found.isfinite().all()
