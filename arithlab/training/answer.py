"""Free-running answers: what a model writes when it is asked, token by token."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..arithmetic import digits as dg
from ..arithmetic.tasks import Task
from ..errors import ArithlabError, shorten
from ..model.positions import Layout
from ..model.transformer import Cache, Probe
from .machine import memory_errors_told
from .runs import Run
from .waiting import waiting

MANY = 100  # questions answered at once from which on several threads pay
Answerer = Callable[[list[str]], list[str]]  # questions to answers in the same order: ["349+705"] to ["1054"]


def answerer(model: Run | Answerer | Callable[[str], str]) -> Answerer:
    """An Answerer made of a run, of a function of a list of questions, or of a function of one question.

    >>> answerer(lambda question: question.split("+")[0])(["1+2", "3+4"])
    ['1', '3']
    """
    if isinstance(model, Run):
        return lambda questions: answer(model, questions)
    if not callable(model):
        raise ArithlabError(
            f"{shorten(model)} answers no questions: give a run, or a function from question to answer."
        )

    def call(questions: list[str]) -> list[str]:
        problem = None
        for whole in (True, False):
            try:
                answers = model(questions) if whole else [model(question) for question in questions]
            except Exception as error:  # a function of one question may fail in any way on a list
                problem = problem or error if whole else error
                continue
            if (
                isinstance(answers, (list, tuple))
                and len(answers) == len(questions)
                and all(isinstance(x, str) for x in answers)
            ):
                return list(answers)
        reason = (
            f"it raised {type(problem).__name__}: {problem}" if problem else "it did not return one string per question"
        )
        raise ArithlabError(f"the answering function cannot be used: {reason}.") from problem

    return call


def answer(run: Run, questions: list[str], probe: Probe | None = None) -> list[str]:
    """What the run's model answers, decoded greedily with a cache of keys and values; a probe may change attention.

    Anything in an answer that is no digit shows as `?`. Raises ArithlabError for a question that the
    run's task or format cannot take.
    """
    e = run.experiment
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    operands = [e.task_.parse_question(question) for question in questions]
    for i, (a, b) in enumerate(operands):
        la, lb = int(dg.lengths(a[None])[0]), int(dg.lengths(b[None])[0])
        terms = 2 if b.ndim == 1 else b.shape[1] + 1
        e.check_length(max(la, lb), terms)
        groups[(0, 0, terms) if e.format_.width else (la, lb, terms)].append(i)
    answers = [""] * len(questions)
    for rows in groups.values():
        width = max(max(len(operands[i][0]), len(operands[i][1])) for i in rows)
        a, b = (np.concatenate([dg.fit_width(operands[i][side][None], width) for i in rows]) for side in (0, 1))
        terms = 2 if b.ndim == 2 else b.shape[2] + 1
        with memory_errors_told(asked=f"{len(rows):,} questions of {width:,} digits at once"):
            written = _decode(run, a, b, probe)
        for i, ids in zip(rows, written, strict=True):
            answers[i] = e.format_.decode(e.task_, ids, terms)
    return answers


def _decode(run: Run, a: np.ndarray, b: np.ndarray, probe: Probe | None = None) -> np.ndarray:
    """Greedy continuations of prompts of one length: token ids (N, S)."""
    e = run.experiment
    vocabulary = e.format_.vocabulary(e.task_)
    longest = np.zeros((len(a), e.task_.answer_width(a.shape[1])), np.uint8)
    longest[:, -1] = 1  # an answer with as many digits as there can be: the prompt and the layout do not tell which
    tokens = e.format_.encode(e.task_, a, b, longest)
    layout, prompt = Layout.of(tokens), torch.from_numpy(tokens.ids[:, : -tokens.tail]).long()
    end = vocabulary.index(";") if ";" in vocabulary else None
    cache, written, read = Cache(), [], prompt
    with torch.inference_mode(), _threads(1 if len(a) < MANY else torch.get_num_threads()):
        for _ in waiting(range(tokens.tail), "answering, digit by digit"):
            read = run.model(read, tail=1, probe=probe, cache=cache, layout=layout).argmax(-1)
            written.append(read)
            if end is not None and all((torch.cat(written, 1) == end).any(1)):
                break
    return torch.cat(written, 1).numpy()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads inside the block: sharing out a single token costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows_of(run: Run, questions: list[str]) -> list[dict]:
    """One row per question: question, answer, truth, correct. `=` and what follows it are ignored.

    The truth is worked out on digits, so questions may be as long as the format allows.
    """
    t = run.experiment.task_
    asked = [question.split("=")[0].strip() if isinstance(question, str) else question for question in questions]
    answers = answer(run, asked)
    rows = []
    for question, given in zip(asked, answers, strict=True):
        a, b = t.parse_question(question)
        width = max(len(a), len(b))
        truth = dg.write(t.compute_digits(dg.fit_width(a[None], width), dg.fit_width(b[None], width))[0])
        rows.append({"question": question, "answer": given, "truth": truth, "correct": given == truth})
    return rows


def lined_up(task: Task, row: dict) -> str:
    """A row of `rows_of` written as on paper, with a mark under every wrong digit.

    >>> from arithlab.arithmetic.tasks import task
    >>> print(lined_up(task("add"), {"question": "1349+2705", "answer": "1054", "truth": "4054", "correct": False}))
        1349
      + 2705
      ------
        1054  model
        4054  truth
        ^
    """
    first, *others = (operand.strip() for operand in row["question"].split(task.symbol))
    given, truth = row["answer"], row["truth"]
    width = max(map(len, (first, *others, given, truth)))
    wrong = [x != y for x, y in zip(given.rjust(width), truth.rjust(width), strict=True)]
    modulus = "" if task.modulus is None else f"  (mod {task.modulus})"
    lines = [
        f"    {first.rjust(width)}",
        *(f"  {task.symbol} {other.rjust(width)}" for other in others[:-1]),
        f"  {task.symbol} {others[-1].rjust(width)}{modulus}",
        f"  {'-' * (width + 2)}",
        f"    {given.rjust(width)}  model",
        f"    {truth.rjust(width)}  truth",
        f"    {''.join('^' if x else ' ' for x in wrong).rstrip()}" if any(wrong) else "    all digits right",
    ]
    return "\n".join(lines)
