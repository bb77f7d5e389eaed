"""Whatever is typed as a task, a domain or a format is either taken or refused with an ArithlabError."""

from functools import cache

import numpy as np
import pytest

from arithlab.arithmetic.domains import domain
from arithlab.arithmetic.formats import format_
from arithlab.arithmetic.tasks import task
from arithlab.errors import ArithlabError

COUNT = 10_000
ODD = [
    *" ;:(){}'\"\\/%#\n\t.-_eE", "nan", "inf", "1e5", "99999999", "9" * 400,
    "\u0661", "\uff11", "\u00b2", "\u00e9", "\u2212", "\u200b", "\u00a0", "\U0001f600", "\x00", "\ud800",
]  # fmt: skip
GRAMMAR = {  # what the texts of each kind are made of
    task: ["add", "mul", " mod ", " base ", " ", *"0123456789"],
    domain: ["D_", "D_ab", "digits=", "place", "place0=", "chain=", "6-9", "02468", "a-f", *"+*[],=.-0123456789"],
    format_: ["padded ", "unpadded", "p1", "p2 ", " operands", " answer", " high", " units", " ", *"0123456789"],
}
VALID = {
    task: ["add", "mul mod 50", "add mod 101 base 7", "mul base 36", "add mod 18446744073709551629"],
    domain: [
        "D_4", "D_ab4", "D_4+D_5", "3*D_4+0.5*D_ab5", "D_3[digits=6-9]", "D_3[place0=0]", "D_9[chain=4]",
        "D_12[chain=0,digits=0-4,place3=1]", "2*D_ab2[digits=13579]+D_1+D_7[place2=a-c]",
    ],
    format_: ["padded 9", "padded 9 answer high", "unpadded operands high", "p1", "p2 5", "padded 12 answer high"],
}  # fmt: skip


def texts(parse) -> list[str]:
    """COUNT texts: some thrown together, most of them valid ones with a few edits."""
    rng = np.random.default_rng(0)

    def pick(items):
        return items[int(rng.integers(len(items)))]

    def piece() -> str:
        return pick(GRAMMAR[parse] if rng.random() < 0.8 else ODD)

    def mutated() -> str:
        text = pick(VALID[parse])
        for _ in range(int(rng.integers(1, 3))):
            i, j = sorted(rng.integers(0, len(text) + 1, 2).tolist())
            text = pick([
                text[:i] + text[i + 1 :],
                text[:i] + piece() + text[i:],
                text[:i] + piece() + text[i + 1 :],
                text[:j] + text[i:],
                text[:i] + pick(VALID[parse])[j:],
                text + pick(["+", " ", ","]) + pick(VALID[parse]),
            ])  # fmt: skip
        return text

    thrown = ["".join(piece() for _ in range(int(rng.integers(0, 9)))) for _ in range(COUNT // 4)]
    return thrown + [mutated() for _ in range(COUNT - len(thrown))]


@cache
def taken(parse) -> list:
    """What `parse` makes of the texts that it takes; any exception but an ArithlabError fails the test."""
    found = []
    for text in texts(parse):
        try:
            found.append(parse(text))
        except ArithlabError:
            continue
        except Exception as error:
            pytest.fail(f"{parse.__name__}({text!r}) raised {error!r}")
    return found


@pytest.mark.parametrize("parse", [task, domain, format_])
def test_every_text_is_taken_or_refused_and_what_is_taken_reads_back_as_itself(parse):
    found = taken(parse)
    assert [parse(str(one)) for one in found] == found
    assert COUNT / 40 < len(found) < COUNT / 2  # the fuzz gets past the parser, and is often stopped by it


@pytest.mark.filterwarnings("error")
def test_every_domain_that_passes_its_check_can_be_sampled():
    refused, sampled = 0, 0
    for d in taken(domain):
        if d.digits > 12:
            continue
        try:
            d.check(10)
        except ArithlabError:
            refused += 1
            continue
        a, b = d.sample(np.random.default_rng(0), 5, 10)
        assert a.shape == b.shape == (5, d.digits), d
        assert max(a.max(), b.max()) < 10, d
        sampled += 1
    assert sampled > 500
    assert refused > 50
