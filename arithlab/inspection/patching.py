"""Where a carry is made and how it travels: activations of one sum put into another that differs in one carry.

After Vig et al. 2020 (arXiv 2004.12265) and Meng et al. 2022 (arXiv 2202.05262): what a site at a token holds of a
fact is how much of the answer comes back when it alone is taken from the sum in which the fact is true.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..arithmetic import batches
from ..errors import ArithlabError, UnknownName, shorten
from ..model.transformer import Probe, Transformer
from ..training.runs import Run
from ..training.waiting import waiting
from .recording import Questions, check_addition, check_site, record

CASES = ("made", "passed")
MAP_SITES = ("resid_pre", "attn_out", "mlp_out")
CARRY = 7  # random stream of the pairs, beside those of batches
DRAWN, BLOCKS = 40_000, 10  # triples drawn at once, one pair in a hundred of them held out; and how often


def carry_pairs(
    run: Run, digits: int, place: int, n: int, *, case: str = "made"
) -> tuple[Questions, Questions, Questions]:
    """n sums (clean), the same with one carry the other way (corrupted), and with that carry as in corrupted (other).

    Of so many digits, clean and corrupted held out; fewer than n where there are no more. In about half the rows
    clean has the carry and corrupted has not. The three differ at one place, in both operand digits, whose sums are
    s + base and s (once more s for other): the written digit of that place is the same, only the operands tell.
    Case made: that place is `place`, and its carry out is the only one that differs.
    Case passed: that place is the one below, and the digits of `place` add to base - 1, so that the carry passes
    through: the written digit of `place` is 0 with it and base - 1 without.
    Either way the answer digit at place + 1 is one more with the carry, and no carry further up differs.
    """
    check_addition(run, "a pair that differs in one carry")
    if case not in CASES:
        raise UnknownName("case", case, CASES)
    e, lowest = run.experiment, int(case == "passed")
    if e.base < 5:
        raise ArithlabError(
            f"base {e.base}: pairs that differ in one carry need two ways to every sum, from base 5 on."
        )
    if not isinstance(place, int) or not lowest <= place < digits:
        raise ArithlabError(
            f"place {shorten(place)}: a carry can be {case} at places {lowest} to {digits - 1} of {digits} digits."
        )
    e.check_length(digits)
    found = np.empty((0, 6, digits), np.uint8)  # a and b of the three
    for block in range(BLOCKS):
        rng = batches.stream(block, CARRY, digits, place, lowest)
        triple = _draw(rng, e.base, digits, place, place - lowest)
        keep = np.logical_and.reduce([batches.is_test_pair(a, b) for a, b in triple[:2]])
        drawn = np.stack([side[keep] for pair in triple for side in pair], 1)
        found = np.concatenate([found, drawn])
        found = found[np.sort(np.unique(found[:, :4], axis=0, return_index=True)[1])][:n]
        if len(found) == n:
            break
    if len(found) < 2:
        raise ArithlabError(f"{digits} digits hold too few pairs that differ in one carry: ask for more digits.")
    return tuple(Questions(e, found[:, i], found[:, i + 1]) for i in (0, 2, 4))


def _draw(rng: np.random.Generator, base: int, digits: int, place: int, at: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Operands of clean, corrupted and other: the carry is made at place `at` and looked for at `place` + 1."""
    a, b = (rng.integers(0, base, (DRAWN, digits), dtype=np.uint8) for _ in "ab")
    a[:, -1] = np.maximum(a[:, -1], 1)
    if at < place:
        a[:, place] = rng.integers(1, base, DRAWN)
        b[:, place] = base - 1 - a[:, place]
    if place + 1 < digits:  # the carry must end there
        open_ = a[:, place + 1].astype(int) + b[:, place + 1] == base - 1
        a, b = a[~open_], b[~open_]
    total = rng.integers(1, base - 2, len(a))  # 1 ... base - 3: two ways at least with the carry and without
    with_carry = np.arange(len(a)) % 2 == 0
    picks = [(with_carry, 0), (~with_carry, 0), (~with_carry, 1)]
    start = rng.integers(0, base, len(a))
    out = []
    for carried, other in picks:
        low, count = np.where(carried, total + 1, 0), np.where(carried, base - 1 - total, total + 1)
        x = low + (start + other) % count  # neighbours in a round of at least two: never the same
        a, b = a.copy(), b.copy()
        a[:, at], b[:, at] = x, total + base * carried - x
        out.append((a, b))
    return out


