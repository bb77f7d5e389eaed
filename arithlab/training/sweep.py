"""Sweeps: a grid file becomes many runs, on the cores of this machine or on a Dask cluster. See grids.py for the files.
Nothing here decides what is done: a run that is finished is loaded, one that was stopped goes on, and one that
is being trained elsewhere is waited for. So a job may be given twice, and a sweep may be repeated at any time.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import pandas as pd
import torch

from ..errors import ArithlabError, PackageMissing, RunBusy, shorten
from .estimate import duration, work
from .fit import Progress, train
from .grids import LOG, Grid, read_grid, results
from .in_context import read_experiment
from .runs import Run, inside, output_folder, write_file

ATTEMPTS = 3  # at a job whose worker process died
ANSWER_SECONDS = 20  # a Dask scheduler that takes longer is not there
_ONE_RUN = threading.Lock()  # torch's random numbers belong to a process: the threads of a Dask worker take turns


def sweep(
    path: str | Path, *, workers: int | None = None, dask: str | None = None, retry: bool = False
) -> pd.DataFrame:
    """Train and test what is not finished of a grid file; returns its `results`, also written to sweeps/NAME.csv.

    workers: processes on this machine, one per core if None. dask: the address of a Dask scheduler whose workers
    share the output folder, or `local` for a cluster of `workers` processes here. retry: train failed runs again.
    Ctrl-C lets every worker end its step and write a checkpoint; the same call goes on from there.
    """
    grid, table = read_grid(path), inside(output_folder() / "sweeps" / f"{Path(path).stem}.csv")
    experiments, runs = grid.experiments, map(Run.of, grid.experiments)
    missing = [run.experiment for run in runs if not run.finished or not grid.tested(run)]
    todo = [e for e in missing if retry or not (Run.of(e).path / LOG).exists()]
    _say(
        f"{len(experiments)} runs: {len(experiments) - len(missing)} finished, {len(missing) - len(todo)} failed before"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    threads = (
        None if dask not in (None, "local") else max(1, cores // workers)
    )  # however few runs are left: equal bytes
    stop = table.with_name(f".{table.stem}.{uuid.uuid4().hex[:8]}.stop")
    how = str(output_folder()), threads, str(stop), (grid.digits, grid.n)
    if todo:
        with _workers(min(workers, len(todo)), dask) as (executor, count):
            with _deaf():  # threads and processes started here inherit it: Ctrl-C is ours alone to hear
                jobs = {executor.submit(do, e.to_json(), *how): e for e in todo}
            try:
                _watch(jobs, count)
            except KeyboardInterrupt:
                _say("stopping after this step...")
                write_file(stop, "")
                wait(jobs)
                raise KeyboardInterrupt("every worker wrote a checkpoint; repeat the command to go on") from None
            finally:
                stop.unlink(missing_ok=True)
    found = results(path)
    write_file(table, found.to_csv(index=False))
    for experiment in experiments:
        if (log := Run.of(experiment).path / LOG).exists():
            _say(f"run {experiment.id} failed: see {log}, and repeat the command with --retry")
    return found


def do(config: dict, out: str, threads: int | None, stop: str, test: tuple[tuple, int] = ((), 1)) -> dict:
    """One job, in a worker: train the experiment of this description, and test it; returns {"state", "seconds"}."""
    with _ONE_RUN:
        os.environ |= {"ARITHLAB_OUT": out, "ARITHLAB_QUIET": "1"}
        if threads:
            torch.set_num_threads(threads)
        grid, start = Grid([], *test), time.perf_counter()
        run = Run.of(read_experiment(config))
        if run.finished and not grid.tested(run):
            run = Run.of(run.experiment, light=False)

        def watch(now: Progress | None = None) -> None:
            if Path(stop).exists():  # a file reaches workers on other machines as well
                raise KeyboardInterrupt

        try:
            watch()
            _train_or_wait(run, watch)
            grid.test(run)
            (run.path / LOG).unlink(missing_ok=True)
            state = "finished"
        except KeyboardInterrupt:
            state = "unfinished"
        except Exception:
            write_file(run.path / LOG, traceback.format_exc())
            state = "failed"
        return {"state": state, "seconds": time.perf_counter() - start}


def _train_or_wait(run: Run, watch: Callable) -> None:
    while not run.finished:
        try:
            train(run.experiment, watch=watch, weights=not run.recorded)
        except RunBusy:  # another process trains it, or this job was given twice
            watch()
            time.sleep(1)


def _watch(jobs: dict, count: Callable[[], int]) -> None:
    """Tell of every job that ends, and how long the rest will take, going by those that ended."""
    left, seconds, done = {e.id: e.steps * work(e) for e in jobs.values()}, 0.0, 0.0
    for number, job in enumerate(as_completed(jobs), 1):
        experiment = jobs[job]
        try:
            outcome = job.result()
        except Exception as error:  # the worker was lost, or could not even write why it failed
            outcome = {"state": "failed", "seconds": 0.0}
            with suppress(ArithlabError):
                write_file(Run.of(experiment).path / LOG, f"{type(error).__name__}: {error}\n")
        size = left.pop(experiment.id)
        words = f"{outcome['state']} after {duration(outcome['seconds'])}"
        if outcome["state"] == "finished":
            seconds, done = seconds + outcome["seconds"], done + size
        if left and done:
            rest = seconds / done * max(sum(left.values()) / max(1, count()), *left.values())
            words += f"; about {duration(rest)} left"
        label = f"{experiment.title}, seed {experiment.seed}"
        _say(f"[{number}/{len(jobs)}] {experiment.id} {label}: {words}")


class Processes(ThreadPoolExecutor):
    """So many worker processes, each fed by a thread of its own: if one dies, no other job is lost with it.

    The job of a worker that died is given to a new one, which goes on from the last checkpoint.
    """

    def __init__(self, workers: int):
        super().__init__(workers)
        self._mine, self._pools = threading.local(), []

    def submit(self, function: Callable, /, *args):
        """Call the function in a worker process; returns a Future."""
        return super().submit(self._call, function, *args)

    def _call(self, function: Callable, *args):
        for _ in range(ATTEMPTS):
            if getattr(self._mine, "pool", None) is None:
                self._mine.pool = ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn"), initializer=_die_with_parent
                )
                self._pools.append(self._mine.pool)
            try:
                return self._mine.pool.submit(function, *args).result()
            except BrokenProcessPool:
                self._mine.pool = None
        raise ArithlabError(f"its worker process died {ATTEMPTS} times (out of memory?): try a smaller batch or size.")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the worker processes."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait)


def _die_with_parent() -> None:
    """In a worker: when the sweep is killed, stop as on SIGTERM, which writes a checkpoint."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)
        with _ONE_RUN:  # free once the job has stopped
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _workers(workers: int, dask: str | None) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """An executor, and a function that counts its workers."""
    if dask is None:
        with Processes(workers) as executor:
            yield executor, lambda: workers
        return
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise PackageMissing("distributed", "dask") from error
    with ExitStack() as stack:
        try:
            with _deaf():
                cluster, options = dask, {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
                if dask == "local":
                    cluster = stack.enter_context(LocalCluster(n_workers=workers, **options))
                client = stack.enter_context(Client(cluster, timeout=ANSWER_SECONDS, set_as_default=False))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArithlabError(
                f"no Dask scheduler answers at {shorten(dask, 200)}: give an address such as tcp://host:8786, or local."
            ) from error
        _say(f"{len(client.nthreads())} Dask workers")
        yield client.get_executor(pure=False), lambda: len(client.nthreads())


@contextmanager
def _deaf() -> Iterator[None]:
    """No SIGINT for this thread, nor ever for the threads and processes that it starts meanwhile."""
    resource_tracker.ensure_running()  # started by the first process instead, it would end the deafness
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
