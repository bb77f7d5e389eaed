"""What a model's vectors say: the spectrum of its digits, and what can be read out of them in a straight line."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..arithmetic import digits as dg
from ..arithmetic.tasks import Task
from ..errors import ArithlabError, UnknownName, shorten
from ..training.runs import Run
from ..training.waiting import waiting
from .recording import Questions, check_site, held_out, record, subscript

RIDGE = 1e-3  # of the variance, per question
SHUFFLES = 20  # of a control: where points lie in few heaps, one order alone says little
FACTS = ("carry K", "sum K", "residue M")


def spectrum(points: np.ndarray) -> np.ndarray:
    """The share of the variance of points (N, C), one for each value 0 ... N - 1 of a digit, at each frequency.

    Shape (N // 2,): frequency 1 (once round over all values: the values lie on a circle, or a line) up to N // 2
    (even and odd apart). They add up to 1; the mean is left out. After Nanda et al. 2023, arXiv 2301.05217.

    >>> angle = 2 * np.pi * 3 * np.arange(10) / 10
    >>> spectrum(np.stack([np.cos(angle), np.sin(angle)], 1)).round(6).tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    power = (np.abs(np.fft.fft(points, axis=0)) ** 2).sum(-1)
    half = power[1 : len(points) // 2 + 1].copy()
    half[: (len(points) - 1) // 2] *= 2  # a frequency and its mirror; N/2 has none
    total = half.sum()
    return half / total if total > 0 else half


def digit_spectra(run: Run, digits: int, place: int, n: int = 2_000) -> pd.DataFrame:
    """The spectrum over the values of a digit: of its embedding, and of the stream after each block.

    The stream is taken at two tokens, that of the digit a at a place and that which writes the answer digit there, and
    averaged over n questions by the digit that stands at the token (a) or is to be written (c). Columns: of (what the
    vectors belong to: embedding, a or c), layer (-1: before the first block), frequency, share, control (the same
    with the values of the digit in 20 random orders: about even).
    """
    questions, base = held_out(run, digits, n), run.experiment.base
    if not isinstance(place, int) or not 0 <= place < digits:
        raise ArithlabError(f"place {shorten(place)}: allowed are 0 to {digits - 1}, where the operands have digits.")
    seen = record(run.model, questions, ("resid_pre", "resid_post"))
    streams = {-1: seen["resid_pre", 0]} | {k: x for (site, k), x in seen.items() if site == "resid_post"}
    table = run.model.embedding.weight.detach()[questions.digit_ids].double().numpy()
    found = {("embedding", -1): table}
    token = {questions.about(i)["label"]: i for i in range(questions.ids.shape[1])}[f"a{subscript(place)}"]
    right = questions.right(place).numpy() - questions.digit_ids.start
    for of, at, value in (("a", token, questions.a[:, place]), ("c", questions.writer(place), right)):
        for layer, stream in streams.items():
            points = stream[:, at].double().numpy()
            missing = sorted(set(range(base)) - set(value.tolist()))
            if missing:
                raise ArithlabError(f"digit {missing[0]} never occurs at place {place} among {n} questions: ask more.")
            found[of, layer] = np.stack([points[value == digit].mean(0) for digit in range(base)])
    rng = np.random.default_rng(0)
    orders = [rng.permutation(base) for _ in range(SHUFFLES)]
    rows = []
    for (of, layer), points in found.items():
        control = np.mean([spectrum(points[order]) for order in orders], 0)
        for frequency, (share, other) in enumerate(zip(spectrum(points), control, strict=True), 1):
            rows.append({"of": of, "layer": layer, "frequency": frequency, "share": share, "control": other})
    return pd.DataFrame(rows)


def fact(questions: Questions, text: str) -> np.ndarray:
    """A fact about each question, as a whole number: int64 (N,).

    carry K: whether a carry comes into place K of a + b; sum K: the digits of a and b at place K added, without a
    carry; residue M: what the task computes, modulus left out, modulo M.
    """
    match = re.fullmatch(r"(carry|sum|residue) ([0-9]{1,6})", text) if isinstance(text, str) else None
    if not match:
        raise UnknownName("fact", text, FACTS)
    word, number = match[1], int(match[2])
    t, a, b = questions.experiment.task_, questions.a, questions.b
    if word == "residue":
        if number < 2:
            raise ArithlabError(f"residue {number}: the modulus must be at least 2.")
        return dg.remainder(Task(t.operation, base=t.base).compute_digits(a, b), number, t.base).astype(np.int64)
    top = a.shape[1] - (word == "sum")
    low = int(word == "carry")
    if t.operation != "add" or not low <= number <= top:
        raise ArithlabError(
            f"{word} {number}: allowed are places {low} to {top} of questions of {a.shape[1]} digits, "
            f"and the task 'add', with a modulus or without."
        )
    if word == "sum":
        return a[:, number].astype(np.int64) + b[:, number]
    return dg.carries(a, b, t.base)[:, number - 1].astype(np.int64)


def read_out(points: np.ndarray, values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """How well a value can be read out of points (N, C) in a straight line: accuracy, and that of a control.

    A linear probe in the sense of Alain and Bengio 2016 (arXiv 1610.01644), as a ridge regression in closed form on
    one indicator per value: fitted to the first half of the rows, tested on the second. Control: the same with the
    values of the first half in a random order, the mean of 20 such. Raises ArithlabError where there is nothing to tell
    apart.

    >>> rng = np.random.default_rng(0)
    >>> points = rng.normal(size=(400, 8))
    >>> read_out(points, (points[:, 3] > 0).astype(int))[0] > 0.9
    True
    """
    half = len(points) // 2
    if len(np.unique(values[:half])) < 2:
        raise ArithlabError("a fact that is the same for all questions cannot be read out: choose another.")
    centre, scale = points[:half].mean(0), points[:half].std(0) + 1e-9
    train, test = ((x.astype(np.float64) - centre) / scale for x in (points[:half], points[half:]))
    inverse = np.linalg.solve(train.T @ train + RIDGE * half * np.eye(train.shape[1]), train.T)
    names = np.unique(values[:half])

    def accuracy(targets: np.ndarray) -> float:
        marks = (targets[:, None] == names).astype(np.float64)
        guess = names[(test @ (inverse @ (marks - marks.mean(0))) + marks.mean(0)).argmax(1)]
        return float((guess == values[half:]).mean())

    rng = np.random.default_rng(seed)
    return accuracy(values[:half]), float(np.mean([accuracy(rng.permutation(values[:half])) for _ in range(SHUFFLES)]))


def read_outs(
    run: Run,
    what: str,
    digits: int,
    n: int = 2_000,
    *,
    sites: Sequence[str] = ("resid_pre", "resid_post"),
    tokens: Sequence[int] | None = None,
) -> pd.DataFrame:
    """How well a fact can be read out of each site at each token, on held-out questions.

    what: see `fact`, for example "carry 2". tokens: token numbers; None for all. Columns: what, site, layer, token,
    label, role, token_place, accuracy, control (shuffled values), chance (of always saying the most frequent value).
    That a fact can be read out does not say that the model uses it: see `carry_map`.
    """
    for site in sites:
        check_site(site)
    questions = held_out(run, digits, n)
    values, length = fact(questions, what), questions.ids.shape[1]
    for token in tokens or ():
        if not isinstance(token, int) or not 0 <= token < length:
            raise ArithlabError(f"token {shorten(token)}: these questions have tokens 0 to {length - 1}.")
    chance = np.bincount(values[len(values) // 2 :]).max() / (len(values) - len(values) // 2)
    rows = []
    for (site, layer), x in waiting(record(run.model, questions, sites).items(), "reading out"):
        if site == "logits":
            continue
        x = x.transpose(1, 2).flatten(2) if site == "z" else x
        for token in range(length) if tokens is None else tokens:
            accuracy, control = read_out(x[:, token].numpy(), values)
            about = {"what": what, "site": site, "layer": layer, **questions.about(token)}
            rows.append({**about, "accuracy": accuracy, "control": control, "chance": chance})
    return pd.DataFrame(rows)
