"""Evaluation: exact match by test length, against the truth and against the predicted function.

Exact match needs one forward pass, not one per digit: greedy decoding writes exactly the answer c if and
only if, with c given as input, every next-token argmax is the next token of c (by induction over tokens).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from ..arithmetic import batches, theory
from ..arithmetic import digits as dg
from ..arithmetic.domains import Domain, domain
from ..arithmetic.tasks import Task, task
from ..arithmetic.tokens import ROLE, Tokens
from ..errors import ArithlabError, UnknownName, shorten
from ..model.positions import Layout
from ..model.transformer import Probe, Transformer
from . import shots
from .answer import Answerer, answerer
from .experiment import Experiment
from .in_context import InContextExperiment
from .machine import memory_errors_told
from .recipe import Recipe
from .remember import recall, remember
from .runs import Run
from .waiting import waiting

FAMILIES = ("D", "D_ab", "D[b=1]")
FOLLOWED = 200  # test examples per length during training
CHUNK_TOKENS = 16_000  # tokens per forward pass on a CPU: what fits its cache is twice as fast
CHUNK_TOKENS_GPU = 500_000
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]  # digit arrays of operands to digits of answers


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share of hits among n, as fractions.

    >>> [round(x, 4) for x in wilson(1000, 1000)]
    [0.9962, 1.0]
    """
    share, z = hits / n, 1.959964  # of 95 %
    if hits in (0, n):  # where rounding would leave 1e-160 for 0
        edge = z * z / (n + z * z)
        return (0.0, edge) if hits == 0 else (1 - edge, 1.0)
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def test_domain(family: str, digits: int) -> Domain:
    """The papers' test domain of a length: D_n or D_ab n; or D_n[b=1].

    >>> str(test_domain("D_ab", 4))
    'D_ab4'
    """
    if family not in FAMILIES:
        raise UnknownName("test domain", family, FAMILIES)
    return domain(f"D_ab{digits}" if family == "D_ab" else f"D_{digits}{family[1:]}")


test_domain.__test__ = False  # not a test


@lru_cache(maxsize=10_000)
def has_test_pairs(test: Domain, base: int) -> bool:
    """Whether a domain holds any pair to test with: the four pairs of D_ab2 in base 2 do not.

    >>> has_test_pairs(domain("D_ab2"), 2), has_test_pairs(domain("D_ab2"), 10)
    (False, True)
    """
    try:
        return len(batches.held_out_pairs(test, base, 1)[0]) > 0
    except ArithlabError:
        return False


