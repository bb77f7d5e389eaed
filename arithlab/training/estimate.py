"""How long a training will take on this machine, before it starts."""

import time
from functools import lru_cache

import torch

from .experiment import Experiment
from .machine import choose_device
from .recipe import Recipe
from .trainer import Trainer


def work(experiment: Recipe) -> float:
    """Floating-point operations of one step: about 6 per parameter and token, and the attention's share."""
    e = experiment
    shape = e.shape
    attention = 12 * shape.layers * shape.width * e.sequence
    return e.batch * e.sequence * (6 * 12 * shape.layers * shape.width**2 + attention)


@lru_cache
def _yardstick(device: str) -> float:
    """Seconds per floating-point operation, read off a few steps of the default experiment."""
    experiment = Experiment()
    trainer = Trainer(experiment, choose_device(device))
    trainer.step(0)
    start = time.perf_counter()
    for step in range(1, 5):
        loss = trainer.step(step)
    loss.item()
    return (time.perf_counter() - start) / 4 / work(experiment)


def seconds_per_step(experiment: Recipe, device: str = "auto") -> float:
    """Expected seconds of one step here; right to about a factor of 1.5."""
    state = torch.get_rng_state()
    try:
        return work(experiment) * _yardstick(device)
    finally:
        torch.set_rng_state(state)


def duration(seconds: float) -> str:
    """A rounded time in words.

    >>> duration(42), duration(600), duration(30_000)
    ('42 s', '10 min', '8.3 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


def steps_in(experiment: Recipe, seconds: float, device: str = "auto") -> int:
    """How many steps fit into so many seconds, rounded to 50 so that a second call names the same run."""
    steps = seconds / seconds_per_step(experiment, device)
    return max(50, round(steps / 50) * 50)
