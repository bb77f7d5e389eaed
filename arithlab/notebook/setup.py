"""The first cell of every notebook: versions, mode, output folder, and how figures are shown."""

import json
import os
import platform
import sys
from pathlib import Path

import plotly
import plotly.graph_objects as go
import plotly.io as pio
import torch
from IPython.display import display

from .. import __version__
from ..errors import ArithlabError, shorten
from ..training.runs import output_folder

FIGURE_CONFIG = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


# JupyterLab's plotly extension forgets a figure's height when the window changes, and draws it flat
KEEP_HEIGHT = (
    '<i class="arithlab-HEIGHT"></i><style>.jp-OutputArea-child:has(.arithlab-HEIGHT) + .jp-OutputArea-child '
    ".jp-RenderedPlotly { min-height: HEIGHTpx; max-height: HEIGHTpx }</style>"
)


def setup(quick: bool = False, seed: int = 0, out: str = "") -> bool:
    """Prepare a notebook; returns whether it runs in quick mode.

    quick: small models and few examples (about 90 seconds); ARITHLAB_QUICK=1 asks for it too.
    seed: of everything that the notebook trains. out: output folder, "" for the usual one.
    """
    if not isinstance(quick, bool):
        raise ArithlabError(f"QUICK {shorten(quick)}: allowed are True and False.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ArithlabError(f"SEED {shorten(seed)}: allowed are whole numbers from 0.")
    if not isinstance(out, str):
        raise ArithlabError(f"OUT {shorten(out)}: give a folder as text, or '' for the usual one.")
    if out:
        os.environ["ARITHLAB_OUT"] = str(Path(out).absolute())
    quick = quick or os.environ.get("ARITHLAB_QUICK") == "1"
    pio.renderers["plotly_mimetype"].config = FIGURE_CONFIG
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"arithlab {__version__} | Python {platform.python_version()} | "
        f"torch {torch.__version__} | plotly {plotly.__version__}\n"
        f"mode: {'quick' if quick else 'full'} | seed {seed} | {device} | results in {_short(output_folder())}"
    )
    return quick


def show(figure: go.Figure) -> None:
    """Display a figure. Its text alternative (layout.meta.alt) is shown where plotly is not at hand."""
    alt = (figure.layout.meta or {}).get("alt")
    if not alt:
        raise ArithlabError("a figure needs a text alternative: set figure.layout.meta = {'alt': ...}.")
    if figure.layout.height:
        display(
            {"text/html": KEEP_HEIGHT.replace("HEIGHT", str(int(figure.layout.height))), "text/plain": ""}, raw=True
        )
    display(bundle(figure), raw=True)


def bundle(figure: go.Figure) -> dict[str, object]:
    """A figure in the forms that a front end may draw: plotly's JSON, and text. In Colab, which knows no such JSON and
    is online, also a page that loads plotly.js.
    """
    drawing = {**json.loads(figure.to_json()), "config": FIGURE_CONFIG}
    forms = {"application/vnd.plotly.v1+json": drawing, "text/plain": figure.layout.meta["alt"]}
    if "google.colab" in sys.modules:
        forms["text/html"] = pio.to_html(figure, FIGURE_CONFIG, include_plotlyjs="cdn", full_html=False)
    return forms


def _short(path: Path) -> str:
    """The path from the checkout on, so that executed notebooks do not name a home folder."""
    return str(Path(*path.parts[-2:])) if path.is_absolute() else str(path)
