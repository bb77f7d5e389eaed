"""The figures of an executed notebook as files beside it: an offline page, plotly's JSON, and the numbers as CSV."""

import base64
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from plotly.offline import get_plotlyjs

from ..training.runs import inside, write_file
from .export import FIGURE, figure_html, page
from .series import read_notebook

ARRAYS = ("x", "y", "z", "text")  # of a trace; its error bars come after them


def save_figures(path: Path) -> list[Path]:
    """Write every figure of the cells of an executed notebook into the folder NAME.figures; returns the pages.

    What an earlier execution left there is replaced. No folder is left where there is no figure.
    """
    folder = inside(path.with_suffix(".figures"))
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    names = []
    try:
        for figure in figures(path):
            title = re.sub(r"<[^>]*>", " ", figure["layout"].get("title", {}).get("text", "figure"))
            words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]
            names.append(f"{len(names) + 1:02d}-{words}")
            scripts = '<script src="../plotly.js"></script>'
            write_file(part / f"{names[-1]}.html", page(title, figure_html(figure), scripts))
            write_file(part / f"{names[-1]}.json", json.dumps(figure))
            write_file(part / f"{names[-1]}.csv", numbers(figure).to_csv(index=False))
        shutil.rmtree(folder, ignore_errors=True)
        if names:
            write_file(folder.with_name("plotly.js"), get_plotlyjs())
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [folder / f"{name}.html" for name in names]


def figures(path: Path) -> list[dict]:
    """The figures among the outputs of a notebook's cells, in their order, as plotly's JSON."""
    outputs = [output for cell in read_notebook(path).cells for output in cell.get("outputs", [])]
    return [output["data"][FIGURE] for output in outputs if FIGURE in output.get("data", {})]


def numbers(figure: dict) -> pd.DataFrame:
    """What a figure draws, one row per point: the trace it belongs to, x, y, and z, text and errors where it has them.

    >>> numbers({"data": [{"name": "line", "x": [1, 2], "y": [3.0, 4.0]}, {"z": [[5, 6]]}]})
      trace  x    y    z
    0  line  1  3.0  NaN
    1  line  2  4.0  NaN
    2     2  0  0.0  5.0
    3     2  1  0.0  6.0
    """
    return pd.concat([_points(trace, str(i)) for i, trace in enumerate(figure["data"], 1)] or [pd.DataFrame()],
                     ignore_index=True)  # fmt: skip


def _points(trace: dict, otherwise: str) -> pd.DataFrame:
    columns = {name: _array(trace[name]) for name in ARRAYS if trace.get(name) is not None}
    for axis in "xy":
        errors = trace.get(f"error_{axis}", {})
        columns |= {f"{axis}_{name}": _array(errors[name]) for name in ("array", "arrayminus") if name in errors}
    z = columns.get("z")
    if z is not None and z.ndim == 2:  # a matrix: a point for each of its cells
        row, column = np.indices(z.shape).reshape(2, -1)
        x, y = columns.get("x", np.arange(z.shape[1])), columns.get("y", np.arange(z.shape[0]))
        spread = {"x": x[column], "y": y[row]}
        columns = spread | {name: values.ravel() for name, values in columns.items() if values.shape == z.shape}
    columns = {name: values for name, values in columns.items() if values.ndim == 1}
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()}).assign(
        trace=trace.get("name") or otherwise
    )[["trace", *columns]]


def _array(values: object) -> np.ndarray:
    """The numbers of an array in plotly's JSON, where large ones are coded in base64."""
    if isinstance(values, dict):
        decoded = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
        return decoded.reshape([int(n) for n in str(values.get("shape", decoded.size)).split(",")])
    return np.asarray(values)
