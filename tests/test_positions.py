"""Every positional encoding against its definition, worked out again here by other means."""

import cmath
import math

import pytest
import torch

from arithlab.errors import ArithlabError
from arithlab.model.positions import POSITIONS, T5, Alibi, Learned, Rope, Shaw, Sinusoidal
from arithlab.model.transformer import Shape, Transformer

MOVE_WITH_A_SHIFT = {"learned", "sinusoidal"}  # absolute encodings; all others see distances at most
pytest_plugins = ["training_fixtures"]
EVERY = pytest.mark.parametrize("name", POSITIONS)


def model(name, layers=2):
    """A model in which everything depends on everything: large random weights, double precision."""
    torch.manual_seed(1)
    made = Transformer(Shape(layers, 4, 32), vocabulary=14, context=60, positions=name).eval().double()
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    return made


def tokens(length=20, seed=2):
    return torch.randint(14, (3, length), generator=torch.Generator().manual_seed(seed))


def same(x, y):
    return torch.allclose(x, y, atol=1e-5)


@EVERY
@pytest.mark.parametrize("shift", [1, 7, 40])
def test_shifting_all_positions_matters_to_absolute_encodings_only(name, shift):
    shifted, plain = model(name)(tokens(), shift=shift), model(name)(tokens())
    if name in MOVE_WITH_A_SHIFT:
        assert (shifted - plain).abs().max() > 1e-2
    else:
        assert same(shifted, plain)


@EVERY
def test_later_tokens_do_not_change_earlier_logits(name):
    ids, other = tokens(), tokens(seed=3)
    for kept in (1, 10, 19):
        mixed = torch.cat([ids[:, :kept], other[:, kept:]], 1)
        assert same(model(name)(mixed)[:, :kept], model(name)(ids)[:, :kept])


@EVERY
def test_the_order_of_the_earlier_tokens_matters_unless_there_are_no_positions(name):
    ids = tokens(8)
    shuffled = ids[:, [3, 0, 6, 1, 5, 2, 4, 7]]
    difference = (model(name, layers=1)(ids)[:, -1] - model(name, layers=1)(shuffled)[:, -1]).abs().max()
    assert difference < 1e-9 if name == "none" else difference > 1e-3


def test_learned_positions_are_rows_of_a_table():
    positions = Learned(width=8, heads=2, context=12)
    rows = positions.embed(torch.tensor([3, 0, 11]))
    assert [row.tolist() for row in rows] == [positions.table.weight[i].tolist() for i in (3, 0, 11)]


@pytest.mark.parametrize("width", [32, 33])
def test_sinusoidal_positions_follow_the_formula(width):
    rows = Sinusoidal(width, 1, 0).embed(torch.arange(60)) / Sinusoidal.scale
    for position in range(60):
        for column in range(width):
            angle = position / 10_000 ** (column // 2 * 2 / width)
            wanted = math.cos(angle) if column % 2 else math.sin(angle)
            assert rows[position, column].item() == pytest.approx(wanted, abs=1e-5)


def test_rope_multiplies_complex_numbers():
    x = torch.randn(1, 1, 50, 16, dtype=torch.float64)
    turned = Rope(16, 1, 0).rotate(x, torch.arange(50))
    for position in range(50):
        for i in range(8):
            turn = cmath.exp(1j * position * 10_000 ** (-2 * i / 16))
            before = complex(x[0, 0, position, i], x[0, 0, position, i + 8])
            after = complex(turned[0, 0, position, i], turned[0, 0, position, i + 8])
            assert after == pytest.approx(before * turn, abs=1e-4)


def test_alibi_takes_the_slopes_of_the_paper():
    at = torch.arange(12)
    bias = Alibi(64, 8, 0).bias(torch.zeros(1), at, at)
    for head, slope in enumerate([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]):
        for query in range(12):
            for key in range(query + 1):
                assert bias[head, query, key].item() == -slope * (query - key)


def published_bucket(distance):
    """Below 16 the distance; from 16 on bucket b starts at 16 * 8^((b - 16)/16), compared here in whole numbers."""
    if distance < 16:
        return distance
    return max(b for b in range(16, 32) if distance**16 >= 2 ** (64 + 3 * (b - 16)))


def test_t5_puts_distances_into_the_published_buckets():
    found = T5(32, 4, 0).bucket(torch.arange(301)).tolist()
    assert found == [published_bucket(distance) for distance in range(301)]


def test_t5_adds_the_value_of_the_bucket_per_head():
    positions = T5(32, 4, 0)
    bias = positions.bias(torch.zeros(1), torch.tensor([5, 150]), torch.tensor([0, 3, 5]))
    for head in range(4):
        for i, query in enumerate((5, 150)):
            for j, key in enumerate((0, 3, 5)):
                wanted = positions.table.weight[published_bucket(query - key), head]
                assert bias[head, i, j].item() == wanted.item()


def test_shaw_adds_a_relative_vector_to_every_key():
    positions = Shaw(width=16, heads=2, context=0).double()
    q, k = torch.randn(2, 1, 2, 24, 8, dtype=torch.float64)
    at = torch.arange(24)
    logits = q @ k.transpose(-1, -2) / math.sqrt(8) + positions.bias(q, at, at)
    for head in range(2):
        for i in range(24):
            for j in range(i + 1):
                key = k[0, head, j] + positions.table.weight[min(i - j, 16)]
                wanted = sum(x * y for x, y in zip(q[0, head, i].tolist(), key.tolist(), strict=True)) / math.sqrt(8)
                assert logits[0, head, i, j].item() == pytest.approx(wanted, abs=1e-12)


def test_an_unknown_encoding_is_refused_with_the_nearest_name():
    with pytest.raises(ArithlabError, match="Did you mean 'sinusoidal'"):
        encoding("sinusiodal")
