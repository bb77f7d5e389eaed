"""`make bench`: how fast, against what a user would run instead. Ratios are medians of ROUNDS rounds in one run.

Prints one table (what, ours, baseline, ratio, goal) and writes it to outputs/bench.json.
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import arithlab as al  # before torch: it sets how threads wait

import torch  # isort: skip

import textbook

from arithlab.arithmetic import batches
from arithlab.training.evaluate import exact_matches, test_sets
from arithlab.training.fit import fit
from arithlab.training.recipe import PRECISIONS
from arithlab.training.runs import output_folder, write_file
from arithlab.training.trainer import Trainer

ROUNDS = 5
SEEDS = 8
PLACES = {"format": "aligned", "positions": "clipped places window 1"}


def seconds(action: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def duel(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of both, measured in turns after one unmeasured call each."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def steps(trainer, count: int = 5) -> Callable[[], None]:
    """A call that trains a few steps more."""
    numbers = iter(range(10**9))

    def go() -> None:
        for _ in range(count):
            trainer.step(next(numbers))

    return go


def row(what: str, ours: str, baseline: str, ratio: float | None, goal: str, met: bool | None) -> dict:
    """One line of the table."""
    shown = "" if ratio is None else f"{ratio:.1f}x"
    verdict = "" if met is None else "met" if met else "not met"
    print(f"{what:62} {ours:>16} {baseline:>16} {shown:>8} {goal:>20} {verdict}", flush=True)
    return {"what": what, "ours": ours, "baseline": baseline, "ratio": ratio, "goal": goal, "met": met}


def time_to_adder(name: str, **changes) -> dict:
    """Seconds until lengths 1 to 4 of D_4 addition stand at 99 % on the followed test sets, every seed."""
    times = []
    for seed in range(SEEDS):
        start = time.perf_counter()
        for now in fit(al.Experiment(seed=seed, **changes)):
            if now.rows and all(r["exact_match"] >= 0.99 for r in now.rows[:4]):
                times.append(time.perf_counter() - start)
                break
        else:
            times.append(float("inf"))
    middle, worst = statistics.median(times), max(times)
    ours = f"{middle:.0f} s, worst {worst:.0f} s"
    what = f"time to a D_4 adder, {name} ({SEEDS} seeds)"
    return row(what, ours, "", None, "20 s, worst 40 s", middle <= 20 and worst <= 40)


def throughput(name: str, size: str, layers: int, heads: int, width: int) -> list[dict]:
    """Training against the textbook loop at the same size, batch and length, and its share of the machine's peak."""
    experiment = al.Experiment(size=size)
    ours, theirs = duel(
        steps(Trainer(experiment, torch.device("cpu"))),
        steps(textbook.Trainer(layers, heads, width, 9, experiment.batch)),
    )
    per_second = [5 * experiment.batch / t for t in (ours, theirs)]
    shown = [f"{x:,.0f} ex/s" for x in per_second]
    rows = [row(f"training, {name}, 30 tokens, batch 256", *shown, theirs / ours, ">= 3x", theirs / ours >= 3)]
    matrix = torch.randn(1024, 1024)
    peak = 2 * 1024**3 / min(seconds(lambda: matrix @ matrix) for _ in range(20))
    # products actually done: the last block works on the answer's tokens only
    length, tail = experiment.format_.length(experiment.task_) - 1, experiment.format_.answer_width(experiment.task_)
    block = 12 * width**2 * length * (layers - 1) + (2 * width**2) * length + (10 * width**2) * tail
    share = 6 * block * experiment.batch * 5 / ours / peak
    goal = (">= 50 %", share >= 0.5) if width >= 128 else ("", None)
    rows.append(row(f"share of float32 peak, {name}", f"{share:.0%}", f"{peak / 1e9:.0f} GFLOP/s", None, *goal))
    return rows


def against_the_papers_format(name: str, **changes) -> dict:
    """Examples per second on D_4: an experiment against 66 tokens at NanoGPT size in the textbook loop."""
    experiment = al.Experiment(**changes)
    ours, theirs = duel(
        steps(Trainer(experiment, torch.device("cpu"))), steps(textbook.Trainer(3, 3, 48, 20, 64), count=10)
    )
    rate, base = 5 * experiment.batch / ours, 10 * 64 / theirs
    return row(
        f"training on D_4, {name}, against 66 tokens, NanoGPT",
        f"{rate:,.0f} ex/s",
        f"{base:,.0f} ex/s",
        rate / base,
        ">= 10x",
        rate >= 10 * base,
    )


