"""Widgets: choose a task, see what theory predicts, train, stop, ask.

Training runs in slices on the kernel's event loop: no thread, and the page stays alive, so that Stop works.
Nothing trains before Train is pressed; executed headless, a widget only renders. Every state is also text.
"""

import asyncio
import html
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ipywidgets as w
import pandas as pd
import plotly.graph_objects as go

from ..arithmetic import batches
from ..arithmetic import digits as dg
from ..arithmetic.tasks import Task, task
from ..errors import ArithlabError
from ..model.positions import POSITIONS
from ..model.transformer import SIZES
from ..training.answer import lined_up, rows_of
from ..training.estimate import duration, seconds_per_step
from ..training.evaluate import evaluate, predict
from ..training.experiment import Experiment
from ..training.fit import fit
from ..training.runs import Run
from . import plots
from .setup import bundle

SLICE = 0.1  # seconds of training between two looks at the page
REDRAW = 1.0  # seconds between two drawings of the live curves
ENCODINGS = [name for name in POSITIONS if name != "grid"]  # which needs a scratchpad
WIDE = {"description_width": "9em"}


# the figure in an Output takes its height from there; without, it is drawn flat when the window changes
KEEP_HEIGHT = """<style>.widget-output :is(.jp-OutputArea, .jp-OutputArea-child, .js-plotly-plot)
{ min-height: inherit; max-height: inherit }</style>"""


def _heading(words: str) -> w.HTML:
    return w.HTML(f"{KEEP_HEIGHT}<h4>{words}</h4>")


def control(kind: type[w.Widget], description: str, tooltip: str, *, width: str | None = "22em", **more) -> w.Widget:
    """A control with a label wide enough for ours, and words that say what it is for. more: options of its kind."""
    return kind(description=description, tooltip=tooltip, style=WIDE, layout=w.Layout(width=width), **more)


def task_controls(operation: str, modulus: int, base: int, digits: int, *, least: int = 0) -> list[w.Widget]:
    """Controls for operation, modulus (from `least`; 0 for none), base and training digits."""
    # not sliders: theirs have no name that a screen reader could say
    p, b, lowest = ("modulus p", "base b", f"from {least}") if least else ("modulus", "base", "0 for none")
    operations = [("addition", "add"), ("multiplication", "mul")]
    return [
        control(w.Dropdown, "operation", "what the model learns", options=operations, value=operation),
        control(w.BoundedIntText, p, lowest, value=modulus, min=least, max=10**6),
        control(w.BoundedIntText, b, "the number base, 2 to 36", value=base, min=2, max=36),
        control(w.BoundedIntText, "training digits", "the domain D_n", value=digits, min=1, max=8),
    ]


def _put(output: w.Output, figure: go.Figure | None) -> None:
    """Show a figure, or none, in an Output widget by setting its state: works from callbacks and background tasks."""
    shown, height = [], None
    if figure is not None:
        shown, height = [bundle(figure)], f"{figure.layout.height or 450:.0f}px"  # plotly's own where none is asked for
    output.layout.min_height = output.layout.max_height = height
    output.outputs = tuple({"output_type": "display_data", "data": data, "metadata": {}} for data in shown)


def _table(frame: pd.DataFrame) -> str:
    rows = frame.to_html(index=False, border=0, escape=True, justify="left")
    rows = rows.replace("<th>", '<th style="text-align:left">')
    rows = re.sub(r"<td>(?!-?[0-9][0-9.,]*( %)?</td>)", '<td style="text-align:left">', rows)  # words, not numbers
    return f"<div class='jp-RenderedHTMLCommon'>{rows}</div>"  # JupyterLab's own look of tables, in its themes


def _text(words: str, alarm: bool = False) -> str:
    style = " style='color:var(--jp-error-color1,#b71c1c)'" if alarm else ""
    return f"<p{style} role='status'>{html.escape(words)}</p>"


@contextmanager
def told(words: w.HTML) -> Iterator[None]:
    """What goes wrong inside is said in the widget, where a reader sees it; a fault of ours, or of theirs, goes on."""
    try:
        yield
    except ArithlabError as error:
        words.value = _text(str(error), alarm=True)
    except Exception as error:
        words.value = _text(f"Stopped by an error: {type(error).__name__}: {error}", alarm=True)
        raise


