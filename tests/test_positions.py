"""Every positional encoding against its definition, worked out again here by other means."""

import cmath
import math

import numpy as np
import pytest
import torch

from arithlab import Experiment
from arithlab.arithmetic.encodings import KIND, encoding
from arithlab.arithmetic.formats import format_
from arithlab.arithmetic.tasks import task
from arithlab.arithmetic.tokens import ANY
from arithlab.errors import ArithlabError
from arithlab.model import positions as p
from arithlab.model.positions import POSITIONS, T5, Alibi, Layout, Learned, Rope, Shaw, Sinusoidal
from arithlab.model.transformer import Cache, Shape, Transformer
from arithlab.training.fit import Trainer

MOVE_WITH_A_SHIFT = {
    "learned",
    "sinusoidal",
    "abacus",
    "coupled",
}  # absolute encodings; all others see distances at most
pytest_plugins = ["training_fixtures"]
EVERY = pytest.mark.parametrize("name", [*POSITIONS, "clipped places window 2", "rope places", "shaw window 3"])


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
    bias = Alibi(64, 8, 0).bias(torch.zeros(1), at[:, None], at)
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
    bias = positions.bias(torch.zeros(1), torch.tensor([[5], [150]]), torch.tensor([0, 3, 5]))
    for head in range(4):
        for i, query in enumerate((5, 150)):
            for j, key in enumerate((0, 3, 5)):
                wanted = positions.table.weight[published_bucket(query - key), head]
                assert bias[head, i, j].item() == wanted.item()


def test_shaw_adds_a_relative_vector_to_every_key():
    positions = Shaw(width=16, heads=2, context=0).double()
    q, k = torch.randn(2, 1, 2, 24, 8, dtype=torch.float64)
    at = torch.arange(24)
    logits = q @ k.transpose(-1, -2) / math.sqrt(8) + positions.bias(q, at[:, None], at)
    for head in range(2):
        for i in range(24):
            for j in range(i + 1):
                key = k[0, head, j] + positions.table.weight[min(i - j, 16)]
                wanted = sum(x * y for x, y in zip(q[0, head, i].tolist(), key.tolist(), strict=True)) / math.sqrt(8)
                assert logits[0, head, i, j].item() == pytest.approx(wanted, abs=1e-12)


def test_an_unknown_encoding_is_refused_with_the_nearest_name():
    with pytest.raises(ArithlabError, match="Did you mean 'sinusoidal'"):
        encoding("sinusiodal")


def digit_layout(text="653+49", fmt="aligned"):
    a, b = task("add").parse_question(text)
    a, b = (np.pad(x, (0, 3 - len(x)))[None] for x in (a, b))
    return Layout.of(format_(fmt).encode(task("add"), a, b))


def at(name, layout, batch=1, training=False):
    [made] = p.make_positions(encoding(name), 16, 2, 30, 1)
    return made.train(training).measure(layout, batch)


def test_kerple_adds_the_logarithmic_kernel():
    positions = p.Kerple(16, 2, 0)
    with torch.no_grad():
        positions.log_r1.copy_(torch.tensor([0.3, -1.0]))
        positions.log_r2.copy_(torch.tensor([-0.5, 2.0]))
    index = torch.arange(30)
    bias = positions.bias(torch.zeros(1), index[:, None], index)
    for head, (r1, r2) in enumerate([(math.exp(0.3), math.exp(-0.5)), (math.exp(-1), math.exp(2))]):
        for i in range(30):
            for j in range(i + 1):
                assert bias[head, i, j].item() == pytest.approx(-r1 * math.log(1 + r2 * (i - j)), rel=1e-5)


@pytest.mark.parametrize("stretch", [1.0, 8 / 512])  # a threshold of 512, and of 8 positions
def test_fire_maps_interpolated_distances(stretch):
    positions = p.Fire(16, 2, 0)
    with torch.no_grad():
        positions.c.fill_(-0.4)
        positions.stretch.fill_(stretch)
    index = torch.arange(30)
    bias = positions.bias(torch.zeros(1), index[:, None], index)
    w1, b1, w2, b2 = (
        x.detach().double().numpy() for layer in (positions.up, positions.down) for x in layer.parameters()
    )
    for i in range(30):
        for j in range(i + 1):
            share = math.log(0.4 * (i - j) + 1) / math.log(0.4 * max(512 * stretch, i) + 1)
            wanted = w2 @ np.maximum(w1[:, 0] * share + b1, 0) + b2
            assert bias[:, i, j].tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def test_clipped_adds_a_number_per_head_and_signed_difference():
    positions = p.Clipped(16, 2, 0)
    index = torch.tensor([3, 0, 7, 12, 1])
    bias = positions.bias(torch.zeros(1), index[:, None], index)
    for i, query in enumerate(index.tolist()):
        for j, key in enumerate(index.tolist()):
            row = positions.table.weight[max(-4, min(4, query - key)) + 4]
            assert bias[:, i, j].tolist() == (positions.scale * row).tolist()


