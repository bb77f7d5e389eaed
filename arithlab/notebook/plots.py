"""Figures: every function takes a table and returns a plotly Figure that says in words what it shows.

Colours are safe for colour-blind readers and readable on white and on black; lines differ in dash and
marker too. The text alternative is worked out from the numbers and kept in layout.meta["alt"].
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # at least 3:1 on white and on #111
GREY = "#808080"
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")
GRID = "rgba(128,128,128,0.25)"


def style(figure: go.Figure, alt: str, *, title: str, height: int = 400) -> go.Figure:
    """Give a figure the look of the series and its text alternative."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 15}},
        meta={"alt": alt},
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13},
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0},
        hoverlabel={"font": {"color": "white"}},
    )
    figure.update_xaxes(gridcolor=GRID, linecolor=GREY, zeroline=False, ticks="outside", tickcolor=GRID)
    figure.update_yaxes(gridcolor=GRID, linecolor=GREY, zeroline=False, ticks="outside", tickcolor=GRID)
    return figure


def look(index: int) -> dict:
    """Colour, marker and dash of the series with this index."""
    line = {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index // len(COLOURS) % len(DASHES)], "width": 2}
    return {"line": line, "marker": {"symbol": MARKERS[index % len(MARKERS)], "size": 8}}


def heat(
    figure: go.Figure,
    z: object,
    x: object,
    y: object,
    at: tuple[int, int] | None,
    *,
    low: float = 0.0,
    high: float = 100.0,
    unit: str | None = "%",
    bar: bool | None = None,
    gap: int | None = 2,
    **more,
) -> None:
    """Add a heat map with colours from low to high, in the panel at (row, column) where there are several.

    bar: whether the colour bar is shown; it names the unit. more: options of plotly, before those worked out here; a
    `text` is written into the cells.
    """
    row, column = at or (None, None)
    options = {
        "zmin": low, "zmax": high, "colorscale": "Cividis", "xgap": gap, "ygap": gap,
        "colorbar": {"title": unit}, "showscale": bar, "texttemplate": "%{text}" if "text" in more else None,
    }  # fmt: skip
    figure.add_heatmap(z=np.asarray(z), x=x, y=y, row=row, col=column, **options | more)


def by_length(
    tables: Mapping[str, pd.DataFrame],
    *,
    measure: str = "exact_match",
    train_digits: int | None = None,
    theory: Mapping[str, pd.DataFrame] | None = None,
    guess: Sequence[float] | None = None,
    x: str = "digits",
    title: str = "Accuracy by number of digits",
    y: str = "exact match (%)",
) -> go.Figure:
    """Accuracy by test length, one line per table (of `evaluate`), with 95 % intervals.

    measure: exact_match or agreement. theory: tables of `predict`, drawn dotted; guess: the reader's
    own percentages from the first length on. x: the column to draw against, if not the digits.
    """
    bounds = {"exact_match": ("low", "high"), "agreement": ("agreement_low", "agreement_high")}[measure]
    figure, said = go.Figure(), []
    for index, (name, table) in enumerate(tables.items()):
        percent = 100 * table[measure]
        figure.add_scatter(
            x=table[x],
            y=percent,
            name=name,
            mode="lines+markers",
            **look(index),
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1,
                "array": 100 * table[bounds[1]] - percent,
                "arrayminus": percent - 100 * table[bounds[0]],
            },
            hovertemplate=f"{x} %{{x}}: %{{y:.1f}} %<extra>{name}</extra>",
        )
        said.append(f"{name}: {_series(table[x], percent)}")
    for index, (name, table) in enumerate((theory or {}).items()):
        percent = 100 * table["predicted_accuracy"]
        figure.add_scatter(
            x=table[x],
            y=percent,
            name=f"theory: {name}",
            mode="lines",
            line={"color": COLOURS[index % len(COLOURS)], "dash": "dot", "width": 5},
            opacity=0.45,
        )
        said.append(f"theory for {name}: {_series(table[x], percent)}")
    if guess:
        digits = next(iter(tables.values()))["digits"].iloc[: len(guess)]
        said.append(_add_guess(figure, digits, guess))
    _mark_training(figure, train_digits)
    figure.update_xaxes(
        title="digits of the operands" if x == "digits" else x,
        dtick=1 if all(len(t) <= 20 for t in tables.values()) else None,
    )
    figure.update_yaxes(title=y, range=[-4, 104])
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)


def seeds_by_length(
    table: pd.DataFrame,
    *,
    by: str,
    measure: str = "exact_match",
    train_digits: int | None = None,
    guess: Sequence[float] | None = None,
    log: bool = False,
    x: str = "digits",
    title: str = "Every seed, and the median",
) -> go.Figure:
    """Accuracy by length with every seed as a thin line and the median as a thick one, one colour per value of `by`.

    guess: the reader's own percentages, for the lengths in the table from the first on. log: lengths on a logarithmic
    axis. x: the column to draw against, if not the digits.
    """
    figure, said = go.Figure(), []
    for index, (name, group) in enumerate(table.groupby(by, sort=False)):
        style_ = look(index)
        for _, one in group.groupby("seed"):
            figure.add_scatter(
                x=one[x],
                y=100 * one[measure],
                mode="lines",
                opacity=0.35,
                showlegend=False,
                line={**style_["line"], "width": 1},
                hoverinfo="skip",
            )
        middle = group.groupby(x)[measure].median() * 100
        seeds = group["seed"].nunique()
        figure.add_scatter(x=middle.index, y=middle, name=f"{name} (median of {seeds})", mode="lines+markers", **style_)
        said.append(f"{name}, median of {seeds} seeds: {_series(middle.index, middle)}")
    lengths = sorted(table[x].unique())
    if guess:
        said.append(_add_guess(figure, lengths[: len(guess)], guess))
    _mark_training(figure, train_digits, log)
    figure.update_xaxes(
        title="digits of the operands" if x == "digits" else x,
        **({"type": "log", "tickvals": lengths} if log else {"dtick": 1}),
    )
    figure.update_yaxes(
        title="exact match (%)" if measure == "exact_match" else "agreement with theory (%)", range=[-4, 104]
    )
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)


