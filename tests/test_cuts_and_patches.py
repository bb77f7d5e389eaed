"""Interventions: cuts, patches, attributions and lenses, each against what must hold exactly."""

import numpy as np
import pytest
import torch
from training_fixtures import BRIEF, PADDED

import arithlab as al
from arithlab.arithmetic import batches
from arithlab.arithmetic import digits as dg
from arithlab.errors import ArithlabError
from arithlab.inspection.cuts import cut_parts, parts, temperatures
from arithlab.inspection.ideal import READS, ideal_share, ideal_tokens
from arithlab.inspection.lens import attribution, logit_lens
from arithlab.inspection.patching import carry_followed, carry_map, carry_pairs, patched
from arithlab.inspection.recording import Questions, held_out, record, scrambled
from arithlab.inspection.representations import read_outs
from arithlab.model.transformer import SITES, Probe
from arithlab.training.evaluate import matching_tokens, place_accuracy
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]
MUL = Run("nowhere", al.Experiment(task="mul", train="D_2"))


@pytest.fixture
def biased(out):
    """A model with every bias there can be, one that training does not leave at zero."""
    run = Run("nowhere", al.Experiment(train="D_2", format="padded 2", size="gpt-nano", positions="shaw"))
    torch.manual_seed(0)
    run.__dict__["model"] = model = run.experiment.model().eval()
    for name, parameter in model.named_parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape) * name.endswith("bias")
    return run


def test_a_head_cut_by_zero_is_what_the_probe_cuts(padded):
    table, questions = cut_parts(padded, 2, n=100), held_out(padded, 2, 100)
    answer = questions.tokens.tail
    for layer, head in ((0, 0), (1, 1)):
        right = matching_tokens(padded.model, questions.tokens, Probe(cut={(layer, head)}))
        one = table[(table.part == "head") & (table.layer == layer) & (table["head"] == head)]
        assert one.exact_match.iloc[0] == right.all(1).mean()
        assert one.sort_values("place").accuracy.tolist() == right[:, -answer:].mean(0).tolist()


def test_the_whole_model_is_a_row_and_some_cut_hurts_it(padded):
    for fill in ("zero", "mean"):
        table = cut_parts(padded, 2, n=100, fill=fill)
        whole = table[table.part == "whole"]
        assert whole.name.unique().tolist() == ["whole"]
        assert len(table) == (1 + len(parts(padded.experiment.shape))) * 4
        accuracy = place_accuracy(padded, [2], n=100).accuracy
        assert np.allclose(whole.accuracy[:3], accuracy)  # place 3 is always 0
        assert table.exact_match.min() < 0.5 < whole.exact_match.iloc[0]


def test_all_heads_cut_at_once_are_the_attention_cut(padded):
    questions = held_out(padded, 2, 50)
    heads = matching_tokens(padded.model, questions.tokens, Probe(cut={(1, head) for head in range(2)}))
    table = cut_parts(padded, 2, n=50).query("part == 'attention' and layer == 1")
    assert table.exact_match.iloc[0] == heads.all(1).mean()


