"""Runs on disk: a folder per experiment, written so that nothing half-written is ever taken for whole.

    <run id>/  config.json  metrics.jsonl  checkpoints/  final.safetensors  summary.json  manifest.json

The manifest is written last and holds the sha256 of the rest: a run is finished iff it is there and agrees.
Recorded runs also bring evaluations.json, and may lack the weights.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import filelock
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..errors import ArithlabError, CannotWrite, CheckpointCorrupt, RunBusy, RunMissing, shorten
from ..model.transformer import Transformer
from .in_context import read_experiment
from .recipe import Recipe

KEPT_CHECKPOINTS = 2
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # the last: torch.save's zip archives
CONDITIONS = ("device", "threads", "versions", "flags", "changed")  # of a summary: equal bytes need equal conditions
WEIGHTS, BEST, EVALUATIONS = "final.safetensors", "best.safetensors", "evaluations.json"
FILES = ("config.json", "metrics.jsonl", WEIGHTS, "summary.json")  # what the manifest vouches for
LIGHT = ("config.json", "metrics.jsonl", "summary.json", EVALUATIONS)  # and of a run recorded without its weights


def output_folder() -> Path:
    """Where results go: $ARITHLAB_OUT, else `outputs` of the checkout around the current folder, else ./outputs."""
    if os.environ.get("ARITHLAB_OUT"):
        return Path(os.environ["ARITHLAB_OUT"]).absolute()
    return _checkout() / "outputs"


def reference_folder() -> Path:
    """Where the recorded runs are: `outputs/reference` of the checkout, wherever results go."""
    return _checkout() / "outputs" / "reference"


def _checkout() -> Path:
    """The checkout around the current folder, else the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "outputs").is_dir():
            return folder
    return here


def write_file(path: Path, data: bytes | str) -> None:
    """Write a whole file or none: a temporary name in the same folder, fsync, rename. Raises CannotWrite."""
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> CannotWrite:
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free there)"
    return CannotWrite(
        f"cannot write {path}: {error.strerror or error}{free}. Free some space or choose another folder with "
        "ARITHLAB_OUT, then start again: nothing that was there is lost."
    )


def inside(path: Path) -> Path:
    """The path, if it stays in the output folder once its symbolic links are followed; else ArithlabError."""
    root = output_folder().resolve()
    if not path.resolve().is_relative_to(root):
        raise ArithlabError(
            f"{path} leads out of {root}: replace the symbolic link by a folder, or set ARITHLAB_OUT to where it leads."
        )
    return path


