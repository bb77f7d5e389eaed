"""Figures of whole tables: prediction and measurement of many runs at a glance."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..claims import POINTS
from ..errors import ArithlabError
from ..training.evaluate import predict
from ..training.experiment import Experiment
from .plots import COLOURS, GREY, heat, look, style

SUCCEEDS = 0.5  # from here on an accuracy counts as "carries on"


def beside_theory(table: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """The measured accuracies of a sweep in long form, and what theory predicts for each.

    table: from `results` or `recorded`. experiment: what all runs share; the columns of the table replace its fields.
    Columns: those of the table but the accuracies, and digits, exact_match, predicted (fractions), reason.
    """
    names = [name for name in table if name.startswith("exact_match_")]
    lengths = [int(name.rsplit("_", 1)[1]) for name in names]
    measured = [name for name in table if name.startswith(("exact_match_", "agreement_"))]
    if not names or not len(table):
        raise ArithlabError(
            "a table without any exact_match_N has nothing to predict: give `results` or `recorded` of finished runs."
        )
    varied = [name for name in table if name in experiment.to_json() and name != "seed"]
    groups = table.groupby(varied, sort=False, dropna=False) if varied else [((), table)]  # only seeds may vary
    rows = []
    for values, group in groups:
        theory = predict(experiment.with_(**dict(zip(varied, map(_plain, values), strict=True))), lengths)
        for name, row in zip(names, theory.to_dict("records"), strict=True):
            about = group.drop(columns=measured).assign(digits=row["digits"], exact_match=group[name])
            rows.append(about.assign(predicted=row["predicted_accuracy"], reason=row["reason"]))
    return pd.concat(rows, ignore_index=True)


def _plain(value: object) -> object:
    """A table's value as a field of an experiment: a column with gaps makes 50 to 50.0 and None to not-a-number."""
    if pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def accuracy_table(
    table: pd.DataFrame, *, panel: str, row: str, train_digits: int, names: Mapping[str, str] | None = None, title: str
) -> go.Figure:
    """One panel per value of `panel`, one row per value of `row`: the median over seeds by length, and theory.

    table: from `beside_theory`. A frame marks the cells of which theory says that the model carries on. names: what
    to call the panels.
    """
    titles = [str((names or {}).get(name, _plain(name))) for name in table[panel].unique()]
    # as text, for a None to have a panel or a row, and for numbers to be names on the axis
    table = table.assign(**{column: table[column].map(lambda x: str(_plain(x))) for column in (panel, row)})
    panels, said = list(table[panel].unique()), []
    figure = make_subplots(1, len(panels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.02)
    order, lengths = list(table[row].unique())[::-1], sorted(table["digits"].unique())
    for column, name in enumerate(panels, 1):
        cells = table[table[panel] == name].groupby([row, "digits"], sort=False)
        median, low, high = (getattr(cells["exact_match"], f)().unstack() for f in ("median", "min", "max"))
        theory = cells["predicted"].first().unstack().reindex(index=order, columns=lengths)
        # a panel may lack a row or a length: its cells stay empty
        median, low, high = (100 * x.reindex(index=order, columns=lengths) for x in (median, low, high))
        seeds = int(table[table[panel] == name].groupby(row)["seed"].nunique().max()) if "seed" in table else 1
        heat(
            figure,
            median,
            [f"{n:,}" for n in lengths],
            order,
            (1, column),
            bar=column == len(panels),
            text=median.round().map(lambda x: "" if pd.isna(x) else f"{x:.0f}").to_numpy(),
            customdata=pd.concat([low, high], axis=1).to_numpy().reshape(len(order), 2, -1).transpose(0, 2, 1),
            hovertemplate="%{y}, %{x} digits: median %{z:.0f} %, %{customdata[0]:.0f} to %{customdata[1]:.0f} %"
            f"<extra>{seeds} seed{'s' * (seeds != 1)}</extra>",
        )
        for i, encoding in enumerate(order):
            for j, digits in enumerate(lengths):
                if digits > train_digits and theory.loc[encoding, digits] > SUCCEEDS:
                    frame = {"x0": j - 0.47, "x1": j + 0.47, "y0": i - 0.45, "y1": i + 0.45}
                    line = {"color": "#D55E00", "width": 2.5}
                    figure.add_shape(type="rect", **frame, line=line, row=1, col=column)
        best = median[lengths[-1]].dropna()
        best = best[best >= 50].index.tolist()
        said.append(f"{titles[column - 1]}: at {lengths[-1]} digits {', '.join(best[::-1]) or 'none'} at 50 % or more")
    figure.update_xaxes(title="digits", type="category")
    figure.update_yaxes(type="category")
    figure.update_yaxes(tickmode="linear", col=1)
    height = 150 + 26 * len(order)
    return style(figure, f"{title}. {'; '.join(said)}. Framed: theory says it carries on.", title=title, height=height)


def beside_paper(table: pd.DataFrame, *, title: str) -> go.Figure:
    """A printed table beside ours: heat maps of theirs, of theory where it has rows, and of the medians of our runs.

    table: from `ledger.beside`. Where our runs lie further apart than two points, their range stands below the median.
    """
    labels = table.index.get_level_values(1).str.replace(r" of \d+$", "", regex=True)
    parts = {label: table[labels == label].droplevel(1).dropna(axis=1, how="all") for label in labels.unique()}
    ends = {label: parts.pop(label) for label in [*parts] if label.endswith((", min", ", max"))}
    order, said = table.index.get_level_values(0).unique()[::-1], []
    widths = [part.shape[1] for part in parts.values()]
    titles = [label.removesuffix(", median") for label in parts]
    figure = make_subplots(
        1, len(parts), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.02, column_widths=widths
    )
    for column, (label, part) in enumerate(parts.items(), 1):
        part = part.reindex(order)
        text = part.map(lambda x: "" if pd.isna(x) else f"{x:.0f}")
        if label.endswith(", median"):
            low, high = (ends[label.replace("median", name)].reindex(order) for name in ("min", "max"))
            spread = low.map("{:.0f}".format) + "-" + high.map("{:.0f}".format)
            text = text.mask(high - low > POINTS, text + "<br><span style='font-size:7px'>" + spread + "</span>")
        heat(
            figure,
            part,
            part.columns,
            order,
            (1, column),
            bar=column == len(parts),
            text=text.to_numpy(),
            textfont={"size": 10},
            hovertemplate="%{y}, %{x}: %{z:.1f} %<extra>" + label + "</extra>",
        )
        told = part[::-1].dropna(how="all")
        rows = (f"{name} {' '.join(f'{x:g}' for x in row.dropna())}" for name, row in told.iterrows())
        said.append(f"{label}: {'; '.join(rows)}")
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title=table.columns.name, col=1)  # the same in every panel
    figure.update_yaxes(type="category")
    figure.update_yaxes(tickmode="linear", col=1)
    said = f"{title}, in percent. {'. '.join(said)}."
    return style(figure, said, title=f"{title} (ours: median, range)", height=150 + 36 * len(order))


