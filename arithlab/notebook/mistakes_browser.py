"""A widget: every wrong answer of a model, sorted by kind, with the digits lined up."""

import html
from collections.abc import Callable

import ipywidgets as w
import pandas as pd
import plotly.graph_objects as go

from ..arithmetic.tasks import Task, task
from ..inspection.mistakes import KINDS, accuracy_by, mistakes
from ..training.answer import Answerer, lined_up
from ..training.runs import Run
from . import plots
from .widgets import _heading, _put, _table, _text, control, told

ALL = "all wrong answers"


class MistakesBrowser(w.VBox):
    """Browse the wrong answers to n test questions of a domain, by kind; accuracy by carries and lengths beside them.

    model: a run, or any function from question to answer together with the task that it is asked, `on`. Raises
    ArithlabError where the model cannot be asked; what is typed later is checked in the widget.
    """

    def __init__(self, model: Run | Answerer | Callable, test: str, *, n: int = 500, on: str | Task | None = None):
        super().__init__()
        self.model, self.n, self.on = model, n, on
        self.task = model.experiment.task_ if isinstance(model, Run) else None if on is None else task(on)
        wide, typed = {"width": "26em"}, {"value": test, "continuous_update": False}
        self.test = control(w.Text, "test domain", "such as D_5 or D_4+D_5; press Enter", **typed, **wide)
        self.kind = control(w.Dropdown, "kind", "which mistakes to browse", options=[ALL], **wide)
        self.number = control(w.BoundedIntText, "mistake", "its number", value=1, min=1, max=1, **wide)
        self.previous = w.Button(description="Previous", tooltip="the mistake before")
        self.next = w.Button(description="Next", tooltip="the mistake after")
        self.words, self.digits, self.table = w.HTML(), w.HTML(), w.HTML()
        half = {"layout": w.Layout(width="32em", max_width="100%", flex="1 1 24em")}
        self.chains, self.lengths = w.Output(**half), w.Output(**half)
        controls = w.HBox([self.test, self.kind, self.number], layout=w.Layout(flex_flow="row wrap"))
        figures = w.HBox([self.chains, self.lengths], layout=w.Layout(flex_flow="row wrap"))
        heading, buttons = _heading("Which mistakes does it make?"), w.HBox([self.previous, self.next])
        self.children = [heading, controls, buttons, self.words, self.digits, self.table, figures]
        self.ask()
        self.test.observe(lambda change: self._ask_and_tell(), names="value")
        self.kind.observe(lambda change: self._choose(), names="value")
        self.number.observe(lambda change: self._show(), names="value")
        self.previous.on_click(lambda button: self._step(-1))
        self.next.on_click(lambda button: self._step(1))

    def ask(self) -> None:
        """Ask the model the questions of the present domain and sort its answers."""
        self.answers = mistakes(self.model, self.test.value, n=self.n, on=self.on)
        wrong = self.answers[self.answers["kind"] != "right"]
        counts = wrong["kind"].value_counts()
        self.kind.options = [
            (f"{ALL} ({len(wrong)})", ALL),
            *((f"{name} ({counts[name]})", name) for name in KINDS if name in counts),
        ]
        self.table.value = _table(
            pd.DataFrame(
                [
                    {"kind": name, "answers": count, "what it is": KINDS[name]}
                    for name, count in self.answers["kind"].value_counts().items()
                ]
            )
        )
        self.kind.value = ALL
        self._draw()
        self._choose()

    def _ask_and_tell(self) -> None:
        with told(self.words):
            self.ask()

    def _choose(self) -> None:
        """Begin with the first mistake of the chosen kind."""
        wrong = self.answers[self.answers["kind"] != "right"]
        self.chosen = wrong if self.kind.value in (ALL, None) else wrong[wrong["kind"] == self.kind.value]
        self.number.max, self.number.value = max(1, len(self.chosen)), 1
        self._show()

    def _step(self, by: int) -> None:
        self.number.value = self.number.value + by

    def _show(self) -> None:
        """The mistake of the present number, digits lined up."""
        at, count = self.number.value, len(self.chosen)
        self.previous.disabled, self.next.disabled = at <= 1, at >= count
        self.number.disabled = not count
        right = f"{100 * (self.answers['kind'] == 'right').mean():.1f} % of {len(self.answers)} answers are right"
        if not count:
            self.words.value, self.digits.value = _text(f"{right}: no mistake to show."), ""
            return
        row = self.chosen.iloc[at - 1]
        self.words.value = _text(f"{right}. Mistake {at} of {count}, of the kind {row['kind']}: {KINDS[row['kind']]}.")
        predicted = f"\n    predicted {row['predicted']}" if row["predicted"] else ""
        self.digits.value = f"<pre>{html.escape(lined_up(self.task, row) + predicted)}</pre>"

    def _draw(self) -> None:
        if "chain" in self.answers:
            _put(self.chains, chain_figure(self.answers))
        else:
            _put(self.chains, None)
        if "a_digits" in self.answers:
            table = accuracy_by(self.answers, ["a_digits", "b_digits"])
            train = self.model.experiment.train_domain.digits if isinstance(self.model, Run) else None
            _put(self.lengths, plots.length_heatmaps({"these questions": table}, train_digits=train))
        else:
            _put(self.lengths, None)


def chain_figure(answers: pd.DataFrame) -> go.Figure:
    """Exact match of a table of `mistakes` by the longest chain of carries, with 95 % intervals."""
    table = accuracy_by(answers, ["chain"])
    figure = plots.by_length({"these questions": table}, x="chain", title="Exact match by the longest chain of carries")
    return figure.update_xaxes(title="neighbouring places that all carry").update_layout(height=360)