def patched(
    model: Transformer, into: Questions, source: Tensor, site: str, layer: int, tokens: Sequence[int]
) -> Tensor:
    """Logits (N, 1, V) at the last token of `into` with a site of a layer at some tokens taken from `source`.

    source: what `record` found there, with the token axis last but one.
    """
    check_site(site)
    length = into.ids.shape[1]

    def edit(here: str, at: int, x: Tensor) -> Tensor:
        seen = [token - length for token in tokens if length - token <= x.shape[-2]]  # the last block holds one
        if (here, at) != (site, layer) or not seen:
            return x
        x = x.clone()
        x[..., seen, :] = source[..., seen, :]
        return x

    with torch.inference_mode():
        return model(into.ids, tail=1, probe=Probe(attention=None, edit=edit), layout=into.layout)


def carry_map(
    run: Run,
    digits: int,
    *,
    n: int = 200,
    case: str = "made",
    places: Iterable[int] | None = None,
    sites: Sequence[str] = MAP_SITES,
) -> pd.DataFrame:
    """How much of a carry each site holds at each token: a row per place, site, layer and token.

    For the sums of `carry_pairs`: the logit of the digit at place + 1 that is right in clean less that of the one that
    is right in corrupted, in the corrupted run with the site at one token taken from clean; 0 as in the corrupted run,
    1 as in the clean one (ratio of means over n pairs). Columns: case, place, site, layer, token, label, role,
    token_place, restored, error (standard error of restored), control (the same taken from other, whose carry does
    not differ: 0 where the site holds the carry and not the digits), effect (the difference in logits that is to be
    restored), right (share of pairs both of which the model answers rightly at place + 1).
    """
    for site in sites:
        check_site(site)
    rows = []
    for place in range(int(case == "passed"), digits) if places is None else places:
        whole = carry_pairs(run, digits, place, n, case=case)
        writer, right, wrong = whole[0].writer(place + 1), whole[0].right(place + 1), whole[1].right(place + 1)
        clean, corrupted, other = (questions.until(writer) for questions in whole)
        held = [record(run.model, questions, sites) for questions in (clean, corrupted, other)]

        def difference(logits: Tensor, right: Tensor = right, wrong: Tensor = wrong) -> np.ndarray:
            last = logits[:, -1].double()
            return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None]))[:, 0].numpy()

        start = difference(held[1]["logits", 0])
        effect = (difference(held[0]["logits", 0]) - start).mean()
        answers = [x["logits", 0][:, -1].argmax(-1) for x in held[:2]]
        both = ((answers[0] == right) & (answers[1] == wrong)).double().mean().item()
        here = [(site, layer) for layer in range(run.experiment.shape.layers) for site in sites]
        for site, layer in waiting(here, f"patching, place {place}"):
            for token in range(writer + 1):
                moved = []
                for source in (held[0][site, layer], held[2][site, layer]):
                    if torch.equal(source[..., token, :], held[1][site, layer][..., token, :]):
                        moved.append(np.zeros(len(start)))  # nothing to put in: the question is the same up to here
                        continue
                    moved.append(difference(patched(run.model, corrupted, source, site, layer, [token])) - start)
                rows.append(
                    {
                        "case": case, "place": place, "site": site, "layer": layer, **corrupted.about(token),
                        "restored": moved[0].mean() / effect,
                        "error": moved[0].std() / abs(effect) / np.sqrt(len(start)),
                        "control": moved[1].mean() / effect, "effect": effect, "right": both,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def carry_followed(run: Run, digits: int, n: int = 200) -> pd.DataFrame:
    """Whether the answer digit at place + 1 follows the carry out of a place: a row per place.

    For the sums of `carry_pairs` (case made). Columns: place, n, changed (share of pairs of which the model writes
    different digits at place + 1), right (of which both are the right ones).
    """
    rows = []
    for place in range(digits):
        written, true = [], []
        for questions in carry_pairs(run, digits, place, n)[:2]:
            logits = record(run.model, questions, ())["logits", 0]
            written.append(logits[:, questions.writer(place + 1)].argmax(-1))
            true.append(questions.right(place + 1))
        right = (written[0] == true[0]) & (written[1] == true[1])
        changed = written[0] != written[1]
        rows.append({"place": place, "n": len(right), "changed": changed.double().mean().item(),
                     "right": right.double().mean().item()})  # fmt: skip
    return pd.DataFrame(rows)
