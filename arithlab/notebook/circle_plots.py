"""Figures of how an in-context model holds numbers, of what `inspection.circles` finds."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..arithmetic.in_context import logarithms
from ..inspection.circles import ratio_score
from .maps import CYCLE
from .plots import GREY, heat, style


def circles(panels: Mapping[str, pd.DataFrame], *, by: str = "log_ratio", title: str = "What a head adds") -> go.Figure:
    """The first two principal components of heads, coloured by a logarithm; from `circles.head_components`."""
    figure, said = make_subplots(1, len(panels), subplot_titles=list(panels)), []
    for column, (name, table) in enumerate(panels.items(), 1):
        known, cycle = table.dropna(subset=["log_x", "log_y"]), {"cmin": 0, "cmax": table["x"].max()}
        figure.add_scatter(
            x=known.pc1,
            y=known.pc2,
            mode="markers",
            marker={"color": known[by], "colorscale": CYCLE, **cycle, "size": 9, "line": {"width": 0.5, "color": GREY}},
            customdata=known[["x", "y", "log_x", "log_y"]],
            hovertemplate="x %{customdata[0]}, y %{customdata[1]}<br>logarithms %{customdata[2]}, %{customdata[3]}"
            "<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        shares = table.attrs["shares"]
        said.append(f"{name}: {100 * sum(shares[:2]):.0f} % of the variance in two components")
    figure.update_xaxes(title="first component")
    figure.update_yaxes(title="second component", col=1)
    return style(figure, f"{title}, coloured by {by}. {'. '.join(said)}.", title=title)


def similarities(panels: Mapping[str, pd.DataFrame], *, title: str = "How alike two questions are held") -> go.Figure:
    """Cosine similarities of all pairs of questions, of `circles.similarity`: squares on the diagonal share a ratio."""
    figure, said = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.08), []
    for column, (name, matrix) in enumerate(panels.items(), 1):
        p = round(len(matrix) ** 0.5)
        ratios = [str(y * pow(x, -1, p) % p) if x * y else "0 in it" for x, y in matrix.index]
        pairs = [f"x = {x}, y = {y}" for x, y in matrix.index]
        heat(
            figure,
            matrix,
            None,
            None,
            (1, column),
            low=-1.0,
            high=1.0,
            unit="cosine",
            bar=column == len(panels),
            gap=None,
            colorscale="RdBu",
            text=[[f"{first}<br>{second}" for second in pairs] for first in pairs],
            hovertemplate="%{text}: %{z:.2f}<extra></extra>",
        )
        middles = {ratio: np.mean([k for k, of in enumerate(ratios) if of == ratio]) for ratio in dict.fromkeys(ratios)}
        ticks = {"tickvals": [*middles.values()], "ticktext": [*middles]}
        figure.update_xaxes(ticks, title="ratio y / x", row=1, col=column)
        figure.update_yaxes(ticks, autorange="reversed", scaleanchor=f"x{column}", row=1, col=column)
        score = ratio_score(matrix, p)
        said.append(f"{name}: pairs of one ratio are more alike by {score:.2f} than others")
    return style(figure, f"{title}. {'. '.join(said)}.", title=title, height=480)


def neurons(values: np.ndarray, *, most: int = 6, title: str = "What neurons respond to") -> go.Figure:
    """The neurons of an MLP that vary most over the questions (x, y), of `circles.activations`.

    x and y stand in the order of their logarithms, 0 last: one ratio y / x is a diagonal.
    """
    p = len(values)
    order = np.argsort(logarithms(p)[0])
    chosen = values.var((0, 1)).argsort()[::-1][:most]
    figure = make_subplots(1, len(chosen), subplot_titles=[f"neuron {k}" for k in chosen], shared_yaxes=True)
    names, said = [str(number) for number in order], []
    for column, k in enumerate(chosen, 1):
        grid = values[:, :, k].T[np.ix_(order, order)]
        highest = {"low": 0.0, "high": float(grid.max()), "unit": None, "bar": False}
        more = {"hovertemplate": "x = %{x}, y = %{y}: %{z:.2f}<extra></extra>"}
        heat(figure, grid, names, names, (1, column), **highest, gap=1, **more)
        y, x = np.unravel_index(grid.argmax(), grid.shape)
        said.append(f"neuron {k}: up to {grid.max():.1f}, at x = {names[x]}, y = {names[y]}")
    figure.update_xaxes(title="x", type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="y", col=1)
    return style(figure, f"{title}. {'; '.join(said)}.", title=title, height=300)


def heads(panels: Mapping[str, pd.Series], *, title: str = "Every head") -> go.Figure:
    """One number in percent per head: a panel for each series, indexed by layer and head."""
    figure, said = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True), []
    for column, (name, values) in enumerate(panels.items(), 1):
        grid = 100 * values.unstack("head")
        names = [f"head {head}" for head in grid.columns], [f"block {layer}" for layer in grid.index]
        text = {"text": grid.map("{:.0f}".format), "texttemplate": "%{text}", "hovertemplate": "%{y}, %{x}: %{z:.1f} %"}
        heat(figure, grid, *names, (1, column), bar=column == len(panels), **text)
        said.append(f"{name}: " + ", ".join(f"{at} {100 * value:.0f} %" for at, value in values.items()))
    figure.update_yaxes(autorange="reversed")
    return style(figure, f"{title}, (block, head). {'. '.join(said)}.", title=title, height=150 + 50 * len(grid))
