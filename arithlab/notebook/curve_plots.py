"""Figures of training curves beside what theory says of them."""

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..training.curves import plateaus, standing
from ..training.runs import Run
from .plots import COLOURS, GREY, look, style


def loss_plateaus(runs: Mapping[str, Run], *, title: str = "Where the loss stands still") -> go.Figure:
    """The loss over training, a panel per run of a modular sum, with the predicted plateaus dotted."""
    figure, said = make_subplots(1, len(runs), subplot_titles=list(runs), shared_yaxes=True), []
    for column, (name, run) in enumerate(runs.items(), 1):
        where, curve = {"row": 1, "col": column}, standing(run)
        figure.add_scatter(
            x=curve.step, y=curve.loss, mode="lines+markers", name="loss", showlegend=column == 1, **look(0), **where
        )
        for level in plateaus(run.experiment).itertuples():
            figure.add_hline(y=level.loss, line={"color": COLOURS[1], "dash": "dot", "width": 2}, **where)
            figure.add_annotation(
                x=curve.step.max(), y=level.loss, text=f"{level.open} answers open", showarrow=False,
                xanchor="right", yanchor="bottom", yshift=4, font={"size": 11, "color": GREY}, **where,
            )  # fmt: skip
            there = curve.step[curve.open == level.open]
            stay = f"steps {there.min()} to {there.max()}" if len(there) else "no recorded step"
            said.append(f"{name}: at {level.loss:.2f}, {level.open} answers open, {stay}")
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss (nats per answer token)", col=1)
    figure.update_yaxes(rangemode="tozero")
    return style(figure, f"{title}; dotted: predicted plateaus. {'. '.join(said)}.", title=title)
