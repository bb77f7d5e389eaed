"""Figures of tasks in context: phases, curves by shots and by tasks, beliefs over tasks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..training.shots import LEARNED, LEAST, NOTHING, PHASES
from .plots import COLOURS, GREY, heat, look, style

SETS = {"id train": "known tasks, known inputs", "id test": "known tasks, new inputs"} | {
    "ood train": "new tasks, known inputs",
    "ood test": "new tasks, new inputs",
}
PHASE_COLOURS = dict(zip([*PHASES.values(), NOTHING], (*COLOURS[::-1], GREY), strict=True))
PHASE_MARKS = dict(zip(PHASE_COLOURS, ("star", "triangle-up", "diamond", "square", "x"), strict=True))


def phase_diagram(table: pd.DataFrame, *, title: str = "Phases by tasks and inputs") -> go.Figure:
    """The phase of every run, one mark per seed, by number of tasks and share of inputs; from `results` of a grid."""
    figure, tasks, alphas = go.Figure(), sorted(table.tasks.unique()), sorted(table.alpha.unique())
    cells = table.groupby(["tasks", "alpha"]).seed
    shift = 0.13 * (cells.rank() - (cells.transform("size") + 1) / 2)
    said = []
    for name in PHASE_COLOURS:
        runs = table[table.phase == name]
        figure.add_scatter(
            x=[tasks.index(run.tasks) + shift[run.Index] for run in runs.itertuples()],
            y=[alphas.index(alpha) for alpha in runs.alpha],
            name=name,
            mode="markers",
            marker={"symbol": PHASE_MARKS[name], "size": 14, "color": PHASE_COLOURS[name]},
            customdata=np.stack([runs[f"best_{which}"] * 100 for which in SETS] + [runs.seed], 1)
            if len(runs)
            else None,
            hovertemplate="%{text}<br>"
            + "<br>".join(f"{words}: %{{customdata[{k}]:.0f}} %" for k, words in enumerate(SETS.values()))
            + f"<extra>{name}</extra>",
        )
        if len(runs):
            found = runs.groupby(["tasks", "alpha"]).size()
            where = ", ".join(f"{n} at {task} tasks and alpha {alpha:g}" for (task, alpha), n in found.items())
            said.append(f"{name}: {where}")
    figure.update_xaxes(title="tasks of pre-training", tickvals=list(range(len(tasks))), ticktext=list(map(str, tasks)))
    figure.update_yaxes(
        title="alpha: share of inputs", tickvals=list(range(len(alphas))), ticktext=[f"{a:g}" for a in alphas]
    )
    words = f"one mark per seed; learned: {100 * LEARNED:.0f} % of what ratio matching reaches, and {100 * LEAST:.0f} %"
    return style(figure, f"{title}, {words}. {'. '.join(said)}.", title=title, height=440)


def reached(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on each test set at the end or at the best step, whichever is higher: a column per set."""
    return pd.DataFrame({which: table[[f"exact_match_{which}", f"best_{which}"]].max(axis=1) for which in SETS})


def stages(tables: Mapping[str, pd.DataFrame], *, title: str = "While they learn") -> go.Figure:
    """Late accuracy on the four test sets over training, a panel per name; each table holds `shots.stages`."""
    figure, said = make_subplots(1, len(tables), subplot_titles=list(tables), shared_yaxes=True), []
    for column, (name, table) in enumerate(tables.items(), 1):
        for index, (which, words) in enumerate(SETS.items()):
            if which not in table:
                continue
            percent = 100 * table[which]
            figure.add_scatter(
                x=table.step,
                y=percent,
                name=words,
                legendgroup=which,
                showlegend=column == 1,
                mode="lines+markers",
                **look(index),
                row=1,
                col=column,
            )
            said.append(f"{name}, {words}: ends at {percent.iloc[-1]:.0f} %, at most {percent.max():.0f} %")
        if "ood test" in table:
            best = table.step[(table["ood train"] + table["ood test"]).idxmax()]
            figure.add_vline(x=best, line={"color": GREY, "dash": "dash", "width": 1}, row=1, col=column)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="accuracy (%)", range=[-4, 104], col=1)
    return style(figure, f"{title}; dashed: the best step. {'. '.join(said)}.", title=title)


def by_shots(
    curves: Mapping[str, pd.Series], *, p: int, x: str = "examples before the question", title: str
) -> go.Figure:
    """Accuracies (fractions) by number of examples, a line each; chance 1/p dotted, names with `solver` dashed."""
    figure, said = go.Figure(), []
    for index, (name, curve) in enumerate(curves.items()):
        percent, looks = 100 * np.asarray(curve, float), look(index)
        if "solver" in name:
            looks["line"] |= {"dash": "dash"}
        figure.add_scatter(x=list(range(len(percent))), y=percent, name=name, mode="lines+markers", **looks)
        said.append(f"{name}: {percent[0]:.0f} % at 0, {percent[-1]:.0f} % at {len(percent) - 1} {x}")
    figure.add_hline(y=100 / p, line={"color": GREY, "dash": "dot", "width": 1}, annotation_text="chance")
    figure.update_xaxes(title=x, dtick=1 if len(percent) < 20 else None)
    figure.update_yaxes(title="accuracy (%)", range=[-4, 104])
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)