class TaskPicker(w.VBox):
    """Choose a task, see an example, the predicted accuracy and the time; then train, watch and stop.

    After training `runs` holds its finished runs, by (positions, seed).
    """

    def __init__(
        self,
        operation: str = "add",
        modulus: int = 0,
        base: int = 10,
        digits: int = 4,
        positions: tuple[str, ...] = ("learned", "rope"),
        size: str = "tiny",
        seeds: int = 1,
        minutes: float = 0.5,
    ):
        super().__init__()
        chosen = self.operation, self.modulus, self.base, self.digits = task_controls(operation, modulus, base, digits)
        self.size = control(w.Dropdown, "size", "the model's size", options=list(SIZES), value=size)
        self.seeds = control(w.BoundedIntText, "seeds", "how many models per encoding", value=seeds, min=1, max=20)
        limits = {"min": 0.05, "max": 600, "step": 0.25}
        words = "training time of each model"
        self.minutes = control(w.BoundedFloatText, "minutes each", words, value=minutes, **limits)
        names = {"options": ENCODINGS, "value": positions, "rows": len(ENCODINGS)}
        self.positions = control(w.SelectMultiple, "encodings", "positional encodings to compare", **names)
        self.train_button = w.Button(description="Train", button_style="primary", tooltip="train the chosen models")
        self.stop_button = w.Button(
            description="Stop", disabled=True, tooltip="stop after this step; Train goes on from there"
        )
        self.preview, self.status, self.results = w.HTML(), w.HTML(), w.HTML()
        self.bar = w.IntProgress(description="progress", layout=w.Layout(width="100%"))
        self.figure = w.Output()
        self.runs: dict[tuple[str, int], Run] = {}
        self.training: asyncio.Task | None = None
        self._stopping = False
        left = [*chosen, self.size, self.seeds, self.minutes]
        buttons = w.HBox([self.train_button, self.stop_button])
        heading = _heading("Choose a task")
        self.children = [
            heading,
            w.HBox([w.VBox(left), self.positions], layout=w.Layout(flex_flow="row wrap")),
            self.preview,
            buttons,
            self.bar,
            self.status,
            self.figure,
            self.results,
        ]
        for one in (*left, self.positions):
            one.observe(lambda change: self.refresh(), names="value")
        self.train_button.on_click(lambda button: self.start())
        self.stop_button.on_click(lambda button: self.stop())
        self.refresh()

    def experiments(self) -> list[Experiment]:
        """What Train would train, in order: every encoding with every seed."""
        t = Task(self.operation.value, self.modulus.value or None, self.base.value)
        width = self.digits.value + (5 if t.operation == "add" or t.modulus else 2)
        one = Experiment(task=str(t), train=f"D_{self.digits.value}", format=f"padded {width}", size=self.size.value)
        steps = max(50, round(60 * self.minutes.value / seconds_per_step(one) / 50) * 50)
        if not self.positions.value:
            raise ArithlabError("choose at least one encoding.")
        return [
            one.with_(steps=steps, positions=positions, seed=seed)
            for seed in range(self.seeds.value)
            for positions in self.positions.value
        ]

    def refresh(self) -> None:
        """Redraw the preview: an example as the model sees it, the prediction, the time."""
        try:
            experiments = self.experiments()
            self.preview.value = self._preview(experiments)
            if self.training is None:  # else the status tells of the training
                self.status.value = _text("Ready. Nothing has been trained yet." if not self.runs else "Ready.")
                self.train_button.disabled = False
        except ArithlabError as error:
            self.preview.value, self.train_button.disabled = "", True
            self.status.value = _text(str(error), alarm=True)

    def _preview(self, experiments: list[Experiment]) -> str:
        e = experiments[0]
        a, b = batches.held_out_pairs(e.train_domain, e.base, 1)
        tokens = e.format_.encode(e.task_, a, b)
        seen = " ".join(e.format_.vocabulary(e.task_)[i] for i in tokens.ids[0])
        answer = dg.write(e.task_.compute_digits(a, b)[0])
        names = dict.fromkeys(x.positions for x in experiments)
        columns = {name: predict(e.with_(positions=name), e.test_lengths) for name in names}
        table = pd.DataFrame({"digits": e.test_lengths})
        for name, frame in columns.items():
            table[f"{name} (%)"] = (100 * frame["predicted_accuracy"]).round(2)
        computes = "; ".join(f"{name}: {e.with_(positions=name).predicted}" for name in names)
        seconds = e.steps * seconds_per_step(e) * len(experiments)
        return (
            f"<p>Example: {html.escape(e.task_.write_question(a[0], b[0]))} = {answer}. "
            f"The model sees (units first):</p>"
            f"<pre>{html.escape(seen)}</pre><p>Theory says what is computed: {html.escape(computes)}. "
            f"Predicted accuracy by length:</p>{_table(table)}"
            f"<p>{len(experiments)} model(s), {e.steps:,} steps of {e.batch} each: "
            f"about {duration(seconds)} on this machine.</p>"
        )

    def start(self) -> None:
        """Begin to train in the background of this kernel."""
        if self.training is None:
            self.training = asyncio.get_running_loop().create_task(self.train())

    def stop(self) -> None:
        """Ask the training to stop after this step; what is done is kept."""
        self._stopping = True
        self.status.value = _text("Stopping after this step...")

    async def train(self) -> None:
        """Train everything chosen, in slices; called by `start`."""
        self._stopping, self.runs = False, {}  # runs of an earlier choice of task stay on disk only
        self.train_button.disabled, self.stop_button.disabled = True, False
        try:
            with told(self.status):
                experiments = self.experiments()
                self.bar.max = sum(e.steps for e in experiments)
                done = 0
                for number, experiment in enumerate(experiments, 1):
                    await self._train_one(experiment, done, f"model {number} of {len(experiments)}")
                    if self._stopping:
                        self.status.value = _text("Stopped. Train goes on from here.")
                        return
                    done += experiment.steps
                self.status.value = _text(f"Done: {len(experiments)} model(s) trained.")
                self._show_results()
        finally:
            self.training = None
            self.train_button.disabled, self.stop_button.disabled = False, True

    async def _train_one(self, experiment: Experiment, done: int, label: str) -> None:
        progress = fit(experiment, weights=True)
        started = seen = drawn = time.perf_counter()
        first = None
        for now in progress:
            first = now.step if first is None else first
            clock = time.perf_counter()
            if clock - seen > SLICE or now.step == now.steps:
                self.bar.value = done + now.step
                left = (clock - started) / max(1, now.step - first) * (now.steps - now.step)
                self.status.value = _text(
                    f"{label}: {experiment.positions}, seed {experiment.seed}, step {now.step:,} of {now.steps:,}, "
                    f"loss {now.loss:.3f}, about {duration(left)} left"
                )
                if (now.rows and clock - drawn > REDRAW) or now.step == now.steps:
                    title = f"While it learns: {experiment.positions}, seed {experiment.seed}"
                    _put(self.figure, plots.training_curves(now.run.metrics, title=title))
                    drawn = clock
                await asyncio.sleep(0.005)
                seen = time.perf_counter()
            if self._stopping:
                progress.close()
                return
        self.runs[experiment.positions, experiment.seed] = now.run

    def _show_results(self) -> None:
        names = dict.fromkeys(name for name, _ in self.runs)
        tables = {
            name: evaluate(self.runs[name, 0], self.runs[name, 0].experiment.test_lengths, n=500) for name in names
        }
        e = next(iter(self.runs.values())).experiment
        theory = {name: predict(self.runs[name, 0].experiment, e.test_lengths) for name in names}
        title = f"{e.task}: exact match, seed 0"
        _put(self.figure, plots.by_length(tables, theory=theory, train_digits=e.train_domain.digits, title=title))
        frame = pd.DataFrame({"digits": e.test_lengths})
        for name, table in tables.items():
            frame[f"{name} (%)"] = (100 * table["exact_match"]).round(1)
        self.results.value = _table(frame)


