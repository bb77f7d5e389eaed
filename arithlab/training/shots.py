"""In-context models by number of shots: accuracy and loss on the four test sets, phases, and the best step."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ..arithmetic.batches import stream
from ..arithmetic.in_context import SETS, SOLVERS, accuracy_by_shots, tokens
from ..arithmetic.tokens import Tokens
from ..errors import ArithlabError, UnknownName, shorten
from ..model.positions import Layout
from ..model.transformer import Probe, Transformer
from .in_context import InContextExperiment
from .machine import memory_errors_told
from .runs import Run
from .waiting import waiting

FOLLOWED = 256  # test sequences per set during training
LEARNED, LEAST = 0.75, 0.5  # a set counts as learned from this share of ratio matching's accuracy, and this accuracy
PHASES = {  # by the hardest set that is learned, hardest first
    "ood test": "o.o.d. generalization",
    "ood train": "o.o.d. memorization",
    "id test": "i.d. generalization",
    "id train": "i.d. memorization",
}
NOTHING = "not learned"
WATCHED = "ood train"  # the set on which algorithms are told apart
NOISE = 14  # random stream of a seed: which labels are corrupted, and by how much


def late(values: np.ndarray) -> float:
    """Mean over the last quarter of the questions: what the model makes of a long context."""
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def logits(model: Transformer, tokens: Tokens, probe: Probe | None = None) -> torch.Tensor:
    """What the model says of every answer z in sequences of K examples: logits (N, K, p)."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens.ids).to(device, torch.long)
    with torch.inference_mode():
        return model(ids[:, :-1], probe=probe, layout=Layout.of(tokens, device))[:, 1::3]