def kinds(tables: Mapping[str, pd.DataFrame], *, title: str = "Which questions it can answer") -> go.Figure:
    """Accuracy by shots on the questions that ratio matching knows, that only regression knows, and that are open."""
    figure, said = make_subplots(1, len(tables), subplot_titles=list(tables), shared_yaxes=True), []
    words = {"ratio": "a multiple of one example", "regression": "a combination of several", "open": "not determined"}
    for column, (name, table) in enumerate(tables.items(), 1):
        for index, (kind, called) in enumerate(words.items()):
            # before any example only (0, 0) is determined
            here = table[(table.kind == kind) & (table.share > 0) & ((table.shots > 0) | (kind == "open"))]
            figure.add_scatter(
                x=here.shots,
                y=100 * here.exact_match,
                name=called,
                legendgroup=kind,
                showlegend=column == 1,
                mode="lines+markers",
                **look(index),
                customdata=100 * here.share,
                hovertemplate="%{x} shots: %{y:.0f} % of the %{customdata:.0f} % that are such"
                + f"<extra>{called}</extra>",
                row=1,
                col=column,
            )
            if len(here):
                last = here.iloc[-1]
                said.append(f"{name}, {called}: {100 * last.exact_match:.0f} % after {last.shots} shots")
        figure.add_hline(
            y=100 * table.chance.iloc[0], line={"color": GREY, "dash": "dot", "width": 1}, row=1, col=column
        )
    figure.update_xaxes(title="examples before the question")
    figure.update_yaxes(title="accuracy (%)", range=[-4, 104], col=1)
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)


def beliefs(panels: Mapping[str, np.ndarray], *, title: str = "Which task is it?") -> go.Figure:
    """Beliefs over tasks (p, p), a panel each: a down, b across."""
    figure, said = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True), []
    for column, (name, belief) in enumerate(panels.items(), 1):
        at, last = (1, column), column == len(panels)
        hover = "a = %{y}, b = %{x}: %{z:.2f}<extra>" + name + "</extra>"
        heat(figure, belief, None, None, at, high=1, unit=None, bar=last, gap=1, hovertemplate=hover)
        if belief.max() > 0:
            a, b = np.unravel_index(belief.argmax(), belief.shape)
            said.append(f"{name}: {belief.max():.2f} for a = {a}, b = {b}")
        else:
            said.append(f"{name}: no task agrees with the examples")
    figure.update_xaxes(title="b", dtick=1)
    figure.update_yaxes(title="a", dtick=1, col=1)
    return style(figure, f"{title} Most belief: {'; '.join(said)}.", title=title, height=360)


def shot_grids(table: pd.DataFrame, *, title: str = "What it can answer, and what ratio matching could") -> go.Figure:
    """Every question after 1, 2, ... examples, from `inspection.in_context.shot_grid`: a panel for each number."""
    shots = table.shots.unique()
    titles = [f"{k} example{'s' if k > 1 else ''}" for k in shots]
    figure = make_subplots(1, len(shots), subplot_titles=titles, shared_yaxes=True)
    said = []
    names = ("wrong", "right, ratio matching could", "right, only a combination gives it", "right, by chance?")
    colours = ("rgba(128,128,128,0.25)", COLOURS[0], COLOURS[1], COLOURS[3])
    steps = [(k / 4, colours[k]) for k in range(4)] + [((k + 1) / 4, colours[k]) for k in range(4)]
    for column, k in enumerate(shots, 1):
        here = table[table.shots == k]
        code = np.select([~here.right, here.ratio, here.regression], [0, 1, 2], 3)
        grid = here.assign(code=code).pivot(index="y", columns="x", values="code")
        heat(
            figure,
            grid,
            None,
            None,
            (1, column),
            low=-0.5,
            high=3.5,
            bar=column == len(shots),
            gap=1,
            colorscale=sorted(steps, key=lambda step: (step[0], colours.index(step[1]))),
            colorbar={"tickvals": [0, 1, 2, 3], "ticktext": names},
            hovertemplate="x = %{x}, y = %{y}<extra></extra>",
        )
        counts = ", ".join(f"{(code == value).sum()} {words}" for value, words in enumerate(names))
        said.append(f"after {k} examples: {counts}")
    figure.update_xaxes(title="x", dtick=1)
    figure.update_yaxes(title="y", dtick=1, col=1)
    return style(figure, f"{title}. {'. '.join(said)}.", title=title, height=360)


def task_curves(table: pd.DataFrame, *, title: str = "Every task while it is learned") -> go.Figure:
    """The accuracy of every task over training (thin); the medians of tasks with and without a zero in (a, b).

    table: of `inspection.in_context.task_curves`.
    """
    zeros = (table.a == 0).astype(int) + (table.b == 0)
    names = {2: "a = b = 0: always 0", 1: "a or b is 0: one number decides", 0: "neither is 0"}
    figure, said = go.Figure(), []
    for index, (count, name) in enumerate(names.items()):
        mine, looks = table[zeros == count], look(index)
        if not len(mine):
            continue
        for (a, b), one in mine.groupby(["a", "b"]):
            figure.add_scatter(
                x=one.step, y=100 * one.exact_match, mode="lines", line={**looks["line"], "width": 1}, opacity=0.4,
                showlegend=False, hovertemplate=f"({a}, {b}), step %{{x}}: %{{y:.0f}} %<extra></extra>",
            )  # fmt: skip
        middle = 100 * mine.groupby("step").exact_match.median()
        tasks = len(mine.drop_duplicates(["a", "b"]))
        figure.add_scatter(x=middle.index, y=middle, mode="lines+markers", name=f"{name} ({tasks})", **looks)
        said.append(f"{name}, {tasks} tasks: median {', '.join(f'{v:.0f} % at step {s}' for s, v in middle.items())}")
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="accuracy (%)", range=[-4, 104])
    return style(figure, f"{title}. {'. '.join(said)}.", title=title)
