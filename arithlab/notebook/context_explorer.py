"""A widget: type examples (x, y, z) and watch a model infer the task, its belief beside the exact one."""

import asyncio
import re
import time

import ipywidgets as w

from ..errors import ArithlabError
from ..inspection.in_context import answer_examples, belief, exact_belief
from ..training.estimate import duration, seconds_per_step
from ..training.fit import fit
from ..training.in_context import InContextExperiment
from ..training.runs import Run
from . import context_plots
from .widgets import SLICE, _heading, _put, _table, _text, control, told


class ContextExplorer(w.VBox):
    """Choose p, tasks, alpha and depth of a model, recorded or trained here, and give it examples of a task of yours.

    Examples are three numbers a line. The model never learns which task it is but from them.
    """

    def __init__(self, experiment: InContextExperiment, examples: str = "1 0 2\n0 1 3", question: str = "1 1"):
        super().__init__()
        self.experiment, self.training, self._stopping = experiment, None, False
        late = {"width": "18em", "continuous_update": False}
        self.p = control(w.BoundedIntText, "p", "numbers are 0 to p - 1", value=experiment.p, min=2, max=31, **late)
        self.tasks = control(w.IntText, "tasks", "tasks of pre-training", value=experiment.tasks, **late)
        self.alpha = control(w.FloatText, "alpha", "share of inputs seen", value=experiment.alpha, **late)
        blocks = {"value": experiment.shape.layers, "min": 1, "max": 6}
        self.depth = control(w.BoundedIntText, "blocks", "depth of the model", **blocks, **late)
        self.best = w.Checkbox(False, description="weights of the best step", indent=False)
        self.examples = control(
            w.Textarea, "examples", "x y z in each line", value=examples, rows=6, **late | {"width": None}
        )
        self.question = control(w.Text, "question", "x y", value=question, **late)
        self.train_button = w.Button(description="Train", button_style="primary", tooltip="train this model here")
        self.stop_button = w.Button(description="Stop", disabled=True, tooltip="Train goes on from there")
        self.status, self.answer, self.figure = w.HTML(), w.HTML(), w.Output()
        choice = w.HBox([self.p, self.tasks, self.alpha, self.depth], layout=w.Layout(flex_flow="row wrap"))
        self.children = [
            _heading("Which task is it?"),
            choice,
            w.HBox([self.train_button, self.stop_button, self.best]),
            self.status,
            w.HBox([self.examples, self.question], layout=w.Layout(flex_flow="row wrap")),
            self.answer,
            self.figure,
        ]
        for one in (self.p, self.tasks, self.alpha, self.depth, self.best, self.examples, self.question):
            one.observe(lambda change: self.refresh(), names="value")
        self.train_button.on_click(lambda button: self.start())
        self.stop_button.on_click(lambda button: self.stop())
        self.refresh()

    def chosen(self) -> InContextExperiment:
        """The experiment that the controls describe."""
        own = self.experiment.shape
        other = f"{self.depth.value}-{own.heads}-{own.width}"
        return self.experiment.with_(
            p=self.p.value,
            tasks=self.tasks.value,
            alpha=self.alpha.value,
            size=self.experiment.size if self.depth.value == own.layers else other,
        )

    def refresh(self) -> None:
        """Say whether the chosen model is there, and let it answer."""
        if self.training is not None:
            return
        self.answer.value, self.train_button.disabled = "", True
        _put(self.figure, None)
        with told(self.status):
            experiment = self.chosen()
            run = Run.of(experiment, light=False)
            if not run.finished:
                seconds = experiment.steps * seconds_per_step(experiment)
                words = f"Not trained yet: {experiment.title}, about {duration(seconds)} here. {experiment.notice}"
                self.status.value, self.train_button.disabled = _text(words), False
                return
            self.status.value = _text(f"Run {run.id}: {experiment.title}, {run.summary['steps']:,} steps.")
            self._ask(run)

    def _ask(self, run: Run) -> None:
        p, best = run.experiment.p, self.best.value
        examples = [_numbers(line, 3, "example") for line in self.examples.value.splitlines() if line.strip()]
        table = answer_examples(run, examples, _numbers(self.question.value, 2, "question"), best=best)
        said, exact = int(table.model.idxmax()), exact_belief(p, examples)
        left = int((exact > 0).sum())
        proven = f"the examples leave {left} of {p * p} tasks"
        if left and table.exact.max() > 0.999:
            proven += f", all of which answer {int(table.exact.idxmax())}"
        if not left:
            proven = "no task agrees with all the examples"
        words = f"The model answers {said} ({100 * table.model.max():.0f} %); {proven}."
        self.answer.value = _text(words) + _table((100 * table.set_index("z").T).round(1).reset_index(names="% of z ="))
        panels = {"the model's belief": belief(run, examples, best=best), "exact belief": exact}
        _put(self.figure, context_plots.beliefs(panels))

    def start(self) -> None:
        """Begin to train in the background of this kernel."""
        if self.training is None:
            self.training = asyncio.get_running_loop().create_task(self.train())

    def stop(self) -> None:
        """Ask the training to stop after this step; Train goes on from there."""
        self._stopping = True

    async def train(self) -> None:
        """Train the chosen model in slices, so that the page stays alive; called by `start`."""
        self._stopping, self.train_button.disabled, self.stop_button.disabled = False, True, False
        done = False
        try:
            with told(self.status):
                done = await self._train(self.chosen())
        finally:
            self.training, self.train_button.disabled, self.stop_button.disabled = None, False, True
        if done:
            self.refresh()

    async def _train(self, experiment: InContextExperiment) -> bool:
        """Whether the training came to its end."""
        progress, seen, started, first = fit(experiment, weights=True), 0.0, time.perf_counter(), None
        for now in progress:
            first = now.step if first is None else first
            clock = time.perf_counter()
            if clock - seen > SLICE:
                left = (clock - started) / max(1, now.step - first) * (now.steps - now.step)
                self.status.value = _text(
                    f"{experiment.title}: step {now.step:,} of {now.steps:,}, loss {now.loss:.3f}, "
                    f"about {duration(left)} left"
                )
                await asyncio.sleep(0.005)
                seen = time.perf_counter()
            if self._stopping:
                progress.close()
                self.status.value = _text("Stopped. Train goes on from here.")
                return False
        return True


def _numbers(text: str, count: int, what: str) -> tuple[int, ...]:
    found = re.findall(r"-?[0-9]{1,4}", text)
    if len(found) != count:
        names = " ".join("xyz"[:count])
        raise ArithlabError(f"{what} {text.strip()!r}: write {count} whole numbers, {names}, with spaces between.")
    return tuple(map(int, found))
