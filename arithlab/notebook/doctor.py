"""What is installed, what is missing, and how fast this machine is."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

import torch

from ..training.estimate import seconds_per_step
from ..training.experiment import Experiment
from ..training.runs import output_folder

NEEDED = "lab"  # the extra whose packages the notebooks need


def report() -> dict:
    """{"packages": [{"name", "needs", "installed", "ok"}], "machine": {...}}."""
    packages = []
    for requirement in importlib.metadata.requires("arithlab") or []:
        match = re.fullmatch(rf"([\w-]+)>=([\d.]+)(?:; extra == ['\"]{NEEDED}['\"])?", requirement)
        if match:
            name, lowest = match.groups()
            try:
                installed = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                installed = None
            ok = installed is not None and _numbers(installed) >= _numbers(lowest)
            packages.append({"name": name, "needs": f">={lowest}", "installed": installed, "ok": ok})
    matrix = torch.randn(1024, 1024)
    matrix @ matrix
    start = time.perf_counter()
    for _ in range(5):
        matrix @ matrix
    speed = 5 * 2 * 1024**3 / (time.perf_counter() - start)
    step = seconds_per_step(Experiment(), "cpu")
    machine = {
        "python": platform.python_version() + (" in a virtual environment" if sys.prefix != sys.base_prefix else ""),
        "packages come from": sys.prefix,
        "jupyter comes from": _prefix_of("jupyter-lab"),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none (a CPU is enough)",
        "float32 matrix products": f"{speed / 1e9:.0f} GFLOP/s",
        "a 4-digit adder (the default experiment)": f"about {step * Experiment().steps:.0f} s",
        "results go to": str(output_folder()),
    }
    return {"packages": packages, "machine": machine}


def _prefix_of(command: str) -> str:
    """Where a command is installed: another place than ours means that JupyterLab does not see our widgets."""
    found = shutil.which(command)
    return str(Path(found).parent.parent) if found else "nowhere: `source .venv/bin/activate` first"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
