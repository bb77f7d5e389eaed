"""A widget: which digits each head reads while it writes the answer, beside those that an ideal adder would read."""

import html

import ipywidgets as w
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from ..errors import ArithlabError, shorten
from ..inspection.attention import attention
from ..inspection.ideal import needed_tokens
from ..training.answer import lined_up, rows_of
from ..training.runs import Run
from .plots import COLOURS, GREY, style
from .widgets import _heading, _put, _table, _text, control, told

GROUPS = {"a": "first operand", "b": "second operand", "c": "answer so far"}  # the rest: signs
BESIDE = ("words", "table")  # widgets that speak of the chosen head
STEPS = [i / 16 for i in range(17)]
SHADES = [
    [t * t, colour] for t, colour in zip(STEPS, sample_colorscale("Cividis", STEPS), strict=True)
]  # small ones show


class Grid:
    """Attention of one question as matrices: a row per written answer digit, a column per token read.

    Columns stand as on paper: highest place left, first operand, second operand, answer, signs, a gap between each.
    weights: (heads of all layers, rows, columns), NaN where a row cannot look or between groups. needed: (rows,
    columns), None where it is not known what an ideal model reads.
    """

    def __init__(self, run: Run, question: str):
        self.question = rows_of(run, [question])[0]  # the question, and what the model answered
        table, self.sink = attention(run, question), run.experiment.sink
        try:
            needed = needed_tokens(run.experiment, table)
        except ArithlabError:
            needed = None
        table["needed"] = False if needed is None else needed
        table = table[table["writes_role"] == "c"]
        keys = table.drop_duplicates("key").assign(
            group=lambda t: [GROUPS.get(role, "signs") for role in t["key_role"]]
        )
        order, self.columns, self.groups = [*GROUPS.values(), "signs"], [], {}
        for name in order:
            mine = keys[keys["group"] == name].sort_values("key_place", ascending=False, kind="stable")
            if len(mine):
                self.columns += [None] * bool(self.columns)
                self.groups[name] = (len(self.columns), len(self.columns) + len(mine) - 1)
                self.columns += mine["key"].tolist()
        self.labels = keys.set_index("key")["key_label"]
        operands = self.question["question"].split(run.experiment.task_.symbol)
        places = max(len(text.strip()) for text in operands) + 1  # of the answer: what is above is padding
        first = table[table["writes_place"] < places].drop_duplicates("query")
        self.rows, self.writes = first["query"].tolist(), first["writes"].tolist()
        self.heads = sorted(set(zip(table["layer"], table["head"], strict=True)))
        shape = (len(self.heads), len(self.rows), len(self.columns))
        self.weights = np.full(shape, np.nan)
        at = {key: column for column, key in enumerate(self.columns) if key is not None}
        shown = table[table["query"].isin(self.rows)]
        head = [self.heads.index(one) for one in zip(shown["layer"], shown["head"], strict=True)]
        row, column = shown["query"].map(self.rows.index), shown["key"].map(at)
        self.weights[head, row, column] = shown["weight"]
        self.needed = None if needed is None else np.zeros(shape[1:], bool)
        if needed is not None:
            self.needed[row[shown["needed"]], column[shown["needed"]]] = True

    def reads(self, head: int) -> pd.DataFrame:
        """What a head reads while it writes each answer digit: the three strongest tokens, the share on needed ones.

        And the share on the attention sink, where the model has one.
        """
        rows = []
        for row, writes in enumerate(self.writes):
            weights = np.nan_to_num(self.weights[head, row])
            best = np.argsort(-weights, kind="stable")[:3]
            words = [f"{self.labels[self.columns[c]]} ({100 * weights[c]:.0f} %)" for c in best if weights[c] >= 0.005]
            rows.append({"this answer digit": writes, "reads most": ", ".join(words)})
            if self.needed is not None:
                rows[-1]["on needed tokens (%)"] = f"{100 * weights[self.needed[row]].sum():.0f}"
            if self.sink:
                rows[-1]["on the sink (%)"] = f"{100 * (1 - weights.sum()):.0f}"
        return pd.DataFrame(rows)

    def score(self, head: int) -> tuple[float, float]:
        """The mean share of a head's attention on needed tokens, and what reading every token alike would give."""
        weights = self.weights[head]
        share, chance = np.nansum(weights * self.needed, 1), self.needed.sum(1) / (~np.isnan(weights)).sum(1)
        return float(share.mean()), float(chance.mean())


def _name(head: tuple[int, int]) -> str:
    return f"layer {head[0] + 1}, head {head[1] + 1}"