def agreement(table: pd.DataFrame, *, train_digits: int) -> pd.DataFrame:
    """How often theory and measurement agree past the training length, run by run: a two-by-two table of counts.

    table: from `beside_theory`. Rows: what theory says; columns: what was measured.
    """
    past = table[(table["digits"] > train_digits) & table["exact_match"].notna()]
    words = {True: "carries on", False: "fails"}
    says, does = ((past[name] > SUCCEEDS).map(words) for name in ("predicted", "exact_match"))
    return pd.crosstab(says.rename("theory"), does.rename("measured"))


def scaling(table: pd.DataFrame, *, x: str, y: str, by: str, title: str) -> go.Figure:
    """Column y against column x on logarithmic axes, a line per value of `by`, beside what is in proportion."""
    figure, said = go.Figure(), []
    for index, (name, group) in enumerate(table.groupby(by, sort=False)):
        figure.add_scatter(x=group[x], y=group[y], name=str(name), mode="lines+markers", **look(index))
        (x0, *_, x1), (y0, *_, y1) = group[x], group[y]
        said.append(f"{name}: {y} from {y0:.3g} at {x0:,} to {y1:.3g} at {x1:,}")
    low = table.iloc[table[x].argmax()]
    guide = [table[x].min(), table[x].max()]
    figure.add_scatter(
        x=guide,
        y=[low[y] * at / low[x] for at in guide],
        name="in proportion",
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1},
        hoverinfo="skip",
    )
    figure.update_xaxes(title=x, type="log", dtick=1)
    figure.update_yaxes(title=y, type="log", dtick=1)
    return style(figure, f"{title}. {'; '.join(said)}.", title=title)


def claims(table: pd.DataFrame, *, title: str = "Every claim, every run") -> go.Figure:
    """The rows of a ledger: what was measured of each run as a dot, and the range that the claim allows as a bar.

    table: from `ledger.ledger`; claims without a run are left out.
    """
    table = table[table["values"].map(len) > 0]
    figure, rows = go.Figure(), table["id"].tolist()[::-1]
    bar = table["most"] - table["least"]
    figure.add_bar(
        y=table["id"],
        x=bar,
        base=table["least"],
        orientation="h",
        name="what the claim allows",
        marker={"color": "rgba(128,128,128,0.3)", "line": {"color": GREY, "width": 1}},
        hoverinfo="skip",
    )
    for index, (word, group) in enumerate(table.groupby("verdict", sort=False)):
        dots = group.explode("values")
        figure.add_scatter(
            x=dots["values"].astype(float),
            y=dots["id"],
            mode="markers",
            name=word,
            marker={**look(index)["marker"], "color": COLOURS[index], "size": 7, "opacity": 0.8},
            customdata=dots[["claim", "rule"]],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}: %{x:.1f}<extra>%{y}</extra>",
        )
    figure.update_xaxes(title="what was measured (%, or points for tables)", range=[-3, 103])
    figure.update_yaxes(categoryorder="array", categoryarray=rows, tickmode="linear")
    counts = ", ".join(f"{n} {word}" for word, n in table["verdict"].value_counts().items())
    height = 190 + 20 * len(rows)
    figure = style(figure, f"{title}: {counts}.", title=title, height=height)
    return figure.update_layout(margin={"l": 190}, legend={"y": -80 / height})
