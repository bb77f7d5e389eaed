"""`make growth`: how time and memory grow with digits, parameters, seeds and workers, as one figure and one table.

Writes outputs/growth.json and outputs/growth.html. Every point is a process of its own, so that its peak memory is
its own; an exponent is the slope between the last two points of a line on doubly logarithmic axes.
"""

import json
import math
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import arithlab as al  # before torch: it sets how threads wait

import plotly.graph_objects as go  # isort: skip
import torch
from plotly.subplots import make_subplots

from arithlab.arithmetic import batches
from arithlab.arithmetic.domains import domain
from arithlab.notebook.plots import COLOURS
from arithlab.training.evaluate import exact_matches
from arithlab.training.runs import output_folder, write_file
from arithlab.training.sweep import sweep
from arithlab.training.trainer import Trainer

CPU = torch.device("cpu")
WINDOWED = {"positions": "clipped places window 1", "format": "aligned", "train": "D_1-5"}


def timed(action: Callable[[], object], least: float = 1.0) -> float:
    """Seconds of one call: the smallest of as many as fit into `least` seconds, after one unmeasured call."""
    action()
    times: list[float] = []
    while sum(times) < least:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def answering(positions: str, digits: int) -> float:
    """Seconds to judge 4 sums of so many digits in one pass."""
    e = al.Experiment(**{**WINDOWED, "positions": positions})
    model = e.model().eval()
    a, b = batches.held_out_pairs(domain(f"D_ab{digits}"), 10, 4)
    tokens = e.format_.encode(e.task_, a, b)
    return timed(lambda: exact_matches(model, tokens), 0.2)


def training(size: str, seeds: int, batch: int) -> float:
    """Seconds of a training step."""
    trainer = Trainer(al.Experiment(size=size, batch=batch), CPU, range(seeds))
    steps = iter(range(10**9))
    return timed(lambda: trainer.step(next(steps)))


def sweeping(workers: int) -> float:
    """Seconds of a sweep of 4 short runs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ARITHLAB_OUT"] = folder
        grid = Path(folder) / "grid.toml"
        grid.write_text("[[runs]]\nsteps = 150\nbatch = 64\nseed = [0, 1, 2, 3]\n")
        start = time.perf_counter()
        sweep(grid, workers=workers)
        return time.perf_counter() - start


LINES = {  # title: (unit of x, {line: [(x, function, arguments)]})
    "4 sums judged": (
        "digits",
        {
            "window 1": [(n, answering, ("clipped places window 1", n)) for n in (10, 100, 1_000, 10_000)],
            "no window": [(n, answering, ("clipped places", n)) for n in (10, 100, 300, 1_000)],
        },
    ),
    "one training step": (
        "parameters",
        {
            "batch 64": [
                (12 * layers * width**2, training, (f"{layers}-4-{width}", 1, 64))
                for layers, width in ((2, 64), (4, 128), (4, 256), (6, 384))
            ]
        },
    ),
    "one step of all seeds": ("seeds", {"batch 64": [(n, training, ("tiny", n, 64)) for n in (1, 2, 4, 8)]}),
    "a sweep of 4 runs": ("workers", {"150 steps": [(n, sweeping, (n,)) for n in (1, 2)]}),
}


def alone(function: Callable, arguments: tuple, pipe) -> None:
    """Run in a fresh process: seconds, and peak memory in MB beyond its imports (a sweep: with its largest worker)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = function(*arguments)
    after = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pipe.send((seconds, (after - before) / 1024))


def measure(function: Callable, arguments: tuple) -> tuple[float, float]:
    """Seconds and MB of one point."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=alone, args=(function, arguments, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def exponent(points: list[dict], what: str) -> float:
    """Slope between the last two points on doubly logarithmic axes."""
    (x0, y0), (x1, y1) = [(p["x"], max(p[what], 1e-9)) for p in points[-2:]]
    return math.log(y1 / y0) / math.log(x1 / x0)


def main() -> None:
    """Measure, print, draw."""
    figure = make_subplots(2, 4, subplot_titles=[*LINES, *[""] * 4], vertical_spacing=0.12)
    rows = []
    for column, (title, (unit, lines)) in enumerate(LINES.items(), 1):
        for colour, (line, points) in zip(
            COLOURS, lines.items(), strict=False
        ):  # one line, one colour, above and below
            found, drawn = [], {"name": line, "mode": "lines+markers", "line": {"color": colour}}
            for x, function, arguments in points:
                seconds, memory = measure(function, arguments)
                found.append({"title": title, "line": line, "unit": unit, "x": x, "seconds": seconds, "memory": memory})
                print(f"{title:24} {line:12} {x:>10,} {unit:12} {seconds:9.3f} s {memory:9.0f} MB", flush=True)
            print(f"{title:24} {line:12} grows with {unit} to the power {exponent(found, 'seconds'):.2f} in time")
            rows += found
            for row, what in ((1, "seconds"), (2, "memory")):
                x, y = [p["x"] for p in found], [p[what] for p in found]
                figure.add_scatter(x=x, y=y, **drawn, showlegend=row == column == 1, row=row, col=column)
                figure.update_yaxes(title="seconds" if row == 1 else "MB", row=row, col=column)
        figure.update_xaxes(title=unit, row=2, col=column)
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    figure.update_layout(width=1500, height=700, title="Time (above) and memory (below)")
    write_file(output_folder() / "growth.json", json.dumps(rows, indent=1))
    write_file(output_folder() / "growth.html", go.Figure(figure).to_html(include_plotlyjs=True))


if __name__ == "__main__":
    main()
