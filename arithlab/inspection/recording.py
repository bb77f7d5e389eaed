"""Questions of one layout, what a model holds at any site while it reads them, and a model with nothing in it.

Arrays: N questions, T tokens of the input (all but the last of the example), C the width of the model.
"""

from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import batches
from ..arithmetic import digits as dg
from ..arithmetic.tokens import ROLE, ROLES, Tokens
from ..errors import ArithlabError, UnknownName, shorten
from ..model.positions import Layout
from ..model.transformer import SITES, Probe, Transformer
from ..training.evaluate import test_domain
from ..training.experiment import Experiment
from ..training.runs import Run
from ..training.stages import Altered

SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


@dataclass(frozen=True)
class Questions:
    """Pairs of operands with their true answers, written so that a token stands for the same place in all of them.

    a, b: digit arrays (N, W). Raises ArithlabError where the format has no such layout.
    """

    experiment: Experiment
    a: np.ndarray
    b: np.ndarray

    @cached_property
    def tokens(self) -> Tokens:
        """Question and true answer as tokens; role and place have one row."""
        e = self.experiment
        tokens = e.format_.encode(e.task_, self.a, self.b)
        if len(tokens.role) > 1 or tokens.levels is not None:
            raise ArithlabError(
                f"the format {e.format!r} has no one layout in which every token stands for a place: "
                "look into a run of a padded or an aligned format."
            )
        return tokens

    @cached_property
    def ids(self) -> Tensor:
        """What the model reads: int64 (N, T), the true answer included, its last token left out."""
        return torch.from_numpy(self.tokens.ids[:, :-1]).long()

    @cached_property
    def layout(self) -> Layout:
        """What the tokens stand for."""
        return Layout.of(self.tokens)

    @cached_property
    def answer(self) -> list[int]:
        """The answer's digits: token numbers, place 0 first. Raises ArithlabError where a scratchpad stands instead."""
        at = np.flatnonzero(self.tokens.role[0] == ROLE["c"])
        if not len(at):
            raise ArithlabError(
                f"the format {self.experiment.format!r} writes no digits of an answer: look at it with `read_outs`."
            )
        return at[np.argsort(self.tokens.place[0, at])].tolist()

    def until(self, token: int) -> "Questions":
        """The same questions, read up to a token and no further: what comes after it cannot matter to it."""
        part = replace(self)
        part.__dict__["ids"] = self.ids[:, : token + 1]
        return part

    def writer(self, place: int) -> int:
        """The token from which the answer digit at a place is read: the one before it."""
        return self.answer[place] - 1

    def right(self, place: int) -> Tensor:
        """The token ids of the right answer digits at a place: int64 (N,)."""
        return torch.from_numpy(self.tokens.ids[:, self.answer[place]]).long()

    @property
    def digit_ids(self) -> slice:
        """The token ids that are digits: they stand side by side in every vocabulary."""
        zero = self.experiment.format_.vocabulary(self.experiment.task_).index("0")
        return slice(zero, zero + self.experiment.base)

    def about(self, token: int) -> dict:
        """Columns of a table that say which token it is: token, label (a₁, +, ...), role and token_place."""
        role, place = ROLES[self.tokens.role[0, token]], int(self.tokens.place[0, token])
        sign = self.experiment.format_.vocabulary(self.experiment.task_)[self.tokens.ids[0, token]]
        label = f"{role}{subscript(place)}" if role in "abc" else sign
        return {"token": token, "label": label, "role": role, "token_place": place}


def subscript(number: int) -> str:
    """A whole number in small figures below the line.

    >>> subscript(-10)
    '₋₁₀'
    """
    return str(number).translate(SUBSCRIPTS)


def held_out(run: Run, digits: int, n: int, seed: int = 0) -> Questions:
    """n questions of so many digits that the run never trained on. seed: another one draws others."""
    if not isinstance(n, int) or n < 1:
        raise ArithlabError(f"n {shorten(n)}: allowed are whole numbers of questions from 1.")
    e = run.experiment
    e.check_length(digits)
    a, b = batches.held_out_pairs(test_domain(e.test_family, digits), e.base, n, seed)
    width = max(dg.longest(a), dg.longest(b), digits)
    return Questions(e, dg.fit_width(a, width), dg.fit_width(b, width))


def check_addition(run: Run, what: str) -> None:
    """Raise ArithlabError unless the run adds, answer units first: only there a carry goes from one place to the next.

    what: the name of what was asked for.
    """
    e = run.experiment
    if e.task_.operation != "add" or e.task_.modulus is not None or e.format_.answer != "units":
        raise ArithlabError(
            f"{what} needs a plain addition with the answer units first, not {e.task!r} in the format {e.format!r}: "
            "give a run of the task 'add'."
        )


def record(model: Transformer, questions: Questions, sites: Container[str] = SITES) -> dict[tuple[str, int], Tensor]:
    """What the model holds at these sites, by (site, layer): tensors with the token axis last but one; see SITES.

    At ("logits", 0) are the logits (N, T, V).
    """
    kept = {}

    def look(site: str, layer: int, x: Tensor) -> Tensor:
        if site in sites:
            kept[site, layer] = x
        return x

    with torch.inference_mode():
        probe = Probe(attention=None, edit=look)
        kept["logits", 0] = model(questions.ids, probe=probe, layout=questions.layout)
    return kept


def check_site(site: str) -> None:
    """Raise UnknownName unless a site is one of SITES."""
    if site not in SITES:
        raise UnknownName("site", site, SITES)


def scrambled(run: Run, seed: int = 0) -> Altered:
    """A negative control: the same weights, the entries of every matrix in a random order.

    Every matrix keeps its mean and its norm, nothing that was learned is left.
    """
    random = torch.Generator().manual_seed(seed)
    state = run.model.state_dict()

    def shuffle(x: Tensor) -> Tensor:
        return x.flatten()[torch.randperm(x.numel(), generator=random)].view(x.shape)

    return Altered(run, {name: shuffle(x) if x.ndim > 1 else x for name, x in state.items()}, "scrambled")