def evaluation(run) -> list[dict]:
    """Exact match in one pass against generating every digit without a cache; and a whole evaluation."""
    experiment = al.Experiment(format="p1", size="nano")
    torch.manual_seed(0)
    model = experiment.model().eval()
    _, tokens, _ = test_sets(experiment, [4], 2_000)[0]
    ids = torch.from_numpy(tokens.ids).long()
    prompts = ids[:, : -tokens.tail].split(500)

    def generating() -> None:
        for prompt in prompts:
            textbook.generate(model, prompt, tokens.tail)

    ours, theirs = duel(lambda: exact_matches(model, tokens), generating)
    first = row(
        "exact match of 2,000, 66 tokens, NanoGPT",
        f"{ours:.2f} s",
        f"{theirs:.2f} s",
        theirs / ours,
        ">= 20x",
        theirs >= 20 * ours,
    )
    whole = statistics.median(seconds(lambda: al.evaluate(run, n=10_000)) for _ in range(3))
    return [
        first,
        row("evaluating one run, lengths 1-9, 10,000 each", f"{whole:.1f} s", "", None, "<= 10 s", whole <= 10),
    ]


def bfloat16() -> list[dict]:
    """The 0.8 M step with bfloat16 products against float32, where this machine multiplies bfloat16 itself."""
    what = "bfloat16 products against float32, 0.8 M"
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        return [row(what, "no AMX here", "", None, "", None)]
    ours, theirs = duel(
        *(steps(Trainer(al.Experiment(size="4-4-128", precision=p), torch.device("cpu"))) for p in PRECISIONS[::-1])
    )
    return [row(what, f"{ours / 5 * 1e3:.0f} ms", f"{theirs / 5 * 1e3:.0f} ms", theirs / ours, "", None)]


def making_batches() -> list[dict]:
    """A batch of tokens against text lines encoded in a Python loop; and its share of a training step."""
    e = al.Experiment()
    made = batches.TrainingBatches(e.task_, e.train_domain, e.format_, e.batch, 0)
    rng, numbers = random.Random(0), iter(range(10**9))

    def ours() -> None:  # whole blocks
        for _ in range(made.steps):
            made(next(numbers))

    def theirs() -> None:
        for _ in range(20):
            textbook.encode(textbook.lines(e.batch, 4, 9, rng))

    fast, slow = duel(ours, theirs)
    one = seconds(steps(Trainer(e, torch.device("cpu")), 10)) / 10
    fast = fast / made.steps
    share = fast / one
    return [
        row(
            "making a batch of 256",
            f"{fast * 1e3:.3f} ms",
            f"{slow / 20 * 1e3:.2f} ms",
            slow / 20 / fast,
            ">= 100x",
            slow / 20 >= 100 * fast,
        ),
        row("batch making as a share of a training step", f"{share:.1%}", "", None, "< 3 %", share < 0.03),
    ]


def importing() -> dict:
    """`import arithlab` in a fresh interpreter, without the interpreter's own start."""

    def start(code: str) -> float:
        return statistics.median(
            seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True)) for _ in range(ROUNDS)
        )

    took = start("import arithlab") - start("pass")
    return row("import arithlab", f"{took:.3f} s", "", None, "< 0.3 s", took < 0.3)


def main() -> None:
    """Measure everything."""
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    target = output_folder() / "bench.json"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ARITHLAB_OUT"] = folder
        rows = [importing(), *making_batches()]
        rows += throughput("0.1 M", "tiny", 2, 4, 64) + throughput("0.8 M", "4-4-128", 4, 4, 128)
        rows += bfloat16()
        rows.append(against_the_papers_format("fast preset"))
        rows.append(against_the_papers_format("places", **PLACES))
        rows += evaluation(al.train(al.Experiment(steps=20)))
        rows.append(time_to_adder("fast preset"))
        rows.append(time_to_adder("places", **PLACES, steps=300))
    write_file(Path(target), json.dumps(rows, indent=1))
    goals = [r["met"] for r in rows if r["met"] is not None]
    print(f"{sum(goals)} of {len(goals)} goals met; written to {target}")


if __name__ == "__main__":
    main()