def _hover(grid: Grid) -> list[list[str]]:
    """For every cell: what is written, what is read, and whether it is needed."""
    return [
        [
            ""
            if key is None
            else f"{writes} reads {grid.labels[key]}"
            + (", which is needed" if grid.needed is not None and grid.needed[row, column] else "")
            for column, key in enumerate(grid.columns)
        ]
        for row, writes in enumerate(grid.writes)
    ]


def _heatmap(grid: Grid, head: int, **more) -> go.Heatmap:
    return go.Heatmap(
        z=grid.weights[head],
        zmin=0,
        zmax=1,
        colorscale=SHADES,
        customdata=_hover(grid),
        hoverongaps=False,
        hovertemplate="%{customdata}: %{z:.0%}<extra>" + _name(grid.heads[head]) + "</extra>",
        **more,
    )


def _frames(grid: Grid) -> go.Scatter:
    """The outlines of the cells that an ideal adder reads."""
    x, y = [], []
    for row, column in zip(*np.nonzero(grid.needed), strict=True):
        x += [column + side for side in (-0.46, 0.46, 0.46, -0.46, -0.46)] + [None]
        y += [row + side for side in (-0.46, -0.46, 0.46, 0.46, -0.46)] + [None]
    line = {"color": COLOURS[1], "width": 2}
    return go.Scatter(
        x=x, y=y, mode="lines", line=line, name="an ideal adder reads these", showlegend=True, hoverinfo="skip"
    )


