"""Once, when the repository gets a public address: badges, and notebooks that can fetch it.

    python docs/publish.py https://github.com/OWNER/NAME

The badges, in the README and in every notebook, say whether the tests pass and open the notebook in Colab, where its
second cell then clones the repository. What an earlier call wrote is replaced.
"""

import re
import sys
from pathlib import Path

import nbformat

ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?")
BADGES = re.compile(r"\n\n\[!\[[^\n]*")
FETCH = """
if "google.colab" in sys.modules and not Path("../pyproject.toml").is_file():  # opened by its badge, on its own
    if not Path("arithlab").is_dir():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{address}", "arithlab"], check=True)
    os.chdir("arithlab/notebooks")
"""


def tests_badge(address: str) -> str:
    """Whether the tests pass on main."""
    return f"[![tests]({address}/actions/workflows/tests.yml/badge.svg)]({address}/actions/workflows/tests.yml)"


def colab_badge(address: str, notebook: str) -> str:
    """Opens this notebook in Colab."""
    page = address.replace("https://github.com", "https://colab.research.google.com/github")
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({page}/blob/main/notebooks/{notebook})"


def under_title(text: str, badges: str) -> str:
    """The text with these badges as the paragraph after its first line, in place of those that stood there."""
    title, rest = BADGES.sub("", text, count=1).split("\n", 1)
    return f"{title}\n\n{badges}\n{rest}"


def publish(address: str, root: Path) -> None:
    """Write the address into a checkout."""
    readme = root / "README.md"
    badges = f"{tests_badge(address)} {colab_badge(address, '00_start_here.ipynb')}"
    readme.write_text(under_title(readme.read_text(encoding="utf-8"), badges), encoding="utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        book.cells[0].source = under_title(book.cells[0].source, colab_badge(address, path.name))
        install = next(cell for cell in book.cells if "install" in cell.metadata.get("tags", []))
        needed = install.source[install.source.index("if importlib") :]
        modules = "import importlib.util\nimport os\nimport subprocess\nimport sys\nfrom pathlib import Path\n"
        install.source = f"{modules}{FETCH.format(address=address)}{needed}"
        nbformat.write(book, path)


if __name__ == "__main__":
    found = ADDRESS.fullmatch(sys.argv[1]) if len(sys.argv) == 2 else None
    if found is None:
        print("the address of the repository is missing or is none: python docs/publish.py https://github.com/OWNER/NAME",
              file=sys.stderr)  # fmt: skip
        sys.exit(2)
    publish(f"https://github.com/{found[1]}", Path(__file__).parent.parent)
