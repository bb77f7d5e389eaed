"""A widget: how far does a trained model carry on, and what happens if it may see more, less, or less sharply?"""

import math
from collections.abc import Mapping

import ipywidgets as w
import pandas as pd

from ..arithmetic.digits import MAX_DIGITS
from ..errors import ArithlabError, shorten
from ..model.transformer import Probe
from ..training.evaluate import evaluate
from ..training.runs import Run
from . import plots
from .widgets import _heading, _put, _text, control, told

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 200, 500, 1000)
WINDOWS = (0, 1, 2, 3, 4, 8, 16, math.inf)
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
NEAR, ALL = 20_000, 40_000_000  # tokens with a window, pairs of tokens without: about a second on two cores


class LengthExplorer(w.VBox):
    """Lists for the training digits, the window, the temperature of attention and the test length of recorded runs.

    The window is that of the answering pass: the model keeps the weights that it was trained to with its own. Every
    setting tried stays in the figure.
    """

    def __init__(self, runs: Mapping[int, Run], digits: int = 20):
        super().__init__()
        self.runs, self.tried = dict(runs), {}
        if not self.runs:
            raise ArithlabError("LengthExplorer was given no run: give it some by training digits, as in {3: run}.")
        if type(digits) is not int or not 1 <= digits <= MAX_DIGITS:
            raise ArithlabError(f"digits {shorten(digits)}: allowed are whole numbers from 1 to {MAX_DIGITS:,}.")
        trained = [run.experiment.encoding.window for run in self.runs.values()]
        sizes = sorted({*WINDOWS, *(window for window in trained if window is not None)})
        windows, own = [("all" if math.isinf(window) else str(window), window) for window in sizes], trained[0]
        self.train_digits = control(w.Dropdown, "training digits", "which model", options=list(self.runs))
        seen = {"options": windows, "value": math.inf if own is None else own}
        self.window = control(w.Dropdown, "window", "how far the answering pass sees", **seen)
        heat = {"options": TEMPERATURES, "value": 1.0}
        self.temperature = control(w.Dropdown, "temperature", "below 1: sharper attention", **heat)
        lengths = sorted({*LENGTHS, digits})
        self.digits = control(w.Dropdown, "test digits", "of the sums asked", options=lengths, value=digits)
        self.words, self.figure = w.HTML(), w.Output()
        controls = [self.train_digits, self.window, self.temperature, self.digits]
        self.children = [_heading("How far does it carry on?"), *controls, self.words, self.figure]
        for one in controls:
            one.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def refresh(self) -> None:
        """Test the present setting and add it to the figure."""
        with told(self.words):
            self._test()

    def _test(self) -> None:
        run, digits = self.runs[self.train_digits.value], self.digits.value
        tokens = run.experiment.format_.length(run.experiment.task_, digits)
        at_once = ALL // tokens**2 if math.isinf(self.window.value) else NEAR // tokens
        probe = Probe(attention=None, temperature=self.temperature.value, window=self.window.value)
        row = evaluate(run, [digits], n=min(200, max(3, at_once)), probe=probe).iloc[0]
        window = "all" if math.isinf(self.window.value) else self.window.value
        name = f"trained on {self.train_digits.value}, window {window}, temperature {self.temperature.value:g}"
        self.tried.setdefault(name, {})[digits] = row
        self.words.value = _text(
            f"{name}: {100 * row.exact_match:.1f} % of {row.n} sums of {digits:,} digits are right."
        )
        tables = {key: pd.DataFrame([found[n] for n in sorted(found)]) for key, found in self.tried.items()}
        figure = plots.by_length(tables, title="Every setting tried")
        figure.update_xaxes(type="log", dtick=None, tickvals=self.digits.options)
        _put(self.figure, figure)
