"""The block against the papers' sizes, against a plain second implementation, and against itself."""

import math

import pytest
import torch

from arithlab.errors import ArithlabError
from arithlab.model.positions import POSITIONS
from arithlab.model.transformer import SITES, Cache, Probe, Shape, Transformer, shape_of

pytest_plugins = ["training_fixtures"]
EVERY = pytest.mark.parametrize("name", [*POSITIONS, "clipped places window 2", "rope places", "shaw window 3"])


SHAPE, SUNK = Shape(2, 4, 32), Shape(2, 4, 32, sink=20.0)
SHAPES = pytest.mark.parametrize("shape", [SHAPE, SUNK])


def model(name="learned", shape=SHAPE):
    """Large random weights, double precision: what should be equal is equal to many digits."""
    torch.manual_seed(1)
    made = Transformer(shape, 14, context=40, positions=name).eval().double()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return made


def tokens(length=18):
    return torch.randint(14, (3, length), generator=torch.Generator().manual_seed(2))


def same(x, y):
    return x.shape == y.shape and torch.allclose(x, y, atol=1e-8)


@pytest.mark.parametrize(
    ("size", "vocabulary", "context", "count"),
    [
        ("nano", 16, 256, 96_336),
        ("micro", 16, 256, 822_400),
        ("mini", 16, 256, 10_726_272),
        ("gpt-nano", 10, 15, 86_592),
        ("gpt-micro", 10, 15, 797_824),
        ("gpt-mini", 10, 19, 2_677_056),
    ],
)
def test_sizes_have_as_many_parameters_as_in_the_papers(size, vocabulary, context, count):
    assert Transformer(shape_of(size), vocabulary, context, "learned").parameter_count() == count


