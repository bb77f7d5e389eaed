"""In-context models by number of shots: accuracy and loss on the four test sets, phases, and the best step."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ..arithmetic.in_context import SETS, accuracy_by_shots
from ..arithmetic.tokens import Tokens
from ..errors import ArithlabError, UnknownName, shorten
from ..model.positions import Layout
from ..model.transformer import Probe, Transformer
from .in_context import InContextExperiment
from .machine import memory_errors_told
from .runs import Run

FOLLOWED = 256  # test sequences per set during training
LEARNED = 0.75  # of the accuracy of ratio matching: from there a set counts as learned
PHASES = {  # by the hardest set that is learned, hardest first
    "ood test": "o.o.d. generalization",
    "ood train": "o.o.d. memorization",
    "id test": "i.d. generalization",
    "id train": "i.d. memorization",
}
NOTHING = "not learned"


def late(values: np.ndarray) -> float:
    """Mean over the last quarter of the questions: what the model makes of a long context."""
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def logits(model: Transformer, tokens: Tokens, probe: Probe | None = None) -> torch.Tensor:
    """What the model says of every answer z in sequences of K examples: logits (N, K, p)."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens.ids).to(device, torch.long)
    with torch.inference_mode():
        return model(ids[:, :-1], probe=probe, layout=Layout.of(tokens, device))[:, 1::3]


def right(model: Transformer, tokens: Tokens, probe: Probe | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Whether each z is answered rightly, and its loss in nats: (N, K) each."""
    said = logits(model, tokens, probe).float()
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
        for name, tokens in tests.items():
            hits, losses = (values.mean(0) for values in right(model, tokens))
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
    experiment = check_in_context(run)
    if which not in SETS:
        raise UnknownName("test set", which, SETS)
    if not isinstance(n, int) or n < 1:
        raise ArithlabError(f"n {shorten(n)}: allowed are whole numbers of test sequences from 1.")
    tokens = experiment.made.test(which, n, experiment.seed)
    with memory_errors_told(asked=f"{n:,} sequences of {experiment.shots} shots"):
        hits, losses = (values.mean(0) for values in right(run.best_model if best else run.model, tokens))
    return pd.DataFrame({"shots": range(len(hits)), "n": n, "exact_match": hits, "loss": losses})


@lru_cache
def ceilings(experiment: InContextExperiment) -> dict[str, float]:
    """What ratio matching reaches late in the context of each test set: few inputs make short sequences.

    The paper asks for 75 % where sequences have 31 shots, of which ratio matching nearly always finds one.
    """
    made, seed = experiment.made, experiment.seed
    return {name: late(accuracy_by_shots("ratio matching", made, name, 1_000, seed)) for name in sets_of(experiment)}


def phase(scores: Mapping[str, float], ceiling: Mapping[str, float]) -> str:
    """The phase (2406.02550, figure 1) of accuracies by test set, beside what ratio matching reaches there.

    >>> scores = {"id train": 0.99, "id test": 0.9, "ood train": 0.4, "ood test": 0.3}
    >>> phase(scores, dict.fromkeys(scores, 0.8))
    'i.d. generalization'
    """
    learned = [name for which, name in PHASES.items() if which in scores and scores[which] >= LEARNED * ceiling[which]]
    return learned[0] if learned else NOTHING


def stages(run: Run) -> pd.DataFrame:
    """Late accuracy on each set at every look of training: columns step and one per set."""
    check_in_context(run)
    return run.metrics.pivot(index="step", columns="set", values="exact_match").rename_axis(columns=None).reset_index()


def outcome(run: Run) -> dict:
    """How an in-context run went: accuracy per set at the end, at the best step, and the phase with early stopping."""
    table, best = stages(run), run.best_step
    sets = sets_of(run.experiment)
    ends, at_best = (table[table.step == step].iloc[0] for step in (table.step.max(), best))
    row = {f"exact_match_{name}": float(ends[name]) for name in sets} | {"best_step": best}
    row |= {f"best_{name}": float(at_best[name]) for name in sets}
    return row | {"phase": phase(at_best[sets], ceilings(run.experiment))}
