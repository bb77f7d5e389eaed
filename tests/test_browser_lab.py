"""The widgets in a real JupyterLab in a headless Chromium: by keyboard, in both themes, cut off from the network.

The notebooks are opened with their widgets and the cells that these need; whole where ARITHLAB_WHOLE=1 (12 minutes).
Screenshots: outputs/screenshots/.
"""

import ast
import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from browser import NEEDS_BROWSER, browser, serious
from nbformat.v4 import new_code_cell, new_notebook
from test_notebooks import CUT_OFF, NOTEBOOKS, ROOT

pytestmark = NEEDS_BROWSER

WIDGETS = "TaskPicker AskBox TheoryExplorer LengthExplorer AttentionViewer MistakesBrowser ContextExplorer".split()
WHOLE = os.environ.get("ARITHLAB_WHOLE") == "1"
SHOTS = ROOT / "outputs" / "screenshots"
SETTINGS = {
    "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": '{"fetchNews": "false"}',
    "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}',
    "_CONFIG/labconfig/page_config.json": '{"buildCheck": false, "buildAvailable": false}',
}
SETUP = "import arithlab as al\nfrom arithlab.training.runs import Run\nal.setup()"
VIEWERS = """
run = al.train(al.Experiment(steps=1000))
al.AttentionViewer(run, ["4789+3214", "9999+1"])
---
al.MistakesBrowser(run, "D_4+D_5", n=200)
---
from arithlab.notebook import plots
al.show(plots.by_length({"learned": al.evaluate(run, [3, 4, 5], n=50)}, title="By length"))
"""


def names(source, context):
    """The names that a cell reads (ast.Load) or makes (ast.Store)."""
    nodes = [*ast.walk(ast.parse(source))]
    made = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} if context is ast.Store else set()
    return made | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


