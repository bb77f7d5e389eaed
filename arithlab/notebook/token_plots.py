"""Figures of tokens, attention and digits; see plots.py for the common look."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..arithmetic import digits as dg
from ..arithmetic.formats import Format
from ..arithmetic.tasks import Task
from ..arithmetic.tokens import ROLES
from .plots import COLOURS, GREY, heat, look, style

SHADES = {"a": COLOURS[0], "b": COLOURS[1], "c": COLOURS[2], "r": COLOURS[2]}


def token_strip(task: Task, formats: Mapping[str, Format], question: str) -> go.Figure:
    """The tokens of one example in several formats: each token a box, its place under it, coloured by operand."""
    a, b = task.parse_question(question)
    width = max(len(a), len(b))
    figure, said = go.Figure(), []
    longest = 0
    for row, (name, format_) in enumerate(formats.items()):
        tokens = format_.encode(task, dg.fit_width(a[None], width), dg.fit_width(b[None], width))
        symbols = [format_.vocabulary(task)[i] for i in tokens.ids[0]]
        roles = [ROLES[i] for i in tokens.role[0]]
        longest = max(longest, len(symbols))
        y = -row
        figure.add_scatter(
            x=list(range(len(symbols))),
            y=[y] * len(symbols),
            mode="markers+text",
            text=[f"<b>{s[1:-1] if s[0] == '[' else s[:1] if s[0] != '<' else s[1]}</b>" for s in symbols],
            textfont={"color": "white", "size": 13},
            showlegend=False,
            marker={"symbol": "square", "size": 24, "color": [SHADES.get(role, "#666666") for role in roles]},
            customdata=[[s, role, int(p)] for s, role, p in zip(symbols, roles, tokens.place[0], strict=True)],
            hovertemplate="token %{customdata[0]}<br>belongs to %{customdata[1]}, place %{customdata[2]}<extra>"
            + name
            + "</extra>",
        )
        figure.add_scatter(
            x=list(range(len(symbols))),
            y=[y - 0.36] * len(symbols),
            mode="text",
            showlegend=False,
            hoverinfo="skip",
            text=[str(p) if role in SHADES else "" for p, role in zip(tokens.place[0], roles, strict=True)],
            textfont={"size": 10, "color": GREY},
        )
        said.append(f"{name}: {' '.join(symbols)}")
    for role, words in (("a", "first operand"), ("b", "second operand"), ("c", "answer")):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=words,
            marker={"symbol": "square", "size": 12, "color": SHADES[role]},
        )
    figure.update_xaxes(title="position of the token in the line", range=[-1, longest], dtick=5)
    names = list(formats)
    figure.update_yaxes(
        tickvals=[-i for i in range(len(names))], ticktext=names, range=[-len(names) + 0.3, 0.6], showgrid=False
    )
    alt = f"The example {question} as tokens, places of digits below each. {'. '.join(said)}."
    title = f"{question} as the model sees it (small numbers: places, 0 = units)"
    style(figure, alt, title=title, height=140 + 85 * len(names))
    return figure.update_layout(legend_y=-0.6 / len(names) - 0.1)  # below the title of the axis, however low the figure


def dependence_maps(tables: Mapping[str, np.ndarray]) -> go.Figure:
    """One panel per task: how often an answer digit (row) changes with an input digit (column), in percent."""
    figure = make_subplots(1, len(tables), subplot_titles=list(tables), horizontal_spacing=0.08)
    said = []
    for column, (name, table) in enumerate(tables.items(), 1):
        percent = 100 * table
        heat(
            figure,
            percent,
            None,
            None,
            (1, column),
            bar=column == len(tables),
            name=name,
            text=[[f"{v:.0f}" for v in row] for row in percent],
            hovertemplate="answer place %{y}, input place %{x}: %{z:.1f} %<extra>" + name + "</extra>",
        )
        read = "; ".join(
            f"answer place {k} depends on input places {', '.join(map(str, np.flatnonzero(row > 0.005))) or 'none'}"
            for k, row in enumerate(table)
        )
        said.append(f"{name}: {read}")
    figure.update_xaxes(title="place of the changed input digit", dtick=1)
    figure.update_yaxes(dtick=1)
    figure.update_yaxes(title="place of the answer digit", col=1)
    title = "How often does the answer digit change with the input digit? (%)"
    return style(figure, f"{title} {'. '.join(said)}.", title=title, height=400)


def compare_curves(curves: Mapping[str, pd.DataFrame], digits: Sequence[int], *, title: str) -> go.Figure:
    """Exact match over training, averaged over the given lengths, one line per run (`run.metrics`)."""
    figure, said = go.Figure(), []
    for index, (name, metrics) in enumerate(curves.items()):
        mean = 100 * metrics[metrics["digits"].isin(list(digits))].groupby("step")["exact_match"].mean()
        figure.add_scatter(x=mean.index, y=mean, name=name, mode="lines+markers", **look(index))
        reached = mean[mean >= 90]
        said.append(
            f"{name}: "
            + (f"90 % reached at step {reached.index[0]}" if len(reached) else f"ends at {mean.iloc[-1]:.0f} %")
        )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="exact match (%)", range=[-4, 104])
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)
