"""Every wrong answer, classified: what kind of mistake is it?"""

from collections.abc import Callable

import pandas as pd

from ..arithmetic import batches
from ..arithmetic import digits as dg
from ..arithmetic.domains import domain
from ..arithmetic.tasks import Task, task
from ..errors import ArithlabError
from ..training.answer import Answerer, answerer
from ..training.evaluate import wilson
from ..training.runs import Run

KINDS = {  # tried in this order
    "right": "the true answer",
    "predicted": "the answer of the predicted function, such as the sum of the truncated operands",
    "no number": "something that is no number",
    "near predicted": "a carry, a digit or a length (as below) away from the predicted answer",
    "carry": "a carry too many or too few, into one place or several",
    "digit slip": "one digit is wrong",
    "length": "too many or too few digits, those that are there at the lower places are right",
    "other": "none of these",
}


def mistakes(
    model: Run | Answerer | Callable, test: str, *, n: int = 500, on: str | Task | None = None
) -> pd.DataFrame:
    """One row per test pair of a domain: question, answer, truth, predicted, kind (one of KINDS).

    predicted: what the predicted function of a run answers (empty for other models). Of two operands, also a_digits
    and b_digits, their lengths, and of sums chain, the longest run of neighbouring places that all carry.
    """
    e = model.experiment if isinstance(model, Run) else None
    if e is None and on is None:
        raise ArithlabError("say which task the model answers, for example on='add'.")
    t = e.task_ if e else task(on)
    a, b = batches.held_out_pairs(domain(test), t.base, n)
    questions = [t.write_question(x, y) for x, y in zip(a, b, strict=True)]
    truths = [dg.write(row) for row in t.compute_digits(a, b)]
    predicted = [dg.write(row) for row in e.predicted(a, b)] if e else [""] * len(questions)
    rows = []
    for question, given, truth, said in zip(questions, answerer(model)(questions), truths, predicted, strict=True):
        rows.append({"question": question, "answer": given, "truth": truth, "predicted": said})
        rows[-1]["kind"] = kind(given, truth, said, t.base)
    table = pd.DataFrame(rows)
    if b.ndim == 2:
        table["a_digits"], table["b_digits"] = dg.lengths(a), dg.lengths(b)
        if t.operation == "add":
            table["chain"] = dg.longest_chain(a, b, t.base)
    return table


def accuracy_by(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Exact match of a table of `mistakes`, grouped: the columns, n, exact_match, low and high (95 % Wilson interval).

    >>> accuracy_by(pd.DataFrame({"kind": ["right", "carry"], "chain": [0, 2]}), ["chain"])["exact_match"].tolist()
    [1.0, 0.0]
    """
    groups = table.assign(right=table["kind"] == "right").groupby(columns)["right"]
    found = groups.agg(n="size", hits="sum", exact_match="mean").reset_index()
    bounds = [wilson(hits, n) for hits, n in zip(found.pop("hits"), found["n"], strict=True)]
    return found.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def kind(given: str, truth: str, predicted: str = "", base: int = 10) -> str:
    """The kind of a mistake, one of KINDS: the first that fits.

    >>> [kind(given, "1054", "354") for given in ("1054", "0354", "364", "1154", "1004", "1?54", "731")]
    ['right', 'predicted', 'near predicted', 'carry', 'digit slip', 'no number', 'other']
    """
    known = set(dg.SYMBOLS[:base])
    if not given or not set(given) <= known:
        return "no number"
    given = given.lstrip("0") or "0"
    if given == truth:
        return "right"
    if predicted and given == predicted:
        return "predicted"
    if predicted not in ("", truth) and _slip(given, predicted, base):
        return "near predicted"
    return _slip(given, truth, base) or "other"


def _slip(given: str, wanted: str, base: int) -> str | None:
    """How one answer comes from another by a single mistake: carry, digit slip or length; None where it does not."""
    if _of_carries(abs(int(given, base) - int(wanted, base)), base):
        return "carry"
    width = max(len(given), len(wanted))
    pairs = zip(given.zfill(width)[::-1], wanted.zfill(width)[::-1], strict=True)
    wrong = [place for place, (x, y) in enumerate(pairs) if x != y]
    if len(wrong) == 1:
        return "digit slip"
    return "length" if wrong[0] >= min(len(given), len(wanted)) else None


def _of_carries(difference: int, base: int) -> bool:
    """Whether a difference is one carry more or less into some places: digits 0 and 1 only, none at the units."""
    if difference % base:
        return False
    while difference:
        difference, digit = divmod(difference, base)
        if digit > 1:
            return False
    return True
