"""The project itself: floors, quick import, versions in one place, no paths of any machine."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from arithlab.training.experiment import Experiment
from arithlab.training.grids import read_grid, recorded
from arithlab.training.in_context import InContextExperiment
from arithlab.training.runs import Run, reference_folder

ROOT = Path(__file__).parent.parent
LARGE = {"hf"}  # extras that one asks for by name
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {re.match(r"[\w-]+", r)[0]: r for group in lists for r in group}


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_the_floors_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("heavy", ["torch", "plotly", "ipywidgets", "pandas", "papermill"])
def test_importing_the_package_loads_nothing_heavy(heavy):
    done = subprocess.run(
        [sys.executable, "-c", f"import arithlab, sys; sys.exit({heavy!r} in sys.modules)"], check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words", ["import arithlab; arithlab.setup()", "import arithlab.cli as c; c.main(['run', '00'])"]
)
def test_a_package_of_the_notebooks_that_is_missing_is_named(words):
    hide = "import sys; sys.modules |= dict.fromkeys(['plotly', 'papermill', 'nbformat', 'ipywidgets'])\n"
    done = subprocess.run([sys.executable, "-c", hide + words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "pip install 'arithlab[lab]'" in done.stderr.splitlines()[-1], done.stderr


def test_a_bare_machine_can_train_and_sweep_without_the_notebooks_packages(tmp_path):
    hide = (
        "import sys; sys.modules |= dict.fromkeys(['plotly', 'papermill', 'nbformat', 'ipywidgets', 'distributed'])\n"
    )
    code = "import arithlab as al\nprint(al.train(al.Experiment(train='D_1', size='1-1-8', steps=2)).finished)"
    code += "\nfrom arithlab.cli import main\nprint(main(['sweep', 'g.toml', '--dask', 'local']))"
    (tmp_path / "g.toml").write_text("[common]\nsteps = 3")
    done = subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "True" in done.stdout, done.stderr
    assert done.stdout.split()[-1] == "1"
    assert "pip install 'arithlab[dask]'" in done.stderr


def test_no_text_is_executed_and_no_pickle_loaded():
    for path in sorted((ROOT / "arithlab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", None) not in ("eval", "exec", "compile", "__import__"), path
                assert ast.unparse(node.func) not in ("torch.load", "np.load", "os.system"), path
                assert not any(word.arg == "shell" for word in node.keywords), path
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not names & {"pickle", "cloudpickle", "joblib", "marshal", "shelve"}, path


def test_jupyter_keeps_its_defaults():
    for name in ("Makefile", "README.md", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"--ip|0\.0\.0\.0|allow.root|token=|password=|disable_check_xsrf|jupyter trust", text), (
            name
        )


def test_every_public_name_is_there():
    import arithlab as al

    for name in al.__all__:
        assert getattr(al, name) is not None
    with pytest.raises(AttributeError):
        _ = al.nothing


def test_every_requirement_is_pinned_at_a_version_that_satisfies_it():
    pinned = {name.lower(): version for name, version in constraints().items()}
    for name, requirement in requirements().items():
        key = name.lower().replace("-", "_")
        version = pinned.get(name.lower()) or pinned.get(key)
        assert version, f"{name} is not in constraints.txt"
        assert numbers(version) >= numbers(requirement.split(">=")[1])


def test_torch_and_the_security_floors():
    assert constraints()["torch"] == "2.13.0"
    assert requirements()["torch"] == "torch>=2.11"
    assert numbers(constraints()["jupyter_server"]) >= (2, 20)
    assert numbers(constraints()["nbconvert"]) >= (7, 17, 1)


def test_environment_yml_says_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "-c constraints.txt" in pip
    extras = re.search(r"-e \.\[([\w,]+)\]", " ".join(pip))[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - LARGE
    assert len(pip) == 2  # no package is listed twice, here and in pyproject.toml
    python = next(e for e in environment["dependencies"] if str(e).startswith("python="))
    assert numbers(python) >= numbers(PROJECT["requires-python"])
    setuptools = next(e for e in environment["dependencies"] if str(e).startswith("setuptools="))
    assert constraints()["setuptools"].startswith(setuptools.split("=")[1])


def test_the_makefile_installs_the_same_extras():
    extras = re.search(r"-e '\.\[([\w,]+)\]'", (ROOT / "Makefile").read_text())[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - LARGE


def test_the_citation_names_the_three_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {r["doi"].split("arXiv.")[1] for r in cited["references"]} == {"2407.17963", "2308.08268", "2406.02550"}
    assert cited["version"] == __import__("arithlab").__version__


def test_ruff_finds_nothing():
    done = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "check", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_grids_at_the_papers_scale_are_read_and_have_the_papers_settings():
    grids = {path.stem: read_grid(path).experiments for path in (ROOT / "grids" / "paper").glob("*.toml")}
    assert set(grids) == {
        "addition",
        "addition_mod",
        "multiplication",
        "multiplication_mod",
        "equivalence",
        "gpt2",
        "in_context",
        "in_context_fast",
    }
    for name in ("addition", "addition_mod"):
        assert all(e == Experiment.faithful(task=e.task, train=e.train) for e in grids[name])
    assert {str(e.task_.modulus) for e in grids["multiplication_mod"]} == {
        str(e.task_.modulus) for e in grids["addition_mod"]
    }
    assert InContextExperiment.faithful() in grids["in_context"]


@pytest.mark.parametrize("path", sorted((ROOT / "grids").glob("*.toml")), ids=lambda path: path.stem)
def test_every_run_of_the_recorded_grids_is_there(path):
    grid = read_grid(path)
    if grid.digits or isinstance(grid.experiments[0], InContextExperiment):
        table = recorded(path.stem)
        assert table["run"].tolist() == [experiment.id for experiment in grid.experiments]
        assert {f"exact_match_{digits}" for digits in grid.digits} <= set(table)
        return
    for experiment in grid.experiments:
        run = Run.of(experiment)
        assert run.finished, experiment
        assert run.path.parent == reference_folder()