def length_heatmaps(
    maps: Mapping[str, pd.DataFrame],
    *,
    train_digits: int | None = None,
    measure: str = "exact_match",
    title: str = "Exact match by the lengths of both operands",
) -> go.Figure:
    """One panel per table of `length_map`: rows digits of a, columns digits of b, colour exact match in percent.

    train_digits: the training length, which is framed; None where it is not known.
    """
    figure = make_subplots(1, len(maps), subplot_titles=list(maps), shared_yaxes=True, horizontal_spacing=0.03)
    said = []
    for column, (name, table) in enumerate(maps.items(), 1):
        grid = table.pivot(index="a_digits", columns="b_digits", values=measure) * 100
        hover = "a: %{y} digits, b: %{x} digits<br>%{z:.0f} %<extra>" + name + "</extra>"
        at, last = (1, column), column == len(maps)
        heat(figure, grid, grid.columns, grid.index, at, bar=last, gap=1, hovertemplate=hover)
        if train_digits is None:
            said.append(f"{name}: {100 * table[measure].mean():.0f} % on average over the pairs of lengths")
            continue
        edge = train_digits + 0.5
        figure.add_scatter(
            x=[0.5, edge, edge],
            y=[edge, edge, 0.5],
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line={"color": COLOURS[1], "width": 3},
            row=1,
            col=column,
        )
        inside = (table["a_digits"] <= train_digits) & (table["b_digits"] <= train_digits)
        said.append(
            f"{name}: {100 * table.loc[inside, measure].mean():.0f} % on average "
            f"with both operands up to {train_digits} digits, "
            f"{100 * table.loc[~inside, measure].mean():.0f} % beyond"
        )
    figure.update_xaxes(title="digits of b", dtick=1)
    figure.update_yaxes(title="digits of a", dtick=1, col=1)
    figure.update_yaxes(dtick=1)
    framed = ", training lengths framed" if train_digits else ""
    return style(figure, f"{title}{framed}. {'. '.join(said)}.", title=title, height=360)


def modulus_bars(table: pd.DataFrame, *, title: str) -> go.Figure:
    """Measured accuracy (bars with 95 % intervals) beside the theorem's (lines).

    The table has the columns name, measured, low, high, predicted.
    """
    percent = 100 * table["measured"]
    figure = go.Figure()
    figure.add_bar(
        x=table["name"],
        y=percent,
        name="measured",
        marker={"color": COLOURS[0]},
        width=0.5,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": 100 * table["high"] - percent,
            "arrayminus": percent - 100 * table["low"],
            "color": GREY,
        },
        text=[f"{value:.1f}" for value in percent],
        textposition="outside",
        textfont={"color": GREY},
    )
    figure.add_scatter(
        x=table["name"],
        y=100 * table["predicted"],
        name="theory",
        mode="markers",
        marker={"symbol": "line-ew", "size": 60, "line": {"width": 4, "color": COLOURS[1]}},
    )
    figure.update_xaxes(title="task", type="category", tickangle=0)
    figure.update_yaxes(title="exact match (%)", range=[0, 115])
    pairs = zip(table["name"], percent, 100 * table["predicted"], strict=True)
    said = "; ".join(f"{name.replace('<br>', ', ')}: measured {m:.1f} %, theory {p:.1f} %" for name, m, p in pairs)
    return style(figure, f"{title}. {said}.", title=title)


def training_curves(metrics: pd.DataFrame, *, title: str = "While it learns") -> go.Figure:
    """Exact match by length over the steps of training, from `run.metrics`."""
    figure, said = go.Figure(), []
    for index, (digits, group) in enumerate(metrics.groupby("digits")):
        name = f"{digits} digit{'s' if digits > 1 else ''}"
        figure.add_scatter(x=group["step"], y=100 * group["exact_match"], name=name, mode="lines", **look(index))
        said.append(f"{name}: {100 * group['exact_match'].iloc[-1]:.0f} % in the end")
    if stopped := metrics.attrs.get("stopped"):
        words = f"the loss was no number at step {stopped}"
        figure.add_vline(x=stopped, line={"color": COLOURS[1], "dash": "dash"}, annotation_text=words)
        said.append(words)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="exact match (%)", range=[-4, 104])
    last = int(metrics["step"].max()) if len(metrics) else 0
    return style(figure, f"{title}: exact match over training, at step {last}. {', '.join(said)}.", title=title)


def _add_guess(figure: go.Figure, digits: Sequence[int], guess: Sequence[float]) -> str:
    """Draw the reader's percentages; returns them in words."""
    figure.add_scatter(
        x=digits,
        y=list(guess),
        name="your guess",
        mode="lines+markers",
        line={"color": GREY, "dash": "dash"},
        marker={"symbol": "star", "size": 10},
    )
    return f"your guess: {_series(digits, guess)}"


def _mark_training(figure: go.Figure, digits: int | None, log: bool = False) -> None:
    if digits:
        at = math.log10(digits + 0.45) if log else digits + 0.45  # plotly wants the logarithm for words, not for lines
        figure.add_vline(x=digits + 0.5, line={"color": GREY, "dash": "dash", "width": 1})
        figure.add_annotation(
            x=at, y=104, xanchor="right", text="trained up to here", showarrow=False, font={"size": 11}
        )


def _series(digits: Sequence[int], percent: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f} % at {length}" for length, value in zip(digits, percent, strict=True))