def light(path):
    """The set-up of a notebook, its widgets and the cells that make what these use, or all; None without a widget."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    chosen = {i for i, source in enumerate(code) if re.search(rf"\bal\.({'|'.join(WIDGETS)})\(", source)}
    if not chosen:
        return None
    if WHOLE:
        return code
    used = set()
    for i in reversed(range(3, len(code))):
        if i in chosen or names(code[i], ast.Store) & used:
            chosen.add(i)
            used |= names(code[i], ast.Load)
    return [*code[:3], *(code[i] for i in sorted(chosen))]


LIGHT = {path.stem: cells for path in NOTEBOOKS if (cells := light(path))}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with the light notebooks, whose server and kernels have no network either."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "sitecustomize.py").write_text(CUT_OFF)
    for part in ("notebooks", "outputs"):
        (folder / part).mkdir()
    (folder / "outputs" / "reference").symlink_to(ROOT / "outputs" / "reference")
    for stem, cells in {**LIGHT, "viewers": [SETUP, *VIEWERS.split("---")]}.items():
        book = new_notebook(cells=[new_code_cell(source.strip()) for source in cells])
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, folder / "notebooks" / f"{stem}.ipynb")
    for name, text in SETTINGS.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER{name}_DIR": str(folder / name) for name in ("_CONFIG", "_RUNTIME", "LAB_WORKSPACES")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "ARITHLAB_OUT": str(folder / "out")}
    env = {**os.environ, **own, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    words = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    words += ["--IdentityProvider.token=", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}"]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *words], env=env, stdout=log, stderr=log,
                                  cwd=folder)  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/status", timeout=5):
                break
            assert server.poll() is None, (folder / "log.txt").read_text()[-2000:]
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def chromium(tmp_path):
    with browser(tmp_path, localhost=True) as page:
        yield page


REPORT = ["| notebook | theme | width | rules passed | broken | a person must judge |", "|---|---|---|---|---|---|"]


def report_line(name, theme, width, scan):
    """A row of the table in docs/accessibility.md; behind a rule: how bad, and how many elements."""
    broken, unsure = (
        ", ".join(f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])})" for rule in scan[kind]) or "none"
        for kind in ("violations", "incomplete")
    )
    return f"| {name} | {theme.lower()} | {width} | {len(scan['passes'])} | {broken} | {unsure} |"


@pytest.fixture(scope="module", autouse=True)
def report():
    """Leaves the table of docs/accessibility.md beside the screenshots."""
    yield
    (SHOTS / "accessibility.md").write_text("\n".join(REPORT) + "\n")


# more than by a scrollbar: figures follow the window, not the bar that comes when the page grows
TOO_WIDE = """[...document.querySelectorAll('.jp-OutputArea-output')]
    .filter(one => one.scrollWidth > one.clientWidth + 16)
    .map(one => `${one.scrollWidth} > ${one.clientWidth}: ${one.innerText.slice(0, 80)}`)"""
# drawn flatter or higher than asked for
LOST_HEIGHT = """[...document.querySelectorAll('.jp-RenderedPlotly')]
    .map(one => [parseInt(getComputedStyle(one).minHeight), one.querySelector('svg').clientHeight])
    .filter(([asked, drawn]) => asked !== drawn)"""
PANEL = "[...jupyterapp.shell.widgets('main')][0]"


class Notebook:
    """A notebook in JupyterLab, all of whose cells have been run; its controls by their labels."""

    def __init__(self, page, address):
        self.page = page
        page.call("Emulation.setDeviceMetricsOverride", width=1000, height=2400, deviceScaleFactor=1, mobile=False)
        page.open(
            address,
            f"window.jupyterapp?.shell && {PANEL}?.sessionContext?.session?.kernel?.connectionStatus === 'connected'",
        )
        page.run(f"jupyterapp.shell.activateById({PANEL}.id)")
        page.run(f"{PANEL}.context.ready.then(() => jupyterapp.commands.execute('notebook:run-all-cells'))")
        cells = f"{PANEL}.content.widgets.filter(cell => cell.model.type === 'code')"
        page.wait(f"{cells}.every(cell => cell.model.executionCount)", 900 if WHOLE else 240)
        assert (
            page.run(f"{cells}.flatMap(cell => cell.model.outputs.toJSON()).filter(o => o.output_type === 'error')")
            == []
        )
        page.wait("document.querySelector('.jp-OutputArea-output .widget-label') !== null")

    def focus(self, label):
        """Put the keyboard on the control with this label, or on the button with these words."""
        find = f"""(label => {{
            const words = [...document.querySelectorAll('.jp-OutputArea-output .widget-label')];
            const box = words.find(one => one.textContent === label)?.parentElement;
            const buttons = [...document.querySelectorAll('.jp-OutputArea-output button')];
            const control = box?.querySelector('input:not([type=hidden]), select, textarea, [tabindex="0"]')
                || buttons.find(one => one.textContent === label);
            control?.focus();
            return document.activeElement === control && control !== undefined;
        }})({label!r})"""
        assert self.page.run(find), f"no control {label} that takes the keyboard"

    def text(self):
        """All that the outputs say."""
        return self.page.run(
            "[...document.querySelectorAll('.jp-OutputArea-output')].map(o => o.innerText).join('\\n')"
        )

    def wait(self, words, seconds=60):
        end = time.monotonic() + seconds
        while words not in self.text():
            assert time.monotonic() < end, f"{words!r} was never said: {self.text()[-1500:]}"
            time.sleep(0.1)

    def type(self, label, text):
        """Replace what stands in a text field and press Enter."""
        self.focus(label)
        self.page.run("document.activeElement.select()")
        self.page.press(*text, "Enter")

    def choose(self, label, key):
        """Open a list by the space bar, move in it and press Enter; JupyterLab keeps the arrows of a closed list."""
        self.focus(label)
        self.page.press(" ")
        time.sleep(0.5)
        self.page.press(key, "Enter")

    def press(self, label):
        """Press a button by the space bar."""
        self.focus(label)
        self.page.press(" ")

    def look(self, name):
        """Screenshots in both themes and widths; returns what axe finds serious in the outputs, and notes all of it."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        found = []
        for theme, width in itertools.product(("Light", "Dark"), (900, 1600)):
            self.page.run(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
            self.page.wait(f"document.body.dataset.jpThemeName === 'JupyterLab {theme}'")
            height = self.page.run("document.querySelector('.jp-WindowedPanel-inner').scrollHeight")
            self.page.screenshot(SHOTS / f"{name}-{theme.lower()}-{width}.png", width, height + 200)
            assert self.page.run(LOST_HEIGHT) == [], f"in a window of {width} pixels"
            for _ in range(50):  # figures are drawn anew a while after the window has changed
                if not (wide := self.page.run(TOO_WIDE)):
                    break
                time.sleep(0.1)
            assert wide == [], f"in a window of {width} pixels"
            scan = self.page.axe(".jp-OutputArea-output")
            REPORT.append(report_line(name, theme, width, scan))
            found += [f"{theme}: {one}" for one in serious(scan)]
        return found


@pytest.fixture
def opened(lab, chromium):
    """Opens a notebook; afterwards nothing may have gone wrong in the page or left this machine."""

    def open_(stem):
        return Notebook(chromium, f"{lab}/doc/workspaces/{stem}/tree/notebooks/{stem}.ipynb")

    yield open_
    hosts = {re.match(r"\w+://([^/:]*)", url)[1] for url in chromium.requests}
    assert hosts == {"127.0.0.1"}
    assert chromium.problems == []


def test_the_notebooks_with_widgets_are_found():
    assert {name[:2] for name in LIGHT} == {"00", "02", "03", "04", "05", "07", "08"}


def ask(notebook):
    notebook.type("question", "12345+678")
    notebook.wait("13023  truth")
    notebook.type("question", "<b>1</b>")
    notebook.wait("is no question")


def train_and_stop(notebook):
    notebook.type("modulus", "7")
    notebook.wait("mod 7")
    notebook.press("Train")
    notebook.wait(" step ", 60)
    notebook.press("Stop")
    notebook.wait("Stopped. Train goes on from here.")
    notebook.press("Train")  # the button has come back
    notebook.wait(" step ", 60)
    notebook.press("Stop")
    notebook.wait("Stopped.")


def change_the_base(notebook):
    notebook.type("base", "3")
    notebook.wait("(a mod 3^2) * (b mod 3^2)")


def change_base_and_modulus(notebook):
    notebook.type("base b", "12")
    notebook.type("modulus p", "144")
    notebook.wait("add mod 144 base 12, trained on")
    notebook.wait("100.00 % of its answers are right")


def change_the_window(notebook):
    notebook.choose("temperature", "ArrowDown")
    notebook.wait("temperature 1.5: ")
    notebook.wait("are right")


def view_another_head(notebook):
    notebook.wait("Layer 1, head 1 while the model answers 4789+3214")
    notebook.choose("layer", "ArrowDown")
    notebook.wait("Layer 2, head 1 while")
    notebook.choose("head", "ArrowDown")
    notebook.wait("Layer 2, head 2 while")


def give_examples(notebook):
    notebook.type("question", "3 x")
    notebook.wait("write 2 whole numbers")
    notebook.type("question", "2 3")
    notebook.wait("the examples leave 1 of 49 tasks, all of which answer 6")
    notebook.type("tasks", "12")
    notebook.wait("Not trained yet")
    notebook.type("tasks", "40")  # and the figure is back
    notebook.wait("The model answers")


def view_and_browse(notebook):
    before = notebook.text()
    notebook.choose("head", "ArrowDown")
    notebook.wait("Layer 1, head 2 while")
    notebook.choose("layer", "ArrowDown")
    notebook.wait("Layer 2, head 2 while the model answers 4789+3214")
    notebook.type("another", "12+34")
    notebook.wait("answers 12+34")
    assert "Mistake 1 of" in before
    notebook.press("Next")
    notebook.wait("Mistake 2 of")
    notebook.choose("kind", "End")
    notebook.wait("Mistake 1 of")
    notebook.type("test domain", "D_6")
    notebook.wait("0.0 % of 200 answers are right")
    lists = "[...document.querySelectorAll('.jp-OutputArea-output select')]"
    chosen = f"{lists}.map(one => one.selectedOptions[0]?.textContent ?? '')"
    assert all(notebook.page.run(chosen)), "a list shows nothing"


CHANGES = {
    "00_start_here": ask,
    "02_ape_vs_rpe": train_and_stop,
    "03_multiplication": change_the_base,
    "04_mod_100_vs_101": change_base_and_modulus,
    "05_attention_inspection": view_another_head,
    "07_in_context_modular": give_examples,
    "08_length_generalization": change_the_window,
    "viewers": view_and_browse,
}


@pytest.mark.parametrize("stem", [*LIGHT, "viewers"])
def test_widgets_work_by_keyboard_alone_and_can_be_read_by_everyone(opened, stem):
    notebook = opened(stem)
    CHANGES.get(stem, lambda notebook: None)(notebook)
    assert notebook.look(stem) == []


def test_the_scan_does_notice_what_cannot_be_read(tmp_path):
    (tmp_path / "bad.html").write_text(
        "<html lang=en><title>x</title><main><input><p style='color:#eee'>pale</p></main>"
    )
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "bad.html")
        assert {one.split()[0] for one in serious(page.axe("main"))} == {"label", "color-contrast"}
