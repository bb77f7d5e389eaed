"""How an in-context model holds numbers: every question is scanned after the same examples (2406.02550, section 6)."""

import numpy as np
import pandas as pd
import torch

from ..arithmetic.in_context import logarithms
from ..errors import ArithlabError
from ..training.runs import Run
from ..training.shots import check_in_context
from .in_context import TASK, examples_of, recording
from .outputs import principal_components

TOKENS = ("x", "y")  # of the question; its z is what the model is to say


def head_components(run: Run, layer: int, head: int, *, shots: int = 4, count: int = 4) -> pd.DataFrame:
    """Principal components of what a head adds at x and at y, over all questions: one row per question.

    Columns x, y, log_x, log_y, log_ratio (of y / x; to the base of a primitive root, missing for 0), pc1 ... The
    features are the head's outputs times its part of the output matrix, at both tokens side by side (2C). attrs:
    `shares` of the variance, and `root`.
    """
    kept, table = _scan(run, shots)
    shape = run.experiment.shape
    _check(layer, shape.layers, "layer")
    _check(head, shape.heads, "head")
    wide = shape.width // shape.heads
    out = run.model.blocks[layer].attention.out.weight[:, head * wide : (head + 1) * wide].detach()
    added = kept["z", layer][:, head, -2:] @ out.T  # (p^2, 2, C)
    points, shares = principal_components(added.flatten(1).double().numpy(), count)
    table = table.assign(**{f"pc{k + 1}": points[:, k] for k in range(points.shape[1])})
    table.attrs |= {"shares": shares.tolist()}
    return table


def explained(table: pd.DataFrame, by: str) -> float:
    """The share of the variance of all components that lies between groups of one log_x, log_y or log_ratio: 0 to 1.

    Questions with a 0 are left out. By chance about (p - 2) / ((p - 1)^2 - 1).
    """
    known = table.dropna(subset=["log_x", "log_y"])
    return _between(known.filter(regex=r"^pc\d+$"), known[by])


def similarity(run: Run, layer: int, token: str = "y", *, shots: int = 4) -> pd.DataFrame:
    """Cosine similarity of the residual stream after a block between all pairs of questions: (p^2, p^2).

    The features are standardised over the questions first (equation 2 of the paper). Rows and columns are (x, y),
    ordered by the ratio y / x and then by x, so that what ratio matching groups stands together.
    """
    kept, table = _scan(run, shots)
    _check(layer, run.experiment.shape.layers, "layer")
    if token not in TOKENS:
        raise ArithlabError(f"token {token!r}: allowed are {' and '.join(TOKENS)}.")
    features = kept["resid_post", layer][:, -1 if token == "y" else -2].double().numpy()
    spread = features.std(0)
    features = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    features /= np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    order = np.lexsort((table.x, table.log_ratio.fillna(run.experiment.p)))  # questions with a 0 last
    names = pd.MultiIndex.from_frame(table.loc[order, ["x", "y"]])
    return pd.DataFrame((features @ features.T)[np.ix_(order, order)], names, names)


def activations(run: Run, layer: int, *, shots: int = 4) -> np.ndarray:
    """The MLP's activations at the y of every question: (p, p, hidden), x first. (Figure 8 of the paper.)"""
    kept, _ = _scan(run, shots)
    _check(layer, run.experiment.shape.layers, "layer")
    p = run.experiment.p
    return kept["mlp_hidden", layer][:, -1].numpy().reshape(p, p, -1)


def neurons_explained(values: np.ndarray, q: int) -> dict[str, float]:
    """The share of the variance of all neurons that goes with the logarithms modulo q, as fractions; 0 is left out.

    values: of `activations`. q: a divisor of p - 1. "both": between groups of (log x mod q, log y mod q), by chance
    (q^2 - 1) / ((p - 1)^2 - 1). "ratio": of log y - log x mod q, by chance (q - 1) / ((p - 1)^2 - 1).
    """
    p = len(values)
    if type(q) is not int or q < 1 or (p - 1) % q:
        raise ArithlabError(f"q {q!r}: the logarithms are known modulo {p - 1}; choose a divisor of it.")
    log = logarithms(p)[0][1:].astype(int)
    x, y = (side.ravel() for side in np.meshgrid(log, log, indexing="ij"))
    points = pd.DataFrame(values[1:, 1:].reshape(len(x), -1))
    groups = {"both": x % q * q + y % q, "ratio": (y - x) % q}
    return {name: _between(points, label) for name, label in groups.items()}


def _between(points: pd.DataFrame, labels: object) -> float:
    """The share of the variance that lies between the groups of a label."""
    return float(points.groupby(labels).transform("mean").var(ddof=0).sum() / points.var(ddof=0).sum())


def ratio_score(matrix: pd.DataFrame, p: int) -> float:
    """Mean similarity of questions of one ratio y / x, less that of questions of different ratios; both without 0.

    1 = the token holds the ratio and nothing else, 0 = nothing of it.
    """
    x, y = (matrix.index.get_level_values(name).to_numpy() for name in ("x", "y"))
    same = (x[:, None] * y - y[:, None] * x) % p == 0
    sound = (x > 0) & (y > 0)
    pairs = sound[:, None] & sound & ~np.eye(len(x), dtype=bool)
    values = matrix.to_numpy()
    return float(values[pairs & same].mean() - values[pairs & ~same].mean())


def _scan(run: Run, shots: int) -> tuple[dict[object, torch.Tensor], pd.DataFrame]:
    e = check_in_context(run)
    x, y = (side.ravel() for side in np.indices((e.p, e.p)))
    kept = recording(run, examples_of(e, TASK, shots), np.stack([x, y], 1))
    log, root = logarithms(e.p)
    table = pd.DataFrame({"x": x, "y": y, "log_x": log[x], "log_y": log[y]})
    table["log_ratio"] = (table.log_y - table.log_x) % (e.p - 1)
    table.attrs["root"] = root
    return kept, table


def _check(number: int, count: int, what: str) -> None:
    if not isinstance(number, (int, np.integer)) or not 0 <= number < count:
        raise ArithlabError(f"{what} {number!r}: this model has {what}s 0 to {count - 1}.")
