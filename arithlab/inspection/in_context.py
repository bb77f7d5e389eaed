"""What an in-context model answers and believes, question by question, beside what the examples prove."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ..arithmetic.batches import stream
from ..arithmetic.in_context import SOLVERS, answers, is_prime, posterior, tokens
from ..errors import ArithlabError, UnknownName, shorten
from ..model.transformer import Probe
from ..training.in_context import InContextExperiment
from ..training.runs import Run
from ..training.shots import check_in_context, logits, model_of, sets_of
from ..training.waiting import waiting

PICKS = 15  # random stream of a seed: the inputs of each task
TASK = (1, 2)  # a and b of the examples, where every question is scanned after the same ones
Examples = Sequence[tuple[int, int, int]]


def answer_examples(run: Run, examples: Examples, question: tuple[int, int], *, best: bool = False) -> pd.DataFrame:
    """What a model answers after examples (x, y, z), beside what the examples prove: one row per number below p.

    Columns: z, model (its probability) and exact (the share of the tasks that agree with all examples; 0 throughout
    where none does).
    """
    e = _checked(run, examples)
    (x, y) = _pair(question, e.p)
    shares = _asked(run, examples, np.array([[x, y]]), best)[0]
    a, b = np.indices((e.p, e.p))
    exact = np.bincount(((a * x + b * y) % e.p).ravel(), exact_belief(e.p, examples).ravel(), e.p)
    return pd.DataFrame({"z": range(e.p), "model": shares, "exact": exact})


def exact_belief(p: int, examples: Examples) -> np.ndarray:
    """The share of belief in every task (a, b) after the examples, from a uniform prior: (p, p); 0 if none agrees."""
    x, y, z = np.array(examples, dtype=np.int64).reshape(-1, 3).T[:, None]
    return posterior(x, y, z, p)[0]


def belief(run: Run, examples: Examples, *, best: bool = False) -> np.ndarray:
    """The model's belief in every task (a, b) after the examples, read off its answers to all questions: (p, p).

    Two tasks agree on p - 1 of the p^2 - 1 questions that are not (0, 0). So the mean probability m that the
    model gives to the answers of a task holds its belief w in that task, and 1/(p + 1) of its belief in all others:
    w = (m - 1/(p + 1)) (p + 1)/p. It sums to 1 and is exact for every model that answers by a mixture of tasks;
    negative values say that this one does not. p must be a prime.
    """
    e = _checked(run, examples)
    if not is_prime(e.p):
        raise ArithlabError(f"p {e.p} is no prime: two tasks may agree on more questions, and beliefs are not unique.")
    x, y = (side.ravel()[1:] for side in np.indices((e.p, e.p)))
    shares = _asked(run, examples, np.stack([x, y], 1), best)  # (p^2 - 1, p)
    a, b = np.indices((e.p, e.p)).reshape(2, -1, 1)
    mean = shares[np.arange(len(x)), (a * x + b * y) % e.p].mean(-1).reshape(e.p, e.p)
    return (mean - 1 / (e.p + 1)) * (e.p + 1) / e.p


def shot_grid(run: Run, task: tuple[int, int], shots: Sequence[int], *, best: bool = False) -> pd.DataFrame:
    """Every question (x, y) after so many examples of a task: columns shots, x, y, right, ratio, regression.

    right: whether the model answers it; ratio, regression: whether that solver can. The examples are training inputs,
    the same first ones throughout. (Figure 5 of 2406.02550.)
    """
    e = check_in_context(run)
    examples = examples_of(e, task, max(shots))
    x, y = (side.ravel() for side in np.indices((e.p, e.p)))
    truth, frames = (task[0] * x + task[1] * y) % e.p, []
    for k in shots:
        given = examples[:k]
        said = _asked(run, given, np.stack([x, y], 1), best).argmax(-1)
        rows = np.broadcast_to(np.array(given, np.int64).reshape(-1, 3), (len(x), k, 3))
        upto = [np.concatenate([rows[..., i], end[:, None]], 1) for i, end in enumerate((x, y, truth))]
        knows = {name.split()[-1]: SOLVERS[name](*upto, e.p) >= 0 for name in SOLVERS}
        frame = {"shots": k, "x": x, "y": y, "right": said == truth}
        frames.append(pd.DataFrame(frame | {"ratio": knows["matching"], "regression": knows["regression"]}))
    return pd.concat(frames, ignore_index=True)


def examples_of(e: InContextExperiment, task: tuple[int, int], count: int) -> list[tuple[int, int, int]]:
    """`count` examples (x, y, z) of a task, on training inputs in the experiment's own order."""
    a, b = _pair(task, e.p, "task")
    inputs = e.made.inputs(e.seed)[0]
    if not 0 <= count <= min(e.shots, len(inputs)):
        raise ArithlabError(f"{count} examples: allowed are 0 to {min(e.shots, len(inputs))} for {e.title}.")
    return [(x, y, (a * x + b * y) % e.p) for x, y in inputs[:count].tolist()]


