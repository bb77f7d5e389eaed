"""The notebooks of the series: where they are, which ones a name means, and reading one."""

from pathlib import Path

import nbformat

from ..errors import ArithlabError, UnknownName, shorten


def notebook_folder() -> Path:
    """The folder of the series: `notebooks` of the checkout around the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / "notebooks").glob("[0-9][0-9]_*.ipynb")):
            return folder / "notebooks"
    raise ArithlabError("no folder `notebooks` here or above: run this inside a checkout of arithlab.")


def find_notebooks(name: str) -> list[Path]:
    """The notebooks that a name means: `all`, a number such as 02, a name such as 02_ape_vs_rpe, or a file."""
    if Path(name).suffix == ".ipynb":
        if not Path(name).is_file():
            raise ArithlabError(f"no notebook {shorten(name)}: give a file that exists, a number such as 02, or 'all'.")
        return [Path(name)]
    series = sorted(notebook_folder().glob("[0-9][0-9]_*.ipynb"))
    found = series if name == "all" else [path for path in series if name in (path.stem, path.stem[:2])]
    if not found:
        raise UnknownName("notebook", name, ["all", *(path.stem for path in series)])
    return found


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook in a file; raises ArithlabError where there is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ArithlabError(f"{path} cannot be read as a notebook.") from error