class AskBox(w.VBox):
    """Type a question and see what a trained model answers, digits lined up under the truth."""

    def __init__(self, run: Run, question: str):
        super().__init__()
        self.run = run
        asked = {"value": question, "continuous_update": False}
        self.question = control(w.Text, "question", "for example 349+705", width=None, **asked)
        self.button = w.Button(description="Ask", tooltip="what does the model answer?")
        self.answer = w.HTML()
        self.children = [_heading("Ask the model"), w.HBox([self.question, self.button]), self.answer]
        self.question.observe(lambda change: self.ask(), names="value")
        self.button.on_click(lambda button: self.ask())
        self.ask()

    def ask(self) -> None:
        """Answer what stands in the box."""
        with told(self.answer):
            row = rows_of(self.run, [self.question.value])[0]
            self.answer.value = f"<pre role='status'>{html.escape(lined_up(self.run.experiment.task_, row))}</pre>"


class TheoryExplorer(w.VBox):
    """Theorem 5 to play with: modulus, base and training digits decide the accuracy at every length."""

    def __init__(self, operation: str = "add", modulus: int = 101, base: int = 10, digits: int = 4):
        super().__init__()
        controls = task_controls(operation, modulus, base, digits, least=2)
        self.operation, self.modulus, self.base, self.digits = controls
        self.words, self.figure = w.HTML(), w.Output()
        self.children = [_heading("What theory predicts"), *controls, self.words, self.figure]
        for one in controls:
            one.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def refresh(self) -> None:
        """Redraw for the present values."""
        with told(self.words):
            t = task(f"{self.operation.value} mod {self.modulus.value} base {self.base.value}")
            e = Experiment(task=str(t), train=f"D_{self.digits.value}", format=f"padded {self.digits.value + 8}")
            table = predict(e, range(1, self.digits.value + 6))
            limit = table["limit_accuracy"].iloc[-1]
            self.words.value = _text(
                f"{t}, trained on {self.digits.value} digits: the model computes "
                f"{table['predicted_function'].iloc[-1]}; far beyond the training length {100 * limit:.2f} % of its "
                "answers are right."
            )
            shares = dict.fromkeys(["exact_match", "low", "high"], table["predicted_accuracy"])
            theory, title = {"theory": table[["digits"]].assign(**shares)}, f"Predicted accuracy of {t}"
            figure = plots.by_length(theory, train_digits=self.digits.value, title=title, y="accuracy (%)")
            _put(self.figure, figure)
