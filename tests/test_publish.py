"""docs/publish.py on a copy of the checkout: badges and addresses, and a notebook opened on its own in Colab."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ADDRESS = "https://github.com/some-one/arith.lab"


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "publish.py", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    return tmp_path


def published(copy, *words):
    words = [sys.executable, copy / "docs" / "publish.py", *words]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def texts(copy):
    return {path.name: path.read_text() for path in [copy / "README.md", *sorted(copy.glob("notebooks/*.ipynb"))]}


def test_every_page_gets_its_badge_and_a_second_call_replaces_the_first(copy):
    assert published(copy, "https://github.com/earlier/name").returncode == 0
    assert published(copy, f"{ADDRESS}.git").returncode == 0
    once = texts(copy)
    assert published(copy, f"{ADDRESS}/").returncode == 0
    assert texts(copy) == once
    for name, text in once.items():
        assert "earlier/name" not in text
        assert text.count("[![Open in Colab]") == 1
        page = "00_start_here.ipynb" if name == "README.md" else name
        assert f"colab.research.google.com/github/some-one/arith.lab/blob/main/notebooks/{page})" in text
    assert once["README.md"].startswith(f"# arithlab\n\n[![tests]({ADDRESS}/actions/workflows/tests.yml/badge.svg)]")


@pytest.mark.parametrize("words", [(), ("x",), ("http://github.com/a/b",), ("https://github.com/a",), (ADDRESS, "x")])
def test_what_is_no_address_changes_nothing(copy, words):
    before = texts(copy)
    done = published(copy, *words)
    assert done.returncode == 2
    assert "https://github.com/OWNER/NAME" in done.stderr
    assert texts(copy) == before


def test_a_notebook_opened_on_its_own_in_colab_clones_and_installs_once(copy, tmp_path):
    published(copy, ADDRESS)
    cells = json.loads((copy / "notebooks" / "03_multiplication.ipynb").read_text())["cells"]
    (cell,) = ["".join(cell["source"]) for cell in cells if "install" in cell["metadata"].get("tags", [])]
    alone, modules = tmp_path / "content", tmp_path / "modules"
    (alone).mkdir()
    (modules / "google" / "colab").mkdir(parents=True)
    (modules / "pip.py").write_text("import os, sys; print(os.path.basename(os.getcwd()), *sys.argv[1:])")
    git = modules / "git"  # stands for the real one: makes the folders of a clone
    git.write_text('#!/bin/sh\necho "$@"\nmkdir -p arithlab/notebooks && touch arithlab/pyproject.toml\n')
    git.chmod(0o755)
    env = {"PYTHONPATH": str(modules), "PATH": f"{modules}:/usr/bin:/bin"}
    cloned, installed = f"clone --quiet --depth 1 {ADDRESS} arithlab\n", "notebooks install --quiet ..[lab]\n"
    for colab, said in (("", "content install --quiet ..[lab]\n"), ("import google.colab\n", cloned + installed),
                        ("import google.colab\n", installed)):  # fmt: skip
        words = [sys.executable, "-S", "-c", colab + cell]  # -S: without what is installed beside this Python
        done = subprocess.run(words, env=env, cwd=alone, capture_output=True, text=True, check=True)
        assert done.stdout == said


def test_the_workflow_of_the_badge_runs_the_projects_own_ci():
    badge = runpy.run_path(ROOT / "docs" / "publish.py")["tests_badge"](ADDRESS)
    name = badge.partition("/workflows/")[2].partition("/")[0]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    assert "bash .ci/run" in workflow["jobs"]["tests"]["steps"][-1]["run"]
