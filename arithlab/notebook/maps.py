"""Figures of answers over a lattice, of digit probabilities and of representations."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .plots import heat, style

CYCLE = "HSV"  # digits go round: 9 is beside 0


def contours(table: pd.DataFrame, panels: Mapping[str, str], *, title: str) -> go.Figure:
    """A contour map per panel over the operands of `inspection.outputs.lattice`, each from its lowest to its highest.

    panels: title to column.
    """
    figure, said = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True), []
    for index, (name, column) in enumerate(panels.items(), 1):
        grid = table.pivot(index="b", columns="a", values=column)
        figure.add_contour(
            x=grid.columns,
            y=grid.index,
            z=grid.to_numpy(dtype=float),
            colorscale="Cividis",
            ncontours=10,
            line={"width": 0.5},
            showscale=False,
            hovertemplate="%{x} and %{y}: %{z}<extra></extra>",
            row=1,
            col=index,
        )
        same = (table[column] == table["answer"]).mean()
        low, high = table[column].min(), table[column].max()
        said.append(f"{name}: {low:,.0f} to {high:,.0f}, equal to the answer at {100 * same:.0f} % of the points")
    figure.update_xaxes(title="a")
    figure.update_yaxes(title="b", col=1)
    return style(figure, f"{title}. {'; '.join(said)}.", title=title, height=380)


def probabilities(tables: Mapping[str, pd.DataFrame], *, title: str) -> go.Figure:
    """Digit probabilities at every place of the answer, a panel per question; from `output_distribution`."""
    figure, said = make_subplots(1, len(tables), subplot_titles=list(tables), shared_yaxes=True), []
    for index, (question, table) in enumerate(tables.items(), 1):
        grid = table.pivot(index="digit", columns="place", values="probability")
        hover, last = "place %{x}, digit %{y}: %{z:.2f}<extra></extra>", index == len(tables)
        at = (1, index)
        heat(figure, grid, grid.columns, grid.index, at, high=1, unit=None, bar=last, gap=None, hovertemplate=hover)
        best = table.loc[table.groupby("place")["probability"].idxmax()]
        said.append(f"{question}: {''.join(best['digit'][::-1])}, each digit at least {best['probability'].min():.2f}")
    figure.update_xaxes(title="place", autorange="reversed", dtick=1)
    figure.update_yaxes(title="digit", type="category", col=1)
    return style(figure, f"{title}. {'; '.join(said)}.", title=title, height=360)


def clouds(stages: Mapping[str, np.ndarray], colour: Sequence[int], *, title: str, called: str = "units") -> go.Figure:
    """The first two coordinates of points (N, 2 or more) at several stages, coloured by a digit per point."""
    figure, said, colour = make_subplots(1, len(stages), subplot_titles=list(stages)), [], np.asarray(colour)
    for index, (name, points) in enumerate(stages.items(), 1):
        figure.add_scatter(
            x=points[:, 0],
            y=points[:, 1],
            mode="markers",
            marker={
                "size": 4,
                "color": colour,
                "colorscale": CYCLE,
                "cmin": 0,
                "cmax": 10,
                "showscale": index == len(stages),
                "colorbar": {"title": called},
            },
            text=[f"{called} {digit}" for digit in colour],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            row=1,
            col=index,
        )
        said.append(
            f"{name}: {100 * separation(points, colour):.0f} % of the points are nearest to their own digit's centre"
        )
    figure.update_xaxes(title="first component", showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    figure.update_yaxes(title="second", col=1)
    return style(figure, f"{title}. {'; '.join(said)}.", title=title, height=360)


def separation(points: np.ndarray, group: Sequence[int]) -> float:
    """The share of points (N, D) whose nearest group centre is that of their own group.

    >>> separation(np.array([[0.0], [1.0], [10.0], [11.0]]), [0, 0, 1, 1])
    1.0
    """
    group = np.asarray(group)
    names = np.unique(group)
    centres = np.stack([points[group == name].mean(0) for name in names])
    nearest = ((points[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    return float((names[nearest] == group).mean())
