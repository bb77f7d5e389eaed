"""Executed notebooks as HTML that opens offline: figures, maths and widgets' last state, and nothing from the network.

Every page carries a content security policy that forbids it to load anything but plotly.js from beside it, so
a page cannot ask the network for anything, whatever a notebook contains. Formulas become MathML, which browsers
draw and screen readers read by themselves.
"""

import html
import json
import re
from pathlib import Path

import nbformat
import plotly.io as pio
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from plotly.offline import get_plotlyjs
from pygments.formatters import HtmlFormatter

from ..errors import ArithlabError
from ..training.runs import inside, output_folder, write_file
from .series import read_notebook
from .setup import FIGURE_CONFIG

FIGURE = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
POLICY = "default-src 'none'; script-src 'self' file: 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
pre { overflow-x: auto; font: 14px/1.4 ui-monospace, monospace; }
.input pre { background: #8881; border-left: 3px solid #0072B2; padding: .6rem; margin: .6rem 0; }
.prompt, .anchor-link { display: none; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid #8884; text-align: left; }
figure { margin: 1rem 0; }
figcaption { font-size: 14px; opacity: .8; }
.widget { border: 1px solid #8884; padding: .6rem; }
a { color: #0072B2; }
@media (prefers-color-scheme: dark) {
  a { color: #56B4E9; }
  .highlight span { filter: invert(1) hue-rotate(180deg); }
}
"""
SWITCH = """
const {visible, alt, beside} = this.selectedOptions[0].dataset, figure = this.closest('figure');
Plotly.restyle(figure.querySelector('.plotly-graph-div'), {visible: JSON.parse(visible)});
figure.querySelector('[role=group]').setAttribute('aria-label', alt);
figure.querySelector('figcaption').textContent = alt;
for (const [name, words] of Object.entries(JSON.parse(beside)))
  figure.parentNode.querySelector(':scope > .' + name).innerHTML = words;
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title><style>{style}</style>{scripts}</head>
<body>{navigation}<main>{body}</main></body></html>
"""


def export(out: Path | None = None) -> list[Path]:
    """Write a page for every executed notebook, and an index; returns their paths, the index last.

    out: the folder, `html` in the output folder if None. Raises ArithlabError where nothing has been executed.
    """
    source = output_folder() / "notebooks"
    notebooks = [path for path in sorted(source.glob("[!.]*.ipynb")) if not path.stem.endswith(".failed")]
    if not notebooks:
        raise ArithlabError(f"no executed notebooks in {source}: make some with `arithlab run all --quick`.")
    folder = Path(out) if out else inside(output_folder() / "html")
    names = {path.name: f"{path.stem}.html" for path in notebooks}
    scripts, rows, pages = '<script src="plotly.js"></script>', [], []
    write_file(folder / "plotly.js", get_plotlyjs())
    for path in notebooks:
        book = read_notebook(path)
        title = _title(book, path.stem)
        body = re.sub(  # links between notebooks lead to their pages
            r'href="([^"/]+\.ipynb)"', lambda found: f'href="{names.get(found[1], found[1])}"', _body(book, path)
        )
        pages.append(folder / names[path.name])
        write_file(pages[-1], page(title, body, scripts, '<nav><a href="index.html">All notebooks</a></nav>'))
        claim = next((c.source.split("\n\n")[1] for c in book.cells[:1] if "\n\n" in c.source), "")
        rows.append(f'<li><a href="{html.escape(names[path.name])}">{html.escape(title)}</a> {_markdown(claim)}</li>')
    pages.append(folder / "index.html")
    write_file(pages[-1], page("arithlab", f"<h1>arithlab</h1><ul>{''.join(rows)}</ul>"))
    return pages


def page(title: str, body: str, scripts: str = "", navigation: str = "") -> str:
    """A page of this body that may load nothing but the scripts beside it."""
    body = body.replace("<pre>", '<pre tabindex="0">')  # wide ones scroll, by keyboard too
    style = STYLE + HtmlFormatter().get_style_defs(".highlight").replace("background: #f8f8f8", "")
    return PAGE.format(
        policy=POLICY, title=html.escape(title), style=style, scripts=scripts, navigation=navigation, body=body
    )


def _title(book: nbformat.NotebookNode, otherwise: str) -> str:
    first = book.cells[0].source if book.cells else ""
    return first.splitlines()[0].removeprefix("# ") if first.startswith("# ") else otherwise


def _body(book: nbformat.NotebookNode, path: Path) -> str:
    """The notebook's cells as HTML, figures and widgets in a form that needs no kernel."""
    state = book.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if FIGURE in data:
                data["text/html"] = figure_html(data[FIGURE])
            elif WIDGET in data:
                shown = _widget(data[WIDGET].get("model_id", ""), state)
                data["text/html"] = (
                    f'<div class="widget"><p>A widget, as it was left; it works in JupyterLab.</p>{shown}</div>'
                )
            for kind in (FIGURE, WIDGET, "application/javascript"):
                data.pop(kind, None)
    resources = {"metadata": {"path": str(path.parent)}}
    body, _ = _Exporter(template_name="basic").from_notebook_node(book, resources)
    return body


def figure_html(figure: dict) -> str:
    """A figure that plotly.js draws, its text alternative below it and told to screen readers."""
    meta = figure.get("layout", {}).get("meta", {})
    alt = html.escape(meta.get("alt", ""))
    drawing = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    division = pio.to_html(drawing, FIGURE_CONFIG, include_plotlyjs=False, full_html=False, validate=False)
    return (
        f'<figure>{_choices(meta)}<div role="group" aria-label="{alt}">{division}</div>'
        f'<figcaption aria-live="polite">{alt}</figcaption></figure>'
    )


def _choices(meta: dict) -> str:
    """A list to choose from, for a figure of several drawings: `choices` in its meta (name, visible traces, alt).

    beside: HTML of the widgets of the same box that go with a choice, by their class.
    """
    options = "".join(
        f'<option data-visible="{html.escape(json.dumps(one["visible"]))}" data-alt="{html.escape(one["alt"])}"'
        f' data-beside="{html.escape(json.dumps(one.get("beside", {})))}"'
        f"{' selected' if index == meta.get('chosen') else ''}>{html.escape(one['name'])}</option>"
        for index, one in enumerate(meta.get("choices", ()))
    )
    return f'<label>Show <select onchange="{html.escape(SWITCH)}">{options}</select></label>' if options else ""


def _widget(model: str, state: dict) -> str:
    """What a widget showed when the notebook was saved: its texts, the values of its controls, its figures."""
    traits = state.get(model, {}).get("state", {})
    parts = [_widget(child.removeprefix("IPY_MODEL_"), state) for child in traits.get("children", [])]
    for output in traits.get("outputs", []):
        data = output.get("data", {})
        parts.append(figure_html(data[FIGURE]) if FIGURE in data else f"<pre>{html.escape(_text(output, data))}</pre>")
    kind, value = traits.get("_model_name", ""), traits.get("value")
    if kind == "HTMLModel":  # the kit escapes what users typed when it sets it
        parts.append(f'<div class="{html.escape(" ".join(traits.get("_dom_classes", ())))}">{value}</div>')
    elif value is not None and traits.get("description"):
        parts.append(f"<p>{html.escape(str(traits['description']))}: {html.escape(str(value))}</p>")
    return f"<div>{''.join(parts)}</div>" if traits.get("children") else "".join(parts)


def _text(output: dict, data: dict) -> str:
    return str(output.get("text") or data.get("text/plain", ""))


class _Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML."""

    def block_html(self, html: str) -> str:
        # only where there is an image to embed: that parses the block, and closes a <details> that goes on below it
        return super().block_html(html) if "<img" in html else html + "\n"

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_math(self, body: str) -> str:
        return _formula(body, "block")


def _markdown(source: str, path: str = "") -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False, embed_images=True, path=path)).render(source)


class _Exporter(HTMLExporter):
    """nbconvert's, with our renderer of Markdown."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        path = context["resources"]["metadata"].get("path", "")
        return _markdown(source, path)


def _formula(body: str, display: str) -> str:
    """LaTeX as MathML; as it was written where it cannot be read."""
    try:
        return convert(body.strip("$ "), display=display)
    except Exception:  # the converter raises all sorts of errors on LaTeX that it does not know
        return f"<code>{html.escape(body)}</code>"