def overview(grid: Grid) -> go.Figure:
    """All heads at a glance: a small map each, a row per layer; frames mark what an ideal adder would read."""
    layers = len({layer for layer, _ in grid.heads})
    columns = len(grid.heads) // layers
    titles = [_name(one) for one in grid.heads]
    if grid.needed is not None:
        titles = [f"{title}: {100 * grid.score(i)[0]:.0f} %" for i, title in enumerate(titles)]
    figure = make_subplots(
        layers, columns, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=min(0.3 / layers, 0.15)
    )
    for index in range(len(grid.heads)):
        where = {"row": index // columns + 1, "col": index % columns + 1}
        figure.add_trace(_heatmap(grid, index, showscale=False), **where)
        if grid.needed is not None:
            figure.add_trace(_frames(grid).update(showlegend=False, line={"width": 1}), **where)
    figure.update_annotations(font={"size": 11})
    middles = {name: (first + last) / 2 for name, (first, last) in grid.groups.items() if name != "signs"}
    figure.update_xaxes(tickvals=list(middles.values()), ticktext=["a", "b", "answer"][: len(middles)], showgrid=False)
    figure.update_yaxes(autorange="reversed", showticklabels=False, showgrid=False)
    rows = {"tickvals": list(range(len(grid.writes))), "ticktext": grid.writes, "tickfont": {"size": 10}}
    figure.update_yaxes(showticklabels=True, automargin=True, **rows, col=1)
    title, score = "All heads", ""
    if grid.needed is not None:
        score = ", with the share of attention on the tokens that an ideal adder needs"
        title += "; framed: what an ideal adder needs"
    height = 110 + layers * max(120, 30 + 16 * len(grid.writes))
    style(figure, f"All heads{score}: {'; '.join(titles)}.", title=title, height=height)
    figure.update_xaxes(showgrid=False, ticks="", linecolor="rgba(0,0,0,0)")
    return figure.update_yaxes(showgrid=False, ticks="", linecolor="rgba(0,0,0,0)").update_layout(margin={"l": 10})


def _beside(grid: Grid, chosen: int) -> dict[str, str]:
    """What stands beside a head's map, as HTML by BESIDE: its score in words, and what it reads as a table."""
    said = f"{_name(grid.heads[chosen])} while the model answers {grid.question['question']}"
    if grid.needed is None:
        said += ": what an ideal model would read is worked out for plain addition only."
    else:
        share, alike = grid.score(chosen)
        said += (
            f": {100 * share:.0f} % of its attention lies on the tokens that an ideal adder needs "
            f"({100 * alike:.0f} % if it read every token alike)."
        )
    return dict(zip(BESIDE, (_text(said.capitalize()), _table(grid.reads(chosen))), strict=True))


def detail(grid: Grid, chosen: int) -> go.Figure:
    """One head's map. The figure holds every head's: `choices` in its meta tell an exported page how to switch."""
    figure, choices, count = go.Figure(), [], len(grid.heads)
    for index, head in enumerate(grid.heads):
        figure.add_trace(_heatmap(grid, index, xgap=1, ygap=1, visible=index == chosen, colorbar={"title": "weight"}))
        read = grid.reads(index)
        said = "; ".join(f"{one} reads {most}" for one, most in zip(read.iloc[:, 0], read.iloc[:, 1], strict=True))
        choices.append(
            {
                "name": _name(head),
                "visible": [i == index for i in range(count)] + [True] * (grid.needed is not None),
                "alt": f"What {_name(head)} reads while the model answers {grid.question['question']}: {said}.",
                "beside": _beside(grid, index),
            }
        )
    if grid.needed is not None:
        figure.add_trace(_frames(grid))
    labels = {c: grid.labels[key] for c, key in enumerate(grid.columns) if key is not None}
    figure.update_xaxes(tickvals=list(labels), ticktext=list(labels.values()), tickangle=-90)
    figure.update_yaxes(
        tickvals=list(range(len(grid.writes))), ticktext=[f"writes {one}" for one in grid.writes], autorange="reversed"
    )
    for name, (first, last) in grid.groups.items():
        figure.add_annotation(
            x=(first + last) / 2, y=1, yref="paper", yanchor="bottom", text=name, showarrow=False, font={"color": GREY}
        )
    style(figure, choices[chosen]["alt"], title="One head in detail", height=190 + 30 * len(grid.writes))
    figure.update_layout(meta={"alt": choices[chosen]["alt"], "choices": choices, "chosen": chosen})
    figure.update_layout(legend={"y": 1.16, "x": 1, "xanchor": "right", "yanchor": "bottom"}, margin={"t": 90})
    return figure.update_xaxes(showgrid=False).update_yaxes(showgrid=False)


class AttentionViewer(w.VBox):
    """Attention of the pass that answered, by layer, head and example: small maps of all heads, one in detail.

    Rows of the maps are answer digits in the order of writing, columns the tokens read, lined up by place. Frames mark
    what an ideal adder would read (plain addition only). Raises ArithlabError where it is given no example.
    """

    def __init__(self, run: Run, questions: list[str]):
        super().__init__()
        if not isinstance(questions, (list, tuple)) or not questions:
            raise ArithlabError(f"questions {shorten(questions)}: give a list of at least one, such as ['4789+3214'].")
        self.run, self.grids, self.grid = run, {}, None
        shape = run.experiment.shape
        layers, heads = ([(str(i + 1), i) for i in range(n)] for n in (shape.layers, shape.heads))
        self.example = control(w.Dropdown, "example", "a question to look into", options=list(questions))
        typed = {"placeholder": "such as 349+705", "continuous_update": False}
        self.other = control(w.Text, "another", "a question of your own: type it and press Enter", **typed)
        self.layer = control(w.Dropdown, "layer", "whose heads", options=layers, value=shape.layers - 1)
        self.head = control(w.Dropdown, "head", "which head", options=heads)
        self.words, self.answer, self.table = w.HTML(), w.HTML(), w.HTML()
        for name in BESIDE:
            getattr(self, name).add_class(name)
        self.overview, self.detail = w.Output(), w.Output()
        controls = w.HBox([self.example, self.other, self.layer, self.head], layout=w.Layout(flex_flow="row wrap"))
        heading = _heading("Which digits does it read?")
        self.children = [heading, controls, self.answer, self.words, self.overview, self.detail, self.table]
        self.example.observe(lambda change: self.ask(self.example.value), names="value")
        self.other.observe(lambda change: self.other.value and self._add(self.other.value), names="value")
        for one in (self.layer, self.head):
            one.observe(lambda change: self.refresh(), names="value")
        self.ask(self.example.value)
        if self.grid is not None and self.grid.needed is not None:  # begin with the head most like an ideal adder
            self.layer.value, self.head.value = max(
                self.grid.heads, key=lambda one: self.grid.score(self.grid.heads.index(one))
            )

    def ask(self, question: str) -> None:
        """Look into the answer to this question; what cannot be asked is said, and the maps stay."""
        with told(self.words):
            if question not in self.grids:
                self.grids[question] = Grid(self.run, question)
            self.grid = self.grids[question]
            written = lined_up(self.run.experiment.task_, self.grid.question)
            self.answer.value = f"<pre>{html.escape(written)}</pre>"
            _put(self.overview, overview(self.grid))
            self.refresh()

    def _add(self, question: str) -> None:
        """Look into a typed question, and put it on the list, so that one can come back to it and to the others."""
        self.ask(question)
        if question in self.grids:
            if question not in self.example.options:
                self.example.options = (*self.example.options, question)
            self.example.value = question

    def refresh(self) -> None:
        """Show the chosen head."""
        if self.grid is None:  # no question could be asked yet
            return
        chosen = self.grid.heads.index((self.layer.value, self.head.value))
        for name, shown in _beside(self.grid, chosen).items():
            getattr(self, name).value = shown
        _put(self.detail, detail(self.grid, chosen))
