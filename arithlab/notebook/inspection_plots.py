"""Figures of what is inside: cuts, patches, contributions, lenses, spectra; see plots.py for the common look."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .plots import GREY, heat, look, style

SITE_WORDS = {
    "resid_pre": "the stream before",
    "attn_out": "what attention adds",
    "resid_mid": "the stream after attention",
    "mlp_out": "what the MLP adds",
    "resid_post": "the stream after",
}
SIGNED = "PuOr_r"  # both ends dark on white and light on black alike, the middle is zero


def lined_up(table: pd.DataFrame, value: str, *, places: int, called: str, title: str, least: float = 0.0) -> go.Figure:
    """A number per token as a written sum: a panel per layer and site, rows a, b and c, columns places, units right.

    The colours go from `least` to 1. table: from `carry_map` or `read_outs`; several rows for a token are averaged.
    The sign stands right of the units, + beside a and = beside c. called: what the number is, for the colour bar.
    """
    table = table.assign(
        line=table["role"].replace({"op": "a", "=": "c"}),
        column=table["token_place"].where(table["role"].isin(["a", "b", "c"]), -1),
    )
    table = table[(table["column"] < places) & table["line"].isin(["a", "b", "c"])]
    layers, sites = sorted(table["layer"].unique()), list(table["site"].unique())
    titles = [f"layer {layer + 1}: {SITE_WORDS.get(site, site)}" for layer in layers for site in sites]
    figure = make_subplots(
        len(layers),
        len(sites),
        subplot_titles=titles,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.16,
    )
    columns, said = [*range(places - 1, -1, -1), -1], []
    for row, layer in enumerate(layers, 1):
        for col, site in enumerate(sites, 1):
            one = table[(table["layer"] == layer) & (table["site"] == site)]
            grid = one.pivot_table(index="line", columns="column", values=value).reindex(["a", "b", "c"])
            z = grid.reindex(columns=columns).to_numpy()
            heat(
                figure,
                z,
                ["sign" if c < 0 else str(c) for c in columns],
                list(grid.index),
                (row, col),
                low=least,
                high=1,
                bar=row == col == 1,
                colorbar={"title": called, "thickness": 12},
                text=[["" if not abs(v) >= least + 0.05 else f"{v:.2f}" for v in line] for line in np.nan_to_num(z)],
                hoverongaps=False,
                hovertemplate="%{y}, place %{x}: %{z:.2f}<extra></extra>",
            )
            mean = one.groupby("label")[value].mean()
            strong = mean[mean > (least + 1) / 2].sort_values(ascending=False).head(3)
            words = ", ".join(f"{label} {share:.2f}" for label, share in strong.items()) or "nothing above one half"
            said.append(f"layer {layer + 1}, {SITE_WORDS.get(site, site)}: {words}")
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_xaxes(title="place", row=len(layers))
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_annotations(font={"size": 11})
    alt = f"{title}: {called}, tokens lined up by place. {'; '.join(said)}."
    return style(figure, alt, title=title, height=130 + 130 * len(layers))


def cut_effects(table: pd.DataFrame, *, title: str) -> go.Figure:
    """What each cut costs (of `cut_parts`): rows parts, columns places, colour share of right digits left."""
    cut = table[table["part"] != "whole"]
    figure, grid = _grid(cut, "accuracy", 100, "{:.0f}")
    said = ", ".join(f"{name} leaves at worst {value:.0f} %" for name, value in grid.min(axis=1).items())
    return style(figure, f"{title}. {said}.", title=title, height=120 + 30 * len(grid))


def temperature_effects(table: pd.DataFrame, *, title: str) -> go.Figure:
    """Exact match by temperature (of `temperatures`): rows all, layers and heads, columns temperatures."""
    trained = table.loc[table["temperature"] == 1, "exact_match"].item()
    others = table[table["temperature"] != 1]
    figure, grid = _grid(others, "exact_match", 100, "{:.0f}", columns="temperature")
    said = ", ".join(f"{name} {value:.0f} % at worst" for name, value in grid.min(axis=1).items())
    words = f"{title}. As trained, at temperature 1, {100 * trained:.0f} %; {said}."
    figure.update_xaxes(title="temperature (1: as trained)")
    return style(figure, words, title=title, height=120 + 30 * len(grid))


def contributions(table: pd.DataFrame, *, places: int, title: str) -> go.Figure:
    """What each part adds to the logit of the right digit (of `attribution`): rows parts, columns places."""
    table = table[(table["place"] < places) & ~table["part"].eq("bias")]
    most = float(table.loc[table["part"] != "whole", "contribution"].abs().max())
    scale = {"low": -most, "high": most, "colorscale": SIGNED}
    figure, grid = _grid(table, "contribution", 1, "{:.1f}", "logit", **scale)
    parts = grid.drop(index="whole").mean(axis=1).sort_values(ascending=False).head(4)
    said = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
    return style(figure, f"{title}. Largest on average: {said}.", title=title, height=120 + 30 * len(grid))


def lens_grid(table: pd.DataFrame, *, places: int, title: str) -> go.Figure:
    """The logit lens (of `logit_lens`): rows where the model is stopped, columns places, colour accuracy."""
    table = table[table["place"] < places].copy()
    table["name"] = table["after"].where(table["layer"] < 0, "after " + table["after"])
    figure, grid = _grid(table, "accuracy", 100, "{:.0f}")
    said = ", ".join(f"{name} {value:.0f} % on average" for name, value in grid.mean(axis=1).items())
    return style(figure, f"{title}. {said}.", title=title, height=140 + 40 * len(grid))


def _grid(
    table: pd.DataFrame, value: str, factor: float, written: str, unit: str = "%", columns: str = "place", **scale
) -> tuple[go.Figure, pd.DataFrame]:
    """A heat map with its numbers written in: rows named as in the table, columns places; and the numbers."""
    grid = table.pivot_table(index="name", columns=columns, values=value, sort=False) * factor
    grid = grid[sorted(grid.columns)]
    figure = go.Figure()
    text = [[written.format(round(v, 1) + 0.0) for v in row] for row in grid.to_numpy()]  # no -0.0
    hover = "%{y}: %{z:.1f} " + unit + f" at {columns} " + "%{x}<extra></extra>"
    names = [f"{value:g}" for value in grid.columns]
    heat(figure, grid, names, list(grid.index), None, unit=unit, text=text, hovertemplate=hover, **scale)
    figure.update_xaxes(title="place of the answer digit", type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return figure, grid


def spectra(tables: Mapping[str, pd.DataFrame], *, title: str) -> go.Figure:
    """The share of each frequency over the values of a digit: a group of bars per table (rows of `digit_spectra`)."""
    figure, said = go.Figure(), []
    for index, (name, table) in enumerate(tables.items()):
        share = 100 * table.groupby("frequency")["share"].mean()
        figure.add_bar(x=share.index, y=share, name=name, marker={"color": look(index)["line"]["color"]})
        said.append(f"{name}: " + ", ".join(f"{value:.0f} % at {k}" for k, value in share.items()))
    control = 100 * pd.concat(tables.values()).groupby("frequency")["control"].mean()
    figure.add_scatter(
        x=control.index,
        y=control,
        name="control: values in a random order",
        mode="lines+markers",
        line={"color": GREY, "dash": "dash"},
    )
    figure.update_xaxes(title="frequency: rounds over the values 0 to 9", dtick=1)
    figure.update_yaxes(title="share of the variance (%)", rangemode="tozero")
    return style(figure, f"{title}. {'; '.join(said)}.", title=title, height=360)


def progress_lines(table: pd.DataFrame, measures: Mapping[str, str], *, title: str) -> go.Figure:
    """Measures over the steps of training (of `inspection.progress.progress`). measures: column to name."""
    figure, said = go.Figure(), []
    for index, (column, name) in enumerate(measures.items()):
        percent = 100 * table[column]
        figure.add_scatter(x=table["step"], y=percent, name=name, mode="lines+markers", **look(index))
        reached = table.loc[percent >= 50, "step"]
        said.append(f"{name}: " + (f"from step {reached.iloc[0]} at least half" if len(reached) else "never half"))
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="%", range=[-4, 104])
    return style(figure, f"{title}. {'; '.join(said)}.", title=title)