def task_accuracy(run: Run, which: str = "ood test", *, n: int = 20, best: bool = False) -> pd.DataFrame:
    """Accuracy at the last question for every task of a set on its own: columns a, b, pre_trained, exact_match."""
    e = check_in_context(run)
    if which not in sets_of(e):
        raise UnknownName("test set", which, sets_of(e))
    inside, unseen = which.startswith("id"), which.endswith("test")
    tasks, inputs = e.made.chosen(e.seed)[not inside], e.made.inputs(e.seed)[unseen]
    rng, rows = stream(e.seed, PICKS), []
    for task in waiting(tasks, "tasks"):
        picks = np.stack([rng.permutation(len(inputs))[: e.shots + 1] for _ in range(n)])
        xy = inputs[picks]
        z = answers(np.broadcast_to(task, (n, 2)), xy, e.p)
        said = logits(model_of(run, best), tokens(xy[..., 0], xy[..., 1], z))[:, -1].argmax(-1).cpu().numpy()
        a, b = task.tolist()
        rows.append({"a": a, "b": b, "pre_trained": inside, "exact_match": (said == z[:, -1]).mean()})
    return pd.DataFrame(rows)


def task_curves(stages: Mapping[int, Run], which: str = "id train", *, n: int = 20) -> pd.DataFrame:
    """The accuracy of every task of a set over training: the columns of `task_accuracy`, and step.

    stages: step to run, as `train_stages` gives them (figure 10 of 2406.02550).
    """
    return pd.concat([task_accuracy(run, which, n=n).assign(step=step) for step, run in stages.items()],
                     ignore_index=True)  # fmt: skip


def recording(run: Run, examples: Examples, questions: np.ndarray, *, best: bool = False) -> dict:
    """What a model holds while it reads examples and then each question (x, y): tensors by (site, layer) and, at
    ("attention", layer), the attention weights (N, H, T, T).

    questions: (N, 2). The last two tokens are x and y. See `model.transformer.SITES` for the shapes.
    """
    kept = {}

    def look(site: str, layer: int, x: torch.Tensor) -> torch.Tensor:
        kept[site, layer] = x
        return x

    probe = Probe(edit=look)
    _asked(run, examples, questions, best, probe)
    return kept | {("attention", layer): weights for layer, weights in enumerate(probe.attention)}


def _asked(run: Run, examples: Examples, questions: np.ndarray, best: bool, probe: Probe | None = None) -> np.ndarray:
    """The probability of every answer to each question (N, 2) after the examples: (N, p)."""
    rows = np.broadcast_to(np.array(examples, np.int64).reshape(-1, 3), (len(questions), len(examples), 3))
    x, y = (np.concatenate([rows[..., i], questions[:, i : i + 1]], 1) for i in (0, 1))
    z = np.concatenate([rows[..., 2], np.zeros((len(questions), 1), np.int64)], 1)  # the last z is not read
    return logits(model_of(run, best), tokens(x, y, z), probe)[:, -1].softmax(-1).double().cpu().numpy()


def _checked(run: Run, examples: Examples) -> InContextExperiment:
    e = check_in_context(run)
    for example in examples:
        numbers = tuple(example) if isinstance(example, (tuple, list)) else ()
        if len(numbers) != 3 or not all(_is_number(number, e.p) for number in numbers):
            raise ArithlabError(
                f"example {shorten(example)}: write (x, y, z), each a whole number from 0 to {e.p - 1}."
            )
    e.check_shots(len(examples))
    return e


def _pair(pair: tuple[int, int], p: int, what: str = "question") -> tuple[int, int]:
    numbers = tuple(pair) if isinstance(pair, (tuple, list)) else ()
    if len(numbers) != 2 or not all(_is_number(number, p) for number in numbers):
        names = "(a, b)" if what == "task" else "(x, y)"
        raise ArithlabError(f"{what} {shorten(pair)}: write {names}, each a whole number from 0 to {p - 1}.")
    return numbers


def _is_number(number: object, p: int) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and 0 <= number < p
