"""Headless execution of notebooks: strict about parameters, honest about success.

papermill runs them. What it leaves open is closed here: unknown or ill-typed parameters are refused before
a kernel starts, the result appears under its final name only if every cell ran and no output hides an
error, and a failed notebook is kept beside it with its traceback.
"""

import ast
import keyword
import logging
import os
import re
import sys
import time
import warnings
from pathlib import Path

import nbformat
from nbclient.exceptions import DeadKernelError

from ..errors import ArithlabError, CannotWrite, StudyFailed, UnknownName, shorten
from ..training.runs import inside, output_folder, write_file
from .figures import save_figures
from .kernel import Manager
from .series import find_notebooks, read_notebook

TYPES = {"bool": bool, "int": int, "float": float, "str": str}
CELL_SECONDS = 3_600  # a cell that takes longer has hung


def declared_parameters(path: Path) -> dict[str, tuple[type, object]]:
    """Name, type and default of every line of the notebook's one `parameters` cell."""
    cells = [
        c for c in read_notebook(path).cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise ArithlabError(f"{path} has {len(cells)} cells tagged `parameters`: it needs exactly one.")
    declared = {}
    for node in ast.parse(cells[0].source).body:
        if not isinstance(node, ast.AnnAssign) or getattr(node.annotation, "id", None) not in TYPES:
            raise ArithlabError(
                f"{path}: in the `parameters` cell every line reads NAME: type = value, type one of {', '.join(TYPES)}."
            )
        declared[node.target.id] = (TYPES[node.annotation.id], ast.literal_eval(node.value))
    return declared


def parse_parameters(path: Path, given: dict[str, str]) -> dict[str, object]:
    """The given texts as values of the declared types; anything else is refused."""
    declared = declared_parameters(path)
    values = {}
    for name, text in given.items():
        if name not in declared or not name.isidentifier() or keyword.iskeyword(name):
            raise UnknownName(f"parameter of {path.stem}", name, declared)
        kind, default = declared[name]
        values[name] = _value(name, text, kind, default)
    return values


def _value(name: str, text: str, kind: type, default: object) -> object:
    if kind is str:
        return text
    if kind is bool and text in ("True", "False"):
        return text == "True"
    if kind is int and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if kind is float and re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", text):
        return float(text)
    example = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
    raise ArithlabError(f"parameter {name} {shorten(text)}: allowed is {example}, for example {default}.")


def run_notebooks(name: str, given: dict[str, str], *, quick: bool = False) -> int:
    """Execute notebooks, print a table, and return the exit status: 0 if all are clean, else 1."""
    paths = find_notebooks(name)
    parameters = {path: parse_parameters(path, given) for path in paths}
    if quick:
        for path, values in parameters.items():
            if "QUICK" in declared_parameters(path):
                values.setdefault("QUICK", True)
    rows = []
    for number, path in enumerate(paths, 1):
        start = time.perf_counter()
        print(f"[{number}/{len(paths)}] {path.stem}", file=sys.stderr, flush=True)
        try:
            target = execute(path, parameters[path])
            save_figures(target)
            verdict = "ok"
        except StudyFailed as error:
            verdict, target = "FAILED", Path(f"{_target(path).with_suffix('')}.failed.ipynb")
            print(f"arithlab: {error}", file=sys.stderr)
        rows.append((path.stem, f"{time.perf_counter() - start:.0f} s", verdict, _shown(target)))
    widths = [max(len(row[i]) for row in [("notebook", "time", "verdict", "output"), *rows]) for i in range(4)]
    for row in [("notebook", "time", "verdict", "output"), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0 if all(row[2] == "ok" for row in rows) else 1


def execute(path: Path, parameters: dict[str, object]) -> Path:
    """Execute one notebook; returns the executed copy, or raises StudyFailed and leaves NAME.failed.ipynb."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # else an interrupt inside a task leaves a traceback
    warnings.filterwarnings("ignore", module="papermill|nbclient|zmq|jupyter_client")
    target = _target(path)
    failed = Path(f"{target.with_suffix('')}.failed.ipynb")
    part = target.with_name(f".{target.stem}.{os.getpid()}.part.ipynb")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"cannot write to {target.parent}: {error.strerror}. Choose another folder with ARITHLAB_OUT."
        ) from error
    before = os.environ.get("ARITHLAB_QUIET")
    os.environ["ARITHLAB_QUIET"] = "1"  # progress bars of the kernel; the one below counts cells, on a terminal only
    bar, problem = {"desc": path.stem, "leave": False, "ncols": 80, "disable": None}, None
    try:
        try:
            papermill.execute_notebook(
                _literal(path), _literal(part), parameters, cwd=str(path.parent), kernel_name="python3",
                progress_bar=bar, execution_timeout=CELL_SECONDS, request_save_on_cell_execute=True,
                extra_arguments=["--log-level=50"], kernel_manager_class=Manager,  # 50: errors only
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            problem = f"cell {error.cell_index}: {error.ename}: {error.evalue}"
        except DeadKernelError:
            problem = "the kernel died (out of memory?)"
        except RuntimeError as error:  # nbclient: timeouts and lost kernels
            problem = f"the kernel could not go on: {error}"
        problem = problem or (hidden_problem(part) if part.is_file() else "nothing was executed")
        text = part.read_text(encoding="utf-8") if part.is_file() else "{}"
        if problem:
            write_file(failed, text)
            raise StudyFailed(f"{path.stem} failed at {problem.splitlines()[0][:300]} (see {_shown(failed)})")
        write_file(target, text)
        failed.unlink(missing_ok=True)
        return target
    finally:
        part.unlink(missing_ok=True)
        if before is None:
            os.environ.pop("ARITHLAB_QUIET", None)


def hidden_problem(path: Path) -> str | None:
    """Why an executed notebook is no success: a cell not run, an error in an output or inside a widget."""
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            return f"cell {number}, which was not executed"
        for output in cell.outputs:
            if output.output_type == "error":
                return f"cell {number}: {output.ename}: {output.evalue}"
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for model in widgets.values():
        for output in model.get("state", {}).get("outputs", []) or []:
            if output.get("output_type") == "error":
                return f"a widget, which hides {output.get('ename')}: {output.get('evalue')}"
    return None


def _target(path: Path) -> Path:
    return inside(output_folder() / "notebooks" / path.name)


def _literal(path: Path) -> str:
    """A path for papermill, which reads braces as fields to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