def test_fresh_weights_have_the_spread_of_gpt():
    fresh = Transformer(Shape(8, 4, 128), 16, 40, "learned").state_dict()
    assert fresh["embedding.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert fresh["blocks.3.up.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    for last in ("attention.out", "down"):
        assert fresh[f"blocks.3.{last}.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.1)


@EVERY
@SHAPES
@pytest.mark.parametrize("tail", [1, 5, 18])
def test_the_tail_has_the_logits_of_the_full_pass(name, shape, tail):
    assert same(model(name, shape)(tokens(), tail=tail), model(name, shape)(tokens())[:, -tail:])


@EVERY
def test_a_probe_changes_no_logits_and_sees_weights_that_sum_to_one(name):
    probe = Probe()
    assert same(model(name)(tokens(), tail=6, probe=probe), model(name)(tokens(), tail=6))
    assert [weights.shape for weights in probe.attention] == [(3, 4, 18, 18), (3, 4, 6, 18)]
    for weights in probe.attention:
        queries = 18 - weights.shape[2] + torch.arange(weights.shape[2])[:, None]
        assert same(weights.sum(-1), torch.ones(weights.shape[:3], dtype=torch.float64))
        assert (weights[:, :, queries < torch.arange(18)] == 0).all()


@EVERY
def test_a_sink_takes_the_same_share_of_every_token(name):
    plain, sunk = Probe(), Probe()
    model(name)(tokens(), probe=plain)
    logits = model(name, SUNK)(tokens(), tail=6, probe=sunk)
    assert same(model(name, SUNK)(tokens(), tail=6), logits)
    left = sunk.attention[0].sum(-1, keepdim=True)
    assert same(sunk.attention[0], plain.attention[0] * left)
    assert 0 < left.min() < left.max() < 1


@EVERY
def test_cutting_a_head_equals_erasing_its_columns_of_the_output_matrix(name):
    erased = model(name)
    with torch.no_grad():
        erased.blocks[1].attention.out.weight[:, 16:24] = 0
    cut = model(name)(tokens(), probe=Probe(cut={(1, 2)}))
    assert same(cut, erased(tokens()))
    assert not same(cut, model(name)(tokens()))


@pytest.mark.parametrize("name", ["none", "learned", "sinusoidal", "rope", "shaw"])  # these treat all heads alike
def test_heads_may_change_places_with_their_columns(name):
    permuted = model(name)
    order = torch.tensor([2, 0, 3, 1])
    rows = (order[:, None] * 8 + torch.arange(8)).flatten()
    with torch.no_grad():
        for block in permuted.blocks:
            qkv, out = block.attention.qkv.weight, block.attention.out.weight
            qkv.copy_(qkv.view(3, 32, 32)[:, rows].reshape(96, 32))
            out.copy_(out[:, rows])
    assert same(permuted(tokens()), model(name)(tokens()))


@EVERY
@SHAPES
@pytest.mark.parametrize("shift", [0, 3])
def test_reading_piece_by_piece_with_a_cache_equals_the_full_pass(name, shape, shift):
    made, cache, ids = model(name, shape), Cache(), tokens()
    pieces = [made(piece, cache=cache, shift=shift) for piece in ids.split([5, 1, 1, 4, 1, 6], 1)]
    assert same(torch.cat(pieces, 1), made(ids, shift=shift))


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sink", [0.0, 0.5, 1.0, 100.0])
def test_a_plain_second_implementation_gives_the_same_logits(activation, tied, sink):
    shape = Shape(2, 4, 32, activation, bias=True, tied=tied, sink=sink)
    made, ids = model(shape=shape), tokens()
    assert same(made(ids), plain(made.state_dict(), ids, layers=2, heads=4, activation=activation, sink=sink))


def plain(w, ids, layers, heads, activation, sink):
    """GPT in matrix products: pre-norm blocks with learned positions, one sequence and one head at a time."""
    return torch.stack([_plain_sequence(w, row, layers, heads, activation, sink) for row in ids])


def _plain_sequence(w, ids, layers, heads, activation, sink):
    bend = {
        "relu": lambda x: x.clamp(min=0),
        "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }[activation]
    x = w["embedding.weight"][ids] + w["positions.0.table.weight"][: len(ids)]
    for layer in range(layers):
        b = {k.removeprefix(f"blocks.{layer}."): v for k, v in w.items() if k.startswith(f"blocks.{layer}.")}
        y = _norm(x, b["norm1.weight"], b["norm1.bias"])
        q, k, v = (y @ b["attention.qkv.weight"].T + b["attention.qkv.bias"]).chunk(3, -1)
        width = q.shape[1] // heads
        reads = []
        for head in range(heads):
            columns = slice(head * width, (head + 1) * width)
            scores = (q[:, columns] @ k[:, columns].T / math.sqrt(width)).exp().tril()
            reads.append(scores / (sink + scores.sum(1, keepdim=True)) @ v[:, columns])
        x = x + torch.cat(reads, 1) @ b["attention.out.weight"].T + b["attention.out.bias"]
        y = _norm(x, b["norm2.weight"], b["norm2.bias"])
        x = x + bend(y @ b["up.weight"].T + b["up.bias"]) @ b["down.weight"].T + b["down.bias"]
    return _norm(x, w["norm.weight"], w["norm.bias"]) @ w["head.weight"].T


def _norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def test_tied_models_have_one_matrix_for_reading_and_writing():
    tied = Transformer(Shape(1, 2, 8, tied=True), 14, 10, "learned")
    assert tied.head.weight is tied.embedding.weight


@pytest.mark.parametrize(("size", "nearest"), [("2-4-65", "64"), ("2-3-20", "21"), ("1-7-100", "98")])
def test_heads_that_do_not_divide_the_width_are_refused_with_the_nearest_width(size, nearest):
    with pytest.raises(ArithlabError, match=rf"nearest\D*\b{nearest}\b"):
        shape_of(size)


@pytest.mark.parametrize("size", ["", "huge", "2-4", "0-4-64", "2-0-64", "2-4-4", "2-4-64 ", "-2-4-64", "2-4-6.4"])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ArithlabError):
        shape_of(size)


def test_rope_refuses_heads_of_odd_width_and_names_the_nearest_widths():
    with pytest.raises(ArithlabError, match=r"\b18\b.*\b24\b"):
        Transformer(Shape(2, 3, 21), 14, 40, "rope")


@EVERY
def test_a_temperature_divides_the_attention_logits(name):
    made, ids = model(name), tokens()
    plain, hot = Probe(), Probe(temperature=[[2.0, 1.0, 1.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
    made(ids, probe=plain), made(ids, probe=hot)
    for head, temperature in enumerate([2.0, 1.0, 1.0, 0.5]):
        wanted = plain.attention[0][:, head] ** (1 / temperature)
        assert same(hot.attention[0][:, head], wanted / wanted.sum(-1, keepdim=True))
    assert same(made(ids, probe=Probe(temperature=1.0)), made(ids))
    per_layer = made(ids, probe=Probe(temperature=[3.0, 3.0]))
    assert same(per_layer, made(ids, probe=Probe(temperature=3.0)))
    assert same(per_layer, made(ids, probe=Probe(temperature=3.0, attention=None)))


@EVERY
def test_a_temperature_divides_the_logit_of_the_sink_as_well(name):
    made, ids = model(name, SUNK), tokens()
    cold, hot = Probe(), Probe(temperature=2.0)
    made(ids, probe=cold)
    assert same(made(ids, probe=hot), made(ids, probe=Probe(temperature=2.0, attention=None)))
    rest = 1 - cold.attention[0].sum(-1, keepdim=True)
    wanted = cold.attention[0].sqrt()
    assert same(hot.attention[0], wanted / (wanted.sum(-1, keepdim=True) + rest.clamp(min=0).sqrt()))


def test_logits_may_grow_with_the_logarithm_of_the_length():
    made, ids = model("t5"), tokens()
    plain, scaled = Probe(), Probe(trained_on=4)
    made(ids, probe=plain), made(ids, probe=scaled)
    for query in range(18):
        factor = max(1.0, math.log(query + 1) / math.log(4))
        wanted = plain.attention[0][:, :, query] ** factor
        assert same(scaled.attention[0][:, :, query], wanted / wanted.sum(-1, keepdim=True))


def test_a_probe_reads_and_changes_every_site():
    made, ids, seen = model("rope"), tokens(), {}

    def look(site, layer, x):
        seen[site, layer] = x
        return x

    plain = made(ids)
    assert same(made(ids, probe=Probe(edit=look)), plain)
    layers = range(made.shape.layers)
    assert set(seen) == {(site, layer) for site in SITES for layer in layers}
    for layer in layers:
        assert same(seen["resid_mid", layer], seen["resid_pre", layer] + seen["attn_out", layer])
        assert same(seen["resid_post", layer], seen["resid_mid", layer] + seen["mlp_out", layer])
    assert same(made.head(made.norm(seen["resid_post", layers[-1]])), plain)
    for wanted in seen:  # what is put there is gone on with

        def remove(site, layer, x, wanted=wanted):
            return torch.zeros_like(x) if (site, layer) == wanted else x

        changed = made(ids, probe=Probe(edit=remove))
        assert not same(changed, plain), wanted
