"""What a model answers over a lattice of questions, how sure it is of each digit, and what it holds before."""

import numpy as np
import pandas as pd
import torch

from ..arithmetic import digits as dg
from ..arithmetic.tokens import ROLES
from ..errors import ArithlabError, UnknownName, shorten
from ..model.positions import Layout
from ..training.answer import answer
from ..training.runs import Run
from .recording import Questions, record


def lattice(run: Run, top: int = 10_000, steps: int = 101) -> pd.DataFrame:
    """The answers to all pairs of `steps` numbers spread evenly over 0 ... top: columns a, b, answer, truth, predicted.

    The lattice of figure 2 of 2308.08268. An answer that is no number is missing; predicted: what theory expects.
    """
    if not 2 <= steps <= 301 or not steps - 1 <= top < 10**12:
        raise ArithlabError(
            f"lattice of {steps} numbers up to {top}: allowed are 2 to 301 steps, and top from steps - 1."
        )
    e = run.experiment
    numbers = np.linspace(0, top, steps).astype(np.int64)
    a, b = (x.ravel() for x in np.meshgrid(numbers, numbers, indexing="ij"))
    digits = [dg.from_ints(x.tolist(), e.base) for x in (a, b)]
    width = max(x.shape[1] for x in digits)
    digits = [dg.fit_width(x, width) for x in digits]
    questions = [e.task_.write_question(x, y) for x, y in zip(*digits, strict=True)]
    given = [int(text, e.base) if "?" not in text and text else None for text in answer(run, questions)]
    truth, predicted = (dg.to_ints(f(*digits), e.base) for f in (e.task_.compute_digits, e.predicted))
    return pd.DataFrame({"a": a, "b": b, "answer": given, "truth": truth, "predicted": predicted})


def output_distribution(run: Run, question: str) -> pd.DataFrame:
    """The probability of every digit at every place of the answer: columns place, digit, probability.

    Each place is read from the softmax at the token before it, after the model's own answer so far (greedy).
    """
    ids, layout, tokens = _prompt(run, [question])
    vocabulary = run.experiment.format_.vocabulary(run.experiment.task_)
    symbols = [i for i, symbol in enumerate(vocabulary) if symbol in dg.SYMBOLS[: run.experiment.base]]
    rows = []
    with torch.inference_mode():
        for at in range(ids.shape[1], tokens.ids.shape[1]):
            shares = run.model(ids, tail=1, layout=layout)[0, 0].softmax(-1)
            if ROLES[np.broadcast_to(tokens.role, tokens.ids.shape)[0, at]] == "c":
                place = int(np.broadcast_to(tokens.place, tokens.ids.shape)[0, at])
                rows += [{"place": place, "digit": vocabulary[i], "probability": shares[i].item()} for i in symbols]
            ids = torch.cat([ids, shares.argmax()[None, None]], 1)
    return pd.DataFrame(rows)


def last_input(run: Run, questions: list[str]) -> np.ndarray:
    """The final residual stream, after its LayerNorm, at the last token of each question: float32 (N, width).

    All questions must have the same length in tokens, as in the padded formats. (`last_emb` of 2308.08268.)
    """
    ids, layout, _ = _prompt(run, questions)
    kept = []
    hook = run.model.norm.register_forward_hook(lambda module, given, out: kept.append(out[:, -1]))
    try:
        with torch.inference_mode():
            run.model(ids, tail=1, layout=layout)
    finally:
        hook.remove()
    return kept[0].float().numpy()


def stream_at(run: Run, questions: list[str], token: str, layers: int) -> np.ndarray:
    """The residual stream at one token of each question after so many layers (0: the embedding): float32 (N, width).

    token: what it stands for, such as "a1" (the tens of the first operand), "c0", "+" or "="; in the answer the right
    digits stand. For `principal_components`. Raises ArithlabError where the format has no fixed layout.
    """
    depth = run.experiment.shape.layers
    if not isinstance(layers, int) or isinstance(layers, bool) or not 0 <= layers <= depth:
        raise ArithlabError(f"layers {shorten(layers)}: allowed are 0, the embedding, to {depth}.")
    asked = Questions(run.experiment, *_operands(run, questions))
    labels = {}
    for i in reversed(range(asked.ids.shape[1])):  # of equal ones the first
        about = asked.about(i)
        labels[f"{about['role']}{about['token_place']}" if about["role"] in "abc" else about["label"]] = i
    if token not in labels:
        raise UnknownName("token", token, [*labels][::-1])
    site = ("resid_post", layers - 1) if layers else ("resid_pre", 0)
    return record(run.model, asked, site[:1])[site][:, labels[token]].float().numpy()


def principal_components(points: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components of points (N, D): coordinates (N, count), and the share of variance of each.

    >>> coordinates, shares = principal_components(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    >>> float(abs(coordinates[:, 0]).max()), float(shares[0].round(6))
    (5.0, 1.0)
    """
    centred = points - points.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((s**2).sum()) or 1.0
    return (u * s)[:, :count], (s**2 / total)[:count]


def _prompt(run: Run, questions: list[str]) -> tuple[torch.Tensor, Layout, object]:
    """The tokens up to the answer, what all tokens stand for, and the tokens with the true answer."""
    e = run.experiment
    tokens = e.format_.encode(e.task_, *_operands(run, questions))
    return torch.from_numpy(tokens.ids[:, : -tokens.tail]).long(), Layout.of(tokens), tokens


def _operands(run: Run, questions: list[str]) -> list[np.ndarray]:
    """Both operands of the questions as digit arrays of one width."""
    e = run.experiment
    operands = [e.task_.parse_question(question) for question in questions]
    if any(b.ndim > 1 for _, b in operands):
        raise ArithlabError("this looks into questions of two operands: ask for example 349+705.")
    width = max(max(len(a), len(b)) for a, b in operands)
    e.check_length(width)
    return [np.concatenate([dg.fit_width(pair[side][None], width) for pair in operands]) for side in (0, 1)]