@pytest.mark.parametrize("case", ["made", "passed"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_pairs_differ_in_one_carry_and_in_nothing_that_tells_but_the_operands(case, place):
    run = Run("nowhere", al.Experiment(train="D_4"))
    clean, corrupted, other = carry_pairs(run, 4, place, 60, case=case)
    carries = [dg.carries(x.a, x.b, 10) for x in (clean, corrupted, other)]
    differ = carries[0] != carries[1]
    wanted = [place] if case == "made" else [place - 1, place]
    assert (differ == np.isin(np.arange(4), wanted)).all()
    assert (carries[1] == carries[2]).all()
    digits = (clean.a != corrupted.a) | (clean.b != corrupted.b)
    assert (digits == (np.arange(4) == wanted[0])).all()
    assert (clean.tokens.ids[:, clean.answer[wanted[0]]] == corrupted.tokens.ids[:, clean.answer[wanted[0]]]).all()
    assert (clean.right(place + 1) != corrupted.right(place + 1)).all()
    assert (corrupted.right(place + 1) == other.right(place + 1)).all()
    assert ((corrupted.a != other.a) == digits).all()
    for questions in (clean, corrupted, other):
        assert len(questions.a) == 60
        assert len(np.unique(np.concatenate([questions.a, questions.b], 1), axis=0)) > 50
    for questions in (clean, corrupted):
        assert batches.is_test_pair(questions.a, questions.b).all()
    assert 0.3 < carries[0][:, place].mean() < 0.7


def test_a_layer_cut_whole_is_its_attention_and_its_mlp_cut(padded):
    cut = cut_parts(padded, 2, n=50).query("part == 'layer' and layer == 0").accuracy

    def none(site, layer, x):
        return torch.zeros_like(x) if layer == 0 and site in ("attn_out", "mlp_out") else x

    questions = held_out(padded, 2, 50)
    right = matching_tokens(padded.model, questions.tokens, Probe(attention=None, edit=none))
    at = [token - questions.tokens.ids.shape[1] for token in questions.answer]
    assert cut.tolist() == pytest.approx(right[:, at].mean(0).tolist())


def test_temperatures_everywhere_in_a_layer_and_in_a_head(padded):
    table = temperatures(padded, 2, [0.25, 8.0], n=100)
    tokens = held_out(padded, 2, 100).tokens

    def exact(heat):
        return matching_tokens(padded.model, tokens, Probe(attention=None, temperature=heat)).all(1).mean()

    found = table.set_index(["part", "layer", "head", "temperature"]).exact_match
    assert found["whole", -1, -1, 1.0] == exact(1.0)
    assert found["whole", -1, -1, 8.0] == exact(8.0) < found["whole", -1, -1, 1.0]
    assert found["attention", 1, -1, 8.0] == exact([1.0, 8.0])
    assert found["head", 0, 1, 0.25] == exact([[1.0, 0.25], [1.0, 1.0]])
    assert len(table) == 3 + 2 * (2 + 4)


@pytest.mark.parametrize("site", SITES)
def test_patching_from_the_same_run_changes_nothing(padded, site):
    questions = held_out(padded, 2, 20)
    seen = record(padded.model, questions)
    for layer in range(2):
        logits = patched(padded.model, questions, seen[site, layer], site, layer, range(questions.ids.shape[1]))
        assert torch.allclose(logits[:, -1], seen["logits", 0][:, -1], atol=1e-5)


def test_patching_every_token_of_the_stream_restores_all_of_it(padded):
    clean, corrupted, _ = carry_pairs(padded, 2, 0, 20)
    clean, corrupted = (x.until(clean.writer(1)) for x in (clean, corrupted))
    seen, before = record(padded.model, clean), record(padded.model, corrupted)["logits", 0]
    every = range(clean.ids.shape[1])
    for site, layer in (("resid_pre", 0), ("resid_pre", 1), ("resid_post", 1)):
        logits = patched(padded.model, corrupted, seen[site, layer], site, layer, every)
        assert torch.allclose(logits[:, -1], seen["logits", 0][:, -1], atol=1e-4)
    assert not torch.allclose(before[:, -1], seen["logits", 0][:, -1], atol=0.1)


def test_the_map_finds_the_operands_before_and_the_writer_after(padded):
    table = carry_map(padded, 2, n=40, places=[0], sites=("resid_pre", "resid_post"))
    assert set(table.layer) == {0, 1}
    start = table[(table.site == "resid_pre") & (table.layer == 0)].set_index("label").restored
    assert start.abs().drop(["a₀", "b₀"]).max() == 0  # no other token differs
    end = table[(table.site == "resid_post") & (table.layer == 1)].set_index("label")
    assert end.restored["c₀"] == pytest.approx(1, abs=1e-5)
    assert end.restored.drop("c₀").abs().max() < 1e-6  # what other tokens end with cannot reach the answer
    assert abs(end.control["c₀"]) < 0.25
    assert (table.right > 0.9).all()


def test_a_carry_that_is_passed_on_is_at_the_written_digit(padded):
    table = carry_map(padded, 2, n=40, case="passed", sites=("resid_pre",))
    start = table[table.layer == 0].set_index("label").restored
    assert start["c₁"] > 0.7
    assert start.drop("c₁").abs().max() < 0.3


def test_an_untrained_model_does_not_follow_the_carry(padded):
    assert carry_followed(padded, 2, 50).right.min() > 0.9
    nothing = carry_followed(scrambled(padded), 2, 50)
    assert nothing.right.max() < 0.3


def test_contributions_add_up_to_the_logit(padded, biased):
    for run in (padded, biased):
        table = attribution(run, 2, 40)
        grid = table.pivot_table(index="name", columns="place", values="contribution")
        assert np.allclose(grid.drop("whole").sum(), grid.loc["whole"], atol=1e-4)
    assert abs(grid.loc["bias"]).min() > 1e-3


def test_the_attributed_logit_is_the_models(padded):
    questions = held_out(padded, 2, 40)
    logits = record(padded.model, questions)["logits", 0][:, questions.writer(1)].double()
    own = logits.gather(1, questions.right(1)[:, None])[:, 0]
    table = attribution(padded, 2, 40).query("part == 'whole' and place == 1")
    assert table.contribution.iloc[0] == pytest.approx((own - logits[:, :10].mean(1)).mean().item(), abs=1e-4)


def test_the_last_row_of_the_lens_is_the_model(padded):
    table = logit_lens(padded, 2, 60)
    last = table[table.layer == 1].sort_values("place")
    assert np.allclose(last.accuracy[:3], place_accuracy(padded, [2], n=60).accuracy)
    first = table[table.layer == -1].sort_values("place")
    assert first.accuracy.mean() < 0.8 < last.accuracy.mean()
    assert table.probability.between(0, 1).all()


@pytest.mark.parametrize("text", ["padded 4", "aligned", "padded 4 operands high"])
def test_an_ideal_adder_needs_those_tokens_and_no_others(text):
    """Changing any other token of the question must not change what follows from the needed ones."""
    fmt, t = al.format_(text), al.task("add")
    tokens = fmt.encode(t, dg.from_ints([4789], 10), dg.from_ints([3214], 10))
    for place in range(4):
        needed = ideal_tokens(tokens, place)
        assert list(needed) == list(READS)
        symbols = [fmt.vocabulary(t)[tokens.ids[0, i]] for reads in READS for i in needed[reads]]
        own = ["4789"[::-1][place], "3214"[::-1][place]]
        below = ["4789"[::-1][place - 1], "3214"[::-1][place - 1], "8003"[::-1][place - 1]] if place else []
        assert symbols == own + below


def test_shares_of_attention_are_shares_and_even_where_nothing_was_learned(padded):
    table = ideal_share(padded, 2, 40)
    assert (table.groupby(["layer", "head", "place"]).share.sum() <= 1 + 1e-6).all()
    assert table.share.max() > 0.4
    untrained = Run("nowhere", padded.experiment)
    torch.manual_seed(0)
    untrained.__dict__["model"] = padded.experiment.model().eval()
    even = ideal_share(untrained, 2, 40)
    assert np.allclose(even.share, even.uniform, atol=0.05)


def test_scrambled_weights_keep_their_norm_and_lose_what_was_learned(padded):
    nothing = scrambled(padded, seed=3)
    assert not nothing.finished
    for (name, mine), its in zip(padded.model.named_parameters(), nothing.model.parameters(), strict=True):
        assert mine.norm().item() == pytest.approx(its.norm().item(), rel=1e-5), name
    assert al.evaluate(nothing, [2], n=50).exact_match[0] == 0


REFUSED = [
    (lambda run: cut_parts(run, 2, 10, fill="median"), "unknown fill"),
    (lambda run: cut_parts(run, 2, 0), "whole numbers of questions"),
    (lambda run: temperatures(run, 2, [0.5, 0]), "numbers above 0"),
    (lambda run: temperatures(run, 2, [float("inf")]), "numbers above 0"),
    (lambda run: cut_parts(run, 9, 10), "do not fit"),
    (lambda run: carry_map(run, 2, places=[2]), "place 2"),
    (lambda run: carry_map(run, 2, places=[0], case="passed"), "place 0"),
    (lambda run: carry_map(run, 2, case="lost"), "unknown case"),
    (lambda run: carry_map(run, 2, sites=["resid"]), "unknown site"),
    (lambda run: carry_map(MUL, 2), "plain addition"),
    (lambda run: ideal_share(MUL, 2), "plain addition"),
    (lambda run: carry_pairs(Run("nowhere", al.Experiment(task="add base 3", train="D_4")), 4, 0, 9), "from base 5"),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_what_cannot_be_done_is_said_in_one_sentence(padded, call, said):
    with pytest.raises(ArithlabError, match=said) as caught:
        call(padded)
    assert "\n" not in str(caught.value)


def test_formats_without_one_layout_are_refused(out):
    run = Run("nowhere", al.Experiment(train="D_2", format="unpadded", positions="rope"))
    with pytest.raises(ArithlabError, match="no one layout"):
        _ = held_out(run, 2, 10).tokens


def test_a_scratchpad_has_no_digits_of_an_answer(out):
    run = Run("nowhere", al.Experiment(task="add mod 101", train="D_ab2", format="remainders", positions="rope"))
    run.__dict__["model"] = run.experiment.model().eval()
    with pytest.raises(ArithlabError, match="read_outs"):
        cut_parts(run, 2, 10)
    assert len(read_outs(run, "residue 101", 2, 300, tokens=[0, 5])) == 8


def test_questions_look_the_same_whoever_asks(out):
    run = Run("nowhere", BRIEF)
    first, second = held_out(run, 2, 20), held_out(run, 2, 20, seed=1)
    assert isinstance(first, Questions)
    assert (first.ids == held_out(run, 2, 20).ids).all()
    assert (first.ids != second.ids).any()
    assert PADDED.format_.vocabulary(PADDED.task_)[first.digit_ids] == tuple("0123456789")
