"""What training needs of the machine: a device, memory, and conditions that decide which bytes come out."""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from .. import __version__
from ..errors import ArithlabError, TrainingFailed
from .recipe import Recipe


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one."""
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        try:
            return choose_device("cuda")
        except ArithlabError as error:
            print(f"The GPU cannot be used ({error.__cause__}): training on the CPU.", file=sys.stderr)
            return torch.device("cpu")
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ArithlabError(
            f"device {device!r} cannot be used here: choose 'auto', 'cpu', or 'cuda' where there is a GPU."
        ) from error


def conditions(device: torch.device) -> dict:
    """What decides, beside the experiment, whether two runs have equal bytes: device, threads, versions, flags."""
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "arithlab": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "flags": {
            "hardware": cpu if device.type == "cpu" else torch.cuda.get_device_name(device),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "matmul": torch.get_float32_matmul_precision(),
        },
    }


@contextmanager
def memory_errors_told(experiment: Recipe | None = None, asked: str = "") -> Iterator[None]:
    """Running out of memory becomes TrainingFailed, which names the batch size and half of it.

    asked: what a model was asked, where nothing is trained; then an ArithlabError says what to ask instead.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # the CPU's allocator raises a plain RuntimeError
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not short:
            raise
        if asked:
            raise ArithlabError(f"out of memory with {asked}: ask shorter questions, or fewer at once.") from error
        raise TrainingFailed(
            f"out of memory with size {experiment.size} and batch {experiment.batch}: "
            f"try batch {max(1, experiment.batch // 2)}, or a smaller size."
        ) from error