def matching_tokens(model: Transformer, tokens: Tokens, probe: Probe | None = None) -> np.ndarray:
    """Whether the argmax is right, for the last `tokens.tail` tokens: bool (N, S); unsupervised ones count as right."""
    tail = tokens.tail
    device = next(model.parameters()).device
    tokens_at_once = CHUNK_TOKENS if device.type == "cpu" else CHUNK_TOKENS_GPU
    rows = max(1, tokens_at_once // tokens.ids.shape[1])
    found = []
    with torch.inference_mode():
        for start in range(0, len(tokens.ids), rows):
            chunk = tokens.rows(slice(start, start + rows))
            ids = torch.from_numpy(chunk.ids).to(device, torch.long)
            logits = model(ids[:, :-1], tail=tail, probe=probe, layout=Layout.of(chunk, device))
            found.append((logits.argmax(-1) == ids[:, -tail:]).cpu().numpy())
    return np.concatenate(found) | ~tokens.supervised[:, -tail:]


def exact_matches(model: Transformer, tokens: Tokens, probe: Probe | None = None) -> np.ndarray:
    """Whether greedy decoding would write exactly the answer in `tokens`: bool (N,)."""
    return matching_tokens(model, tokens, probe).all(1)


def test_sets(experiment: Experiment, lengths: Iterable[int], count: int) -> list[tuple[int, Tokens, Tokens]]:
    """(digits, tokens with the true answer, tokens with the predicted one) of each length in the test family."""
    e, sets = experiment, []
    for digits in lengths:
        try:
            a, b = batches.held_out_pairs(test_domain(e.test_family, digits), e.base, count)
        except ArithlabError:  # the four pairs of D_ab2 in base 2 hold no test pair: nothing to follow
            continue
        truth, predicted = e.format_.encode(e.task_, a, b), e.format_.encode(e.task_, a, b, e.predicted(a, b))
        sets.append((digits, truth, predicted))
    return sets


test_sets.__test__ = False  # not a test


def followed(experiment: Recipe) -> Callable[[Transformer], list[dict]]:
    """What is measured of a model during training: rows by test length, or in context by test set."""
    if isinstance(experiment, InContextExperiment):
        return shots.follow(experiment)
    sets = test_sets(experiment, experiment.test_lengths, FOLLOWED)
    return lambda model: [
        {
            "digits": digits,
            "exact_match": exact_matches(model, truth).mean(),
            "agreement": exact_matches(model, predicted).mean(),
        }
        for digits, truth, predicted in sets
    ]


def evaluate(
    model: Run | Answerer | Callable,
    digits: Sequence[int | str] = range(1, 10),
    *,
    test_family: str | None = None,
    n: int = 10_000,
    on: str | Task | None = None,
    predicted: Function | None = None,
    probe: Probe | None = None,
) -> pd.DataFrame:
    """One row per test length: exact match with the truth and agreement with the predicted function.

    model: a run, or anything that answers question strings (then give the task as `on`, and the function
    to compare with as `predicted`; without it agreement is empty). probe: changes a run's attention while it is
    tested, as in `Probe(temperature=0.5, attention=None)`. digits: lengths, tested in the papers'
    family of domains, or domains as text such as `D_9[chain=4]`. Columns: domain, digits, n,
    exact_match, low, high (95 % Wilson interval), agreement, agreement_low, agreement_high. Small domains
    are tested whole: n is then the number of their test pairs, and all else empty where a length has none at all.

    >>> evaluate(lambda q: str(sum(map(int, q.split("+")))), [1, 2], on="add", n=100)["exact_match"].tolist()
    [1.0, 1.0]
    """
    _check_count(n)
    judge = _judge(model, on, predicted)
    judge.probe = probe
    known = isinstance(model, Run) and probe is None and predicted is None and model.finished
    if test_family is None and isinstance(model, Run):
        test_family = model.experiment.test_family
    family = test_family or ("D" if judge.task.modulus is None else "D_ab")
    digits = list(digits)
    tests = [domain(length) if isinstance(length, str) else test_domain(family, length) for length in digits]
    of_family = {test for length, test in zip(digits, tests, strict=True) if not isinstance(length, str)}
    empty = {test for test in of_family if not has_test_pairs(test, judge.task.base)}
    if empty == set(tests):
        empty = set()  # nothing to show: asking the first of them says why
    rows = []
    for test in waiting(tests, "testing"):
        found = recall(model, str(test), n) if known else None
        if found is None and test not in empty:
            found = _measured(judge, test, n)
            if known:
                remember(model, str(test), n, found)
        rows.append({"domain": str(test), "digits": test.digits, **_shares(found, judge.predicted is not None)})
    return pd.DataFrame(rows)


def _measured(judge: "_Judge", test: Domain, n: int) -> dict:
    """How many of n test pairs of a domain were tested, right, and in agreement with the predicted function."""
    with memory_errors_told(asked=f"{n:,} pairs of {test.digits:,} digits"):
        a, b = batches.held_out_pairs(test, judge.task.base, n)
        hits, agree = judge.compare(a, b)
    return {"n": len(a), "right": int(hits.sum()), "agree": None if agree is None else int(agree.sum())}


def _shares(found: dict | None, compared: bool) -> dict:
    """Counts as the columns of `evaluate`; where nothing could be tested, not a number."""
    found = found or {"n": 0, "right": 0, "agree": 0 if compared else None}
    row = {"n": found["n"]}
    for count, columns in (
        (found["right"], ("exact_match", "low", "high")),
        (found["agree"], ("agreement", "agreement_low", "agreement_high")),
    ):
        if count is None:
            values = (None, None, None)
        else:
            values = (count / found["n"], *wilson(count, found["n"])) if found["n"] else (math.nan,) * 3
        row |= zip(columns, values, strict=True)
    return row


def predict(experiment: Experiment, digits: Sequence[int] = range(1, 10)) -> pd.DataFrame:
    """What theory says the experiment will do on D_ab of each length; see `arithmetic.theory.predict`."""
    e = experiment
    return pd.DataFrame(theory.predict(e.task_, e.train_domain, e.positions, list(digits), e.format_))


def length_map(
    model: Run | Answerer | Callable,
    digits: Sequence[int] = range(1, 10),
    *,
    n: int = 100,
    on: str | Task | None = None,
    predicted: Function | None = None,
) -> pd.DataFrame:
    """Accuracy for every pair of operand lengths: columns a_digits, b_digits, n, exact_match, agreement."""
    _check_count(n)
    judge = _judge(model, on, predicted)
    base, rows = judge.task.base, []
    for i in waiting(list(digits), "lengths of a"):
        for j in digits:
            a, _ = domain(f"D_ab{i}").sample(batches.stream(0, batches.TEST, i, j, 0), 15 * n + 300, base)
            b, _ = domain(f"D_ab{j}").sample(batches.stream(0, batches.TEST, i, j, 1), 15 * n + 300, base)
            width = max(i, j)
            a, b = dg.fit_width(a, width), dg.fit_width(b, width)
            keep = np.flatnonzero(batches.is_test_pair(a, b))[:n]
            row = {"a_digits": i, "b_digits": j, "n": len(keep), "exact_match": math.nan, "agreement": None}
            if len(keep):  # four pairs of digits in base 2 hold no test pair
                hits, agree = judge.compare(a[keep], b[keep])
                row |= {"exact_match": hits.mean(), "agreement": None if agree is None else agree.mean()}
            rows.append(row)
    return pd.DataFrame(rows)


def place_accuracy(run: Run, digits: Sequence[int] = range(1, 10), *, n: int = 2_000) -> pd.DataFrame:
    """Share of right digits per place of the answer, the digits below given: columns digits, place, accuracy."""
    _check_count(n)
    e, rows, digits = run.experiment, [], list(digits)
    tested = [length for length in digits if has_test_pairs(test_domain(e.test_family, length), e.base)]
    for length in tested or digits:  # where none has test pairs, the first of them says why
        with memory_errors_told(asked=f"{n:,} pairs of {length:,} digits"):
            a, b = batches.held_out_pairs(test_domain(e.test_family, length), e.base, n)
            e.check_length(length)
            tokens = e.format_.encode(e.task_, a, b)
            right = matching_tokens(run.model, tokens)
        shape = tokens.ids.shape
        places = np.broadcast_to(tokens.place, shape)
        answer = np.broadcast_to(np.isin(tokens.role, (ROLE["c"], ROLE["r"])), shape)
        for place in range(e.format_.answer_places(e.task_, length)):
            here = ((places == place) & answer)[:, -tokens.tail :]
            if here.any():
                rows.append({"digits": length, "place": place, "accuracy": right[here].mean()})
    return pd.DataFrame(rows)


def equivalence(
    model: Run | Answerer | Callable,
    digits: int,
    candidates: dict[str, Function] | None = None,
    *,
    n: int = 1_000,
    on: str | Task | None = None,
) -> pd.DataFrame:
    """Which function of the operands the answers equal, best first: columns candidate, agreement, low, high.

    candidates: functions of two digit arrays; by default the truth and the operands modulo every power of the base.
    """
    _check_count(n)
    judge = _judge(model, on, None)
    t = judge.task
    if candidates is None:
        functions = [theory.PredictedFunction(t, k) for k in (None, *range(1, digits))]
        candidates = {str(function): function for function in functions}
    a, b = batches.held_out_pairs(domain(f"D_ab{digits}"), t.base, n)
    rows = []
    for name, function in candidates.items():
        hits = judge.matches(a, b, function(a, b))
        low, high = wilson(hits.sum(), len(a))
        rows.append({"candidate": name, "agreement": hits.mean(), "low": low, "high": high})
    return pd.DataFrame(rows).sort_values("agreement", ascending=False, ignore_index=True)


class _Judge:
    """Decides which answers of a model equal given ones; runs take the one-pass way, answerers write theirs."""

    def __init__(self, model: Run | Answerer, t: Task, predicted: Function | None):
        self.model, self.task, self.predicted, self.probe = model, t, predicted, None

    def compare(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Matches with the truth, and with the predicted function where there is one."""
        truth = self.task.compute_digits(a, b)
        hits = self.matches(a, b, truth)
        if self.predicted is None:
            return hits, None
        predicted = self.predicted(a, b)
        return hits, hits if np.array_equal(predicted, truth) else self.matches(a, b, predicted)

    def matches(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Whether the answers to a, b are c: bool (N,)."""
        if isinstance(self.model, Run):
            e = self.model.experiment
            longest = max(dg.longest(a), dg.longest(b))
            e.check_length(longest, 2 if b.ndim == 2 else b.shape[2] + 1)
            with memory_errors_told(asked=f"{len(a):,} pairs of {longest:,} digits"):
                return exact_matches(self.model.model, e.format_.encode(e.task_, a, b, c), self.probe)
        questions = [self.task.write_question(x, y) for x, y in zip(a, b, strict=True)]
        answers = self.model(questions)
        wanted = [dg.write(row) for row in c]
        given = [text.strip() for text in answers]  # an empty answer is none, not 0
        return np.array([(x.lstrip("0") or x[-1:]) == right for x, right in zip(given, wanted, strict=True)])


def _check_count(n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ArithlabError(f"n {shorten(n)}: allowed are whole numbers of test examples from 1.")


def _judge(model: Run | Answerer | Callable, on: str | Task | None, predicted: Function | None) -> _Judge:
    if isinstance(model, Run):
        if on is not None and task(on) != model.experiment.task_:
            raise ArithlabError(
                f"this run was trained for {model.experiment.task!r}, not for {str(on)!r}: leave `on` out."
            )
        return _Judge(model, model.experiment.task_, predicted or model.experiment.predicted)
    if on is None:
        raise ArithlabError("say which task the model answers, for example on='add'.")
    return _Judge(answerer(model), task(on), predicted)