def right(model: Transformer, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Whether each z is answered rightly, and its loss in nats: (N, K) each."""
    said = logits(model, tokens).float()
    z = torch.from_numpy(tokens.ids[:, 2::3]).to(said.device, torch.long)
    losses = F.cross_entropy(said.flatten(0, 1), z.flatten(), reduction="none").view(z.shape)
    return (said.argmax(-1) == z).cpu().numpy(), losses.cpu().numpy()


def sets_of(experiment: InContextExperiment) -> list[str]:
    """The test sets that hold anything: with all p^2 tasks for pre-training, none is out of distribution."""
    return [name for name in SETS if name.startswith("id") or experiment.tasks < experiment.p**2]


def follow(experiment: InContextExperiment) -> Callable[[Transformer], list[dict]]:
    """What is measured of a model during training: one row per test set, accuracy and loss by shots in it."""
    tests = {name: experiment.made.test(name, FOLLOWED, experiment.seed) for name in sets_of(experiment)}

    def look(model: Transformer) -> list[dict]:
        rows = []
        for name, made in tests.items():
            hits, losses = (values.mean(0) for values in right(model, made))
            lists = {"by_shots": hits.round(4).tolist(), "losses": losses.astype(float).round(4).tolist()}
            rows.append({"set": name, "exact_match": round(late(hits), 4), **lists})
        return rows

    return look


def check_in_context(run: Run) -> InContextExperiment:
    """The experiment of an in-context run; ArithlabError where it learned something else."""
    if not isinstance(run.experiment, InContextExperiment):
        raise ArithlabError(
            f"run {run.id} learned {run.experiment.title}, not tasks in context: give a run of an InContextExperiment."
        )
    return run.experiment


def by_shots(run: Run, which: str = "ood test", *, n: int = 1_000, best: bool = False) -> pd.DataFrame:
    """Accuracy after 0, 1, 2 ... examples on one of the four test sets: columns shots, n, exact_match, loss (nats).

    which: `id train`, `id test`, `ood train` or `ood test`. best: the model of the best step, not the last one.
    """
    experiment, made = _sequences(run, which, n)
    with memory_errors_told(asked=f"{n:,} sequences of {experiment.shots} shots"):
        hits, losses = (values.mean(0) for values in right(model_of(run, best), made))
    return pd.DataFrame({"shots": range(len(hits)), "n": n, "exact_match": hits, "loss": losses})


def algorithms(run: Run, which: str = "ood test", *, n: int = 500, best: bool = False) -> pd.DataFrame:
    """How much of a model the two exact solvers explain, by number of shots.

    Questions fall into three kinds: `ratio` (a multiple of one example is asked), `regression` (only a combination of
    several examples gives the answer) and `open` (the examples do not determine it). Columns: shots, kind, share of the
    questions, exact_match of the model on them, and chance. A model that uses ratio matching alone is right on the
    first kind and at chance on the second. (2406.02550, section 5.)
    """
    e, made = _sequences(run, which, n)
    said = logits(model_of(run, best), made).argmax(-1).cpu().numpy()
    x, y, z = _columns(made)
    rows = []
    for k in range(x.shape[1]):
        upto = x[:, : k + 1], y[:, : k + 1], z[:, : k + 1]
        ratio, regression = (SOLVERS[name](*upto, e.p) >= 0 for name in SOLVERS)
        hits = said[:, k] == z[:, k]
        for kind, here in (("ratio", ratio), ("regression", regression & ~ratio), ("open", ~regression)):
            right = hits[here].mean() if here.any() else np.nan
            rows.append({"shots": k, "kind": kind, "share": here.mean(), "exact_match": right, "chance": 1 / e.p})
    return pd.DataFrame(rows)


def label_noise(run: Run, which: str = "ood train", *, n: int = 500, best: bool = False) -> pd.DataFrame:
    """Accuracy at the last question where some labels z in the context are wrong: columns corrupted, exact_match.

    For each number of corrupted examples, from none to all, as many random ones in every sequence have a random
    other z. (Figure 24 of 2406.02550.)
    """
    e, made = _sequences(run, which, n)
    x, y, z = _columns(made)
    rng, rows = stream(e.seed, NOISE), []
    shots = x.shape[1] - 1
    order = rng.permuted(np.tile(np.arange(shots), (n, 1)), axis=1)
    wrong = (z[:, :-1] + rng.integers(1, e.p, size=(n, shots))) % e.p
    for count in waiting(range(shots + 1), "wrong labels"):
        noisy = z.copy()
        noisy[:, :-1] = np.where(order < count, wrong, z[:, :-1])
        said = logits(model_of(run, best), tokens(x, y, noisy))[:, -1].argmax(-1).cpu().numpy()
        rows.append({"corrupted": count, "exact_match": (said == z[:, -1]).mean()})
    return pd.DataFrame(rows)


def model_of(run: Run, best: bool) -> Transformer:
    """The model of the best step, or the last one."""
    return run.best_model if best else run.model


def _sequences(run: Run, which: str, n: int) -> tuple[InContextExperiment, Tokens]:
    experiment = check_in_context(run)
    if which not in SETS:
        raise UnknownName("test set", which, SETS)
    if not isinstance(n, int) or n < 1:
        raise ArithlabError(f"n {shorten(n)}: allowed are whole numbers of test sequences from 1.")
    return experiment, experiment.made.test(which, n, experiment.seed)


def _columns(made) -> np.ndarray:
    """x, y and z of sequences: int (3, N, K)."""
    return made.ids.reshape(len(made.ids), -1, 3).astype(np.int64).transpose(2, 0, 1)


@lru_cache
def ceilings(experiment: InContextExperiment) -> dict[str, float]:
    """What ratio matching reaches late in the context of each test set: few inputs make short sequences.

    The paper asks for 75 % where sequences have 31 shots, of which ratio matching nearly always finds one.
    """
    made, seed = experiment.made, experiment.seed
    return {name: late(accuracy_by_shots("ratio matching", made, name, 1_000, seed)) for name in sets_of(experiment)}


def phase(scores: Mapping[str, float], ceiling: Mapping[str, float]) -> str:
    """The phase (2406.02550, figure 1) of accuracies by test set, beside what ratio matching reaches there.

    The hardest set that is learned names it, where known tasks on known inputs are learned as well.

    >>> scores = {"id train": 0.99, "id test": 0.9, "ood train": 0.4, "ood test": 0.3}
    >>> phase(scores, dict.fromkeys(scores, 0.8))
    'i.d. generalization'
    """
    learned = [which for which, score in scores.items() if score >= max(LEARNED * ceiling[which], LEAST)]
    return next((name for which, name in PHASES.items() if {which, "id train"} <= set(learned)), NOTHING)


def stages(run: Run) -> pd.DataFrame:
    """Late accuracy on each set at every look of training: columns step and one per set."""
    check_in_context(run)
    return run.metrics.pivot(index="step", columns="set", values="exact_match").rename_axis(columns=None).reset_index()


def outcome(run: Run) -> dict:
    """How an in-context run went, as one row: accuracy per set at the end and at the best step, and the phase.

    The phase goes by what was reached at either: what has faded counts, and so does what came after the best step.

    With weights also, at the best step on new tasks: ratio_late and regression_late, the accuracy on these kinds of
    questions in the second half of the context; and noisy_late, the accuracy with 40 % of the labels wrong as
    a share of that with none.
    """
    table, best = stages(run), run.best_step
    sets = sets_of(run.experiment)
    ends, at_best = (table[table.step == step].iloc[0] for step in (table.step.max(), best))
    row = {f"exact_match_{name}": float(ends[name]) for name in sets} | {"best_step": best}
    row |= {f"best_{name}": float(at_best[name]) for name in sets}
    reached = {name: max(row[f"exact_match_{name}"], row[f"best_{name}"]) for name in sets}
    row |= {"phase": phase(reached, ceilings(run.experiment))}
    if not run.has_weights or WATCHED not in sets:
        return row
    kinds = algorithms(run, WATCHED, best=True)
    kinds = kinds[(kinds.shots >= run.experiment.shots / 2) & (kinds.share > 0)]
    for name, here in kinds.groupby("kind"):
        row[f"{name}_late"] = (here.exact_match * here.share).sum() / here.share.sum()
    noisy = label_noise(run, WATCHED, best=True).exact_match
    return row | {"noisy_late": noisy.iloc[round(0.4 * len(noisy))] / noisy.iloc[0]}