@pytest.mark.parametrize("count", [1, 12, 2_048, 3_000])
def test_randomised_positions_are_an_ordered_subset_of_a_longer_range(count):
    for random in (True, False):
        drawn = p.ordered_subset(count, random)
        assert (drawn.diff() > 0).all()
        assert 0 <= drawn[0]
        assert drawn[-1] < max(2_048, count)


def test_without_training_the_ordered_subset_is_where_draws_are_on_average():
    torch.manual_seed(0)
    mean = torch.stack([p.ordered_subset(12, True) for _ in range(4_000)]).double().mean(0)
    assert (mean - p.ordered_subset(12, False)).abs().max() < 15  # a draw spreads by up to 280


def test_randomised_positions_draw_anew_in_training_only():
    layout = digit_layout()
    one, other = (at("rope randomized", layout, training=True) for _ in range(2))
    assert not torch.equal(one, other)
    assert torch.equal(at("rope randomized", layout), at("rope randomized", layout))
    places = at("rope places randomized", layout, training=True)
    assert len(places.unique()) == 5  # places -1 to 3; the same place is the same position everywhere
    assert torch.equal(places.unique(return_inverse=True)[1], layout.place + 1)


def table_layout():
    """3 columns, 2 rows: what is at one with every row, with every column, and the cells."""
    column = [0, 1, 2, ANY, ANY, -1, 0, 1, 2, -1, 0, 1, 2]
    row = [ANY, ANY, ANY, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    levels = torch.tensor([column, row])[:, None]
    return Layout(torch.zeros(1, 13, dtype=torch.long), torch.arange(13)[None], levels)


def test_grid_adds_the_biases_of_column_and_row():
    torch.manual_seed(0)
    grid, at = p.Grid(8, 2, 10), table_layout().levels
    bias = grid.bias(torch.zeros(1, 2, 13, 4), at[..., :, None], at[..., None, :])[0]
    table = grid.table.weight.reshape(2, 10, 2)  # level, row of the table, head
    for query in range(13):
        for key in range(13):
            wanted = 0
            for level in range(2):
                x, y = at[level, 0, query].item(), at[level, 0, key].item()
                wanted = wanted + table[level, 9 if ANY in (x, y) else min(4, max(-4, x - y)) + 4]
            assert torch.allclose(bias[:, query, key], grid.scale * wanted)


def test_grid_sees_what_is_in_the_window_in_both_levels():
    grid, at = p.Grid(8, 2, 10), table_layout().levels
    seen = ~grid.beyond(at[..., :, None], at[..., None, :], 1)[0]
    last = seen[11].nonzero()[:, 0].tolist()  # the cell at column 1 of row 1
    assert last == [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12]  # of the first row's cells columns 0 to 2, and no margin


def test_grid_in_a_single_row_is_clipped_by_places():
    layout = digit_layout()
    single = at("grid", layout)
    assert torch.equal(single, torch.stack((layout.place, torch.zeros_like(layout.place))))


def test_grid_needs_columns_and_rows():
    with pytest.raises(ArithlabError, match="schoolbook"):
        Experiment(positions="grid window 2", format="aligned")


def test_an_encoding_defined_elsewhere_trains_like_any_other():
    @p.new_encoding("distance", "relative")
    class Distance(p.Positions):
        def bias(self, q, queries, keys):
            return -(queries - keys).abs().unsqueeze(-3).to(q.dtype)

    try:
        e = Experiment(positions="distance places window 1", train="D_1-2", format="aligned", size="1-2-16", batch=8)
        assert Trainer(e, torch.device("cpu")).step(0).isfinite()
        assert e.predicted.digits is None
        assert e.id == e.with_(seed=0).id
        before, mine = e.id, Distance.bias
        p.new_encoding("distance")(type("Distance", (p.Positions,), {"bias": mine}))
        assert e.id == before  # the same code
        p.new_encoding("distance")(
            type("Distance", (p.Positions,), {"bias": lambda self, q, i, j: mine(self, q, i, j) / 2})
        )
        assert e.id != before  # another encoding under the name of the old one
    finally:
        del p.POSITIONS["distance"], KIND["distance"], p.CODE["distance"]
    for name, kind in (("rope", "relative"), ("Mine", "relative"), ("mine", "odd"), ("", "relative")):
        with pytest.raises(ArithlabError):
            p.new_encoding(name, kind)


def test_places_line_up_operands_and_answer():
    # 3 5 6 + 9 4 0 = 2 0 7 0
    assert at("clipped places", digit_layout()).tolist() == [[1, 2, 3, 4, 1, 2, 3, 0, 1, 2, 3, 4]]
    assert at("coupled", digit_layout()).tolist() == [[2, 3, 4, 5, 2, 3, 4, 1, 2, 3, 4, 5]]
    assert at("abacus", digit_layout()).tolist() == [[2, 3, 4, 0, 2, 3, 4, 0, 2, 3, 4, 5]]
    assert at("rope", digit_layout()).tolist() == list(range(12))


@pytest.mark.parametrize("name", ["coupled", "abacus"])
def test_in_training_every_example_gets_an_offset_of_its_own(name):
    torch.manual_seed(0)
    still, moved = at(name, digit_layout()), at(name, digit_layout(), batch=4_000, training=True)
    offsets = moved[:, 0] - still[0, 0]
    assert offsets.unique().tolist() == list(range(251))  # the place above the highest answer digit still has a row
    assert torch.equal(moved, torch.where(still > 0, still + offsets[:, None], 0))
    assert moved.max() == p.Coupled.rows - 1


@pytest.mark.parametrize("name", ["coupled", "fire places randomized"])
def test_random_positions_are_a_function_of_seed_and_step(name):
    e = Experiment(train="D_1-3", format="aligned", positions=name, size="1-2-16", batch=8)
    losses = []
    for disturbed in (False, True):
        trainer = Trainer(e, torch.device("cpu"))
        for step in range(3):
            if disturbed:
                torch.rand(7)
            loss = trainer.step(step)
        losses.append(loss.item())
    assert losses[0] == losses[1]
    assert Trainer(e.with_(seed=1), torch.device("cpu")).step(0) != Trainer(e, torch.device("cpu")).step(0)


@pytest.mark.parametrize("name", ["fire randomized", "learned places randomized"])
def test_randomised_positions_do_not_move_while_an_answer_is_written(name):
    made, ids, layout = model(name), tokens(11), digit_layout()
    cache = Cache()
    pieces = [made(piece, cache=cache, layout=layout) for piece in ids.split([8, 1, 1, 1], 1)]
    assert same(torch.cat(pieces, 1), made(ids, layout=layout))


def test_an_encoding_over_places_is_told_the_role_of_every_token():
    layout = digit_layout()
    swapped = Layout(torch.where(layout.role == 0, 2, torch.where(layout.role == 2, 0, layout.role)), layout.place)
    for name, matters in (("clipped places window 1", True), ("coupled", False), ("rope", False)):
        changed = (model(name)(tokens(12), layout=layout) - model(name)(tokens(12), layout=swapped)).abs().max()
        assert (changed > 1e-3) == matters


def test_every_encoding_has_a_class():
    assert set(POSITIONS) == set(KIND)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("rope", "rope"),
        ("clipped window 4  places", "clipped places window 4"),
        ("fire randomized places", "fire places randomized"),
        ("coupled window 2", "coupled window 2"),
        ("alibi window 0", "alibi window 0"),
    ],
)
def test_encodings_are_written_in_one_way(text, canonical):
    assert str(encoding(text)) == canonical == str(encoding(canonical)) == Experiment(positions=text).positions


@pytest.mark.parametrize(
    "text",
    [
        "rope place",
        "rope window",
        "rope window -1",
        "rope places places",
        "abacus places",
        "coupled randomized",
        "window 4",
    ],
)
def test_encodings_that_make_no_sense_are_refused(text):
    with pytest.raises(ArithlabError, match="positions"):
        encoding(text)


@pytest.mark.parametrize(("name", "most"), [("coupled", 253), ("abacus", 253), ("learned places", 27)])
def test_tables_of_places_say_how_far_they_reach(name, most):
    e = Experiment(format="aligned", positions=name)
    e.check_length(min(most, 250))
    with pytest.raises(ArithlabError, match="learned positions"):
        e.check_length(most + 1)
