"""Ratio matching as a mechanism: the head that looks for an example of the question's ratio; what is left without."""

import numpy as np
import pandas as pd

from ..arithmetic.in_context import is_prime
from ..errors import ArithlabError
from ..training.runs import Run
from ..training.shots import by_shots, check_in_context, late
from ..training.stages import Altered
from .in_context import TASK, examples_of, recording


def ratio_attention(run: Run, *, shots: int = 8) -> pd.DataFrame:
    """How much each head reads the examples whose ratio y / x is that of the question, while it reads the question's y.

    One row per head: layer, head, same_ratio (share of its attention on all three tokens of those examples), same_z
    (on their z alone) and even (the share that evenly spread attention would give them, all three tokens): means over
    all questions without a 0 for which there is such an example. p must be a prime. (2406.02550, section 6.)
    """
    e = check_in_context(run)
    if not is_prime(e.p):
        raise ArithlabError(f"p {e.p} is no prime, and not every number has an inverse: ratios need a prime.")
    examples = examples_of(e, TASK, shots)
    x, y = (side.ravel() for side in np.indices((e.p, e.p))[:, 1:, 1:])
    same = _ratio(x, y, e.p)[:, None] == _ratio(*np.array(examples)[:, :2].T, e.p)  # (questions, shots)
    known = same.any(1)
    kept, rows = recording(run, examples, np.stack([x, y], 1)[known]), []
    same = same[known, None, :, None]  # beside heads and the tokens x, y, z of an example
    for layer in range(e.shape.layers):
        weights = kept["attention", layer][:, :, -1].numpy()  # (questions, H, T), of the last y
        on = weights[:, :, : 3 * shots].reshape(*weights.shape[:2], shots, 3)
        of_tokens = np.where(same, on, 0).sum(2).mean(0)  # (H, 3)
        even = same.sum((1, 2, 3)).mean() * 3 / weights.shape[-1]
        rows += [
            {"layer": layer, "head": head, "same_ratio": row.sum(), "same_z": row[2], "even": even}
            for head, row in enumerate(of_tokens)
        ]
    return pd.DataFrame(rows)


def without_head(run: Run, layer: int, head: int) -> Altered:
    """The run with one head silenced: its part of the output matrix is zero. It can be measured as any run."""
    shape = run.experiment.shape
    if not (0 <= layer < shape.layers and 0 <= head < shape.heads):
        raise ArithlabError(
            f"head {head!r} of layer {layer!r}: this model has layers 0 to {shape.layers - 1} and heads 0 to "
            f"{shape.heads - 1}."
        )
    weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    wide = shape.width // shape.heads
    weights[f"blocks.{layer}.attention.out.weight"][:, head * wide : (head + 1) * wide] = 0
    return Altered(run, weights, f"without head {head} of layer {layer}")


def cut_heads(run: Run, which: str = "ood train", *, n: int = 500) -> pd.DataFrame:
    """Accuracy late in the context with each head silenced, the whole model first: columns layer, head, exact_match.

    Layer and head are -1 for the whole model. which: one of the four test sets.
    """
    shape = check_in_context(run).shape
    rows = [(-1, -1), *np.ndindex(shape.layers, shape.heads)]
    runs = [run if layer < 0 else without_head(run, layer, head) for layer, head in rows]
    found = [late(by_shots(one, which, n=n).exact_match.to_numpy()) for one in runs]
    return pd.DataFrame(rows, columns=["layer", "head"]).assign(exact_match=found)


def _ratio(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    """y / x mod p; -1 where one of them is 0."""
    inverse = np.array([0, *(pow(number, -1, p) for number in range(1, p))])
    return np.where((x > 0) & (y > 0), y * inverse[x] % p, -1)