class Run:
    """What an experiment left behind, or is leaving. `Run.of(experiment)` names it, `find_run(text)` looks it up."""

    def __init__(self, path: Path, experiment: Recipe):
        self.path, self.experiment = path, experiment

    def __repr__(self) -> str:
        e = self.experiment
        state = "finished" if self.finished else "not finished"
        return f"Run {self.id}: {e.title}, {e.size}, seed {e.seed} ({state})"

    @classmethod
    def of(cls, experiment: Recipe, *, light: bool = True) -> "Run":
        """The run of an experiment: the recorded one where there is one, else the folder under runs/.

        light: whether one that was recorded without its weights will do, where there is no other.
        """
        recorded, own = (cls(f / experiment.id, experiment) for f in (reference_folder(), output_folder() / "runs"))
        if not recorded.finished:
            return own
        return recorded if recorded.has_weights or (light and not own.finished) else own

    @property
    def id(self) -> str:
        """The run id: a hash of the experiment."""
        return self.experiment.id

    @property
    def finished(self) -> bool:
        """Whether the manifest is there, the hashes agree, and config.json tells of this very experiment."""
        try:
            digests = self.sha256
            config = json.loads((self.path / "config.json").read_text())
            same = read_experiment(config) == self.experiment
            whole = set(digests) - {BEST, EVALUATIONS} == set(FILES) or set(digests) == set(LIGHT)
            return same and whole and all(digest(self.path / name) == digests[name] for name in digests)
        except (OSError, ValueError, KeyError, TypeError, ArithlabError):
            return False

    @property
    def sha256(self) -> dict[str, str]:
        """The files that the manifest vouches for; nothing where there is none."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return dict(json.loads((self.path / "manifest.json").read_text())["sha256"])
        return {}

    @property
    def recorded(self) -> bool:
        """Whether it came with the checkout."""
        return self.path.parent == reference_folder()

    @property
    def has_weights(self) -> bool:
        """Whether the trained weights are there; some recorded runs bring their measurements only."""
        return (self.path / WEIGHTS).is_file()

    def check_weights(self) -> None:
        """Raise RunMissing where a finished run was recorded without its weights."""
        if self.finished and not self.has_weights:
            raise RunMissing(
                f"run {self.id} was recorded without its weights, with what was measured: train it again with "
                "al.train(experiment, weights=True) or `arithlab train`."
            )

    @property
    def metrics(self) -> pd.DataFrame:
        """The training curve: columns step, loss, digits, exact_match, agreement (fractions).

        In context: step, loss, set, exact_match, and by_shots and losses, a list each. `attrs["stopped"]` is the step
        at which the loss was no number, where there was one.
        """
        rows, stopped = [], None
        with contextlib.suppress(FileNotFoundError), (self.path / "metrics.jsonl").open() as file:
            for line in file:
                record = json.loads(line)
                stopped = record["step"] if record["loss"] is None else None
                rows += [{"step": record["step"], "loss": record["loss"], **row} for row in record["rows"]]
        frame = pd.DataFrame(rows, columns=["step", "loss", *self.experiment.MEASURED])
        frame.attrs |= {} if stopped is None else {"stopped": stopped}
        return frame

    @property
    def best_step(self) -> int | None:
        """The step whose weights are kept beside the last ones (in context), going by the training curve."""
        return self.experiment.best_step(self.metrics)

    @property
    def summary(self) -> dict:
        """What a finished run reports: parameters, steps, seconds, and the conditions it was made under."""
        if not self.finished:
            raise RunMissing(f"run {self.id} is not finished: train it first.")
        return json.loads((self.path / "summary.json").read_text())

    def equals(self, other: "Run") -> bool:
        """Whether two finished runs of one experiment have the same metrics and weights, byte for byte.

        Raises ArithlabError where that is not promised: they were made under different conditions.
        """
        mine, its = ({key: run.summary.get(key) for key in CONDITIONS} for run in (self, other))
        for key in CONDITIONS:
            if mine[key] != its[key]:
                raise ArithlabError(
                    f"runs in {self.path} and {other.path} were made under different conditions ({key}: {mine[key]} "
                    f"and {its[key]}): compare their accuracies, with a tolerance."
                )
        for run in (self, other):
            run.check_weights()
        return all((self.path / name).read_bytes() == (other.path / name).read_bytes() for name in FILES[:3])

    @cached_property
    def model(self) -> Transformer:
        """The trained model, in evaluation mode, on the CPU."""
        return self._model(WEIGHTS)

    @cached_property
    def best_model(self) -> Transformer:
        """The model at its best step, where the run kept one (in context), else the trained one."""
        return self._model(BEST) if BEST in self.sha256 else self.model

    def _model(self, name: str) -> Transformer:
        self.check_weights()
        tensors, _ = read_tensors(self.path / name)
        model = self.experiment.model().eval()
        try:
            model.load_state_dict(tensors, strict=not self.experiment.shape.tied)
        except RuntimeError as error:
            raise CheckpointCorrupt(f"{self.path / name} does not fit the run's config.json.") from error
        return model

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the one process that trains this run."""
        holder, lock = self.path.with_suffix(".holder"), filelock.FileLock(self.path.with_suffix(".lock"), timeout=0)
        try:
            for folder in (self.path, self.path / "checkpoints"):
                inside(folder)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            who = "another process"
            with contextlib.suppress(OSError):
                age = max(0, time.time() - holder.stat().st_mtime)
                who = f"{holder.read_text()} for {age / 60:.0f} minutes"
            raise RunBusy(f"run {self.id} is being trained by {who}: wait for it, or change the seed.") from None
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            # the operating system frees the lock of a process that dies; its name and half-written files are stale
            for stale in (*self.path.rglob(".*.tmp"), *self.path.parent.glob(f".{self.id}.*.tmp")):
                stale.unlink(missing_ok=True)
            write_file(holder, f"process {os.getpid()} on {os.uname().nodename}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def checkpoints(self) -> list[Path]:
        """Checkpoints on disk, newest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"), reverse=True)

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], scalars: dict) -> None:
        """Write the checkpoint of a step and drop all but the last few."""
        write_tensors(self.path / "checkpoints" / f"step-{step:09d}.safetensors", tensors, {**scalars, "step": step})
        for old in self.checkpoints()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".sha256").unlink(missing_ok=True)

    def finish(self, tensors: dict[str, Tensor], summary: dict) -> None:
        """Write weights and summary, then the manifest that makes the run a finished one."""
        write_tensors(self.path / WEIGHTS, tensors, {"experiment": self.id})
        write_file(self.path / "summary.json", json.dumps(summary, indent=1))
        digests = {name: digest(self.path / name) for name in (*FILES, BEST) if (self.path / name).exists()}
        write_file(self.path / "manifest.json", json.dumps({"run": self.id, "sha256": digests}, indent=1))
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)


def find_run(text: str | Path) -> Run:
    """The finished run with this id, an unambiguous beginning of an id, or a folder."""
    root, folder = output_folder(), Path(text)
    if re.fullmatch(r"[0-9a-f]{1,12}", str(text)) and not (folder / "config.json").is_file():
        kinds = (reference_folder(), root / "runs")
        found = {path.name for kind in kinds for path in kind.glob(f"{text}*") if path.is_dir()}
        if len(found) != 1:
            problem = "no run begins" if not found else f"{len(found)} runs begin"
            raise RunMissing(
                f"{problem} with {shorten(str(text))} in {root}: give {'another' if not found else 'a longer'} id."
            )
        *others, folder = [path for kind in kinds for path in kind.glob(*found) if path.is_dir()]
        recorded = None
        for other in others:  # recorded runs come first, unless they are damaged or without weights
            with contextlib.suppress(RunMissing):
                recorded = _read_run(other)
                if recorded.has_weights:
                    return recorded
        if recorded and not Run(folder, recorded.experiment).finished:
            return recorded
    return _read_run(folder)


def _read_run(folder: Path) -> Run:
    try:
        experiment = read_experiment(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, ArithlabError) as error:
        if isinstance(error, NotADirectoryError):
            read_tensors(folder)  # a file: says so where it is no checkpoint, or a pickle
        raise RunMissing(
            f"{shorten(str(folder), 200)} is no run of this package (its config.json is missing or foreign): "
            "give a run id, the beginning of one, or a run's folder."
        ) from error
    run = Run(folder, experiment)
    if not run.finished:
        raise RunMissing(f"run {run.id} in {folder} is not finished, or its files were altered: train it again.")
    return run


def list_runs() -> list[Run]:
    """Every finished run once, recorded ones included; of two with one id the one that has its weights."""
    runs: dict[str, Run] = {}
    for config in sorted([*output_folder().glob("runs/*/config.json"), *reference_folder().glob("*/config.json")]):
        with contextlib.suppress(ArithlabError):
            run = find_run(config.parent)
            if run.id not in runs or run.has_weights:
                runs[run.id] = run
    return list(runs.values())


def write_tensors(path: Path, tensors: dict[str, Tensor], scalars: dict) -> None:
    """A safetensors file, and its sha256 beside it: safetensors notices truncation but not a flipped bit."""
    data = save_tensors(
        {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"scalars": json.dumps(scalars)}
    )
    write_file(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest())
    write_file(path, data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and scalars of a file that `write_tensors` made; raises CheckpointCorrupt, never unpickles."""
    data = b""
    try:
        data = path.read_bytes()
        digest = path.with_suffix(".sha256").read_bytes()
    except OSError as error:
        raise _corrupt(path, data, f": {error.filename}: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest().encode() != digest:
        raise _corrupt(path, data, " is truncated or altered (its sha256 differs).")
    try:
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["scalars"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise _corrupt(path, data, " is no checkpoint of this package.") from error


def _corrupt(path: Path, data: bytes, reason: str) -> CheckpointCorrupt:
    if data.startswith(PICKLES):
        reason = (
            " is a pickle, which could run any code and is never loaded: whoever made it can convert it with "
            "safetensors.torch.save_file."
        )
    return CheckpointCorrupt(f"{path}{reason}")


def digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
