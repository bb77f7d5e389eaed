"""Measurements that were made before: kept beside the run, they cost nothing the second time.

One's own are in outputs/runs/<run id>/measured.json, and count for one version of the package and the very weights
that were measured. Recorded runs bring theirs in evaluations.json, which their manifest vouches for.
"""

import json
from contextlib import suppress
from pathlib import Path

import filelock

from .. import __version__
from ..errors import CannotWrite, RunMissing
from .runs import BEST, EVALUATIONS, FILES, LIGHT, WEIGHTS, Run, digest, output_folder, reference_folder, write_file

MEASURED = "measured.json"
PATIENCE = 10  # seconds that one process waits for another to write down what it measured


def recall(run: Run, test: str, n: int) -> dict | None:
    """What was found with n test pairs of a domain, {"n": of them tested, "right": int, "agree": int}, or None."""
    found = _measurements(run).get(f"{n} of {test}")
    return found if isinstance(found, dict) and {"n", "right", "agree"} == set(found) else None


def remember(run: Run, test: str, n: int, found: dict) -> None:
    """Keep what was found. Where nothing can be written, it is measured again the next time."""
    path = _path(run)
    with suppress(CannotWrite, OSError, filelock.Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock"), timeout=PATIENCE):  # until it is read, added to and written
            kept = {"version": __version__, "weights": run.sha256.get(WEIGHTS), "found": _own(run)}
            kept["found"][f"{n} of {test}"] = found
            write_file(path, json.dumps(kept, indent=0))


def record(run: Run, *, weights: bool) -> Run:
    """Copy a finished run, with all that was measured of it, to the recorded ones; with or without its weights."""
    made, measured = Run(reference_folder() / run.id, run.experiment), _measurements(run)
    if not run.finished or not (weights or measured):
        raise RunMissing(f"run {run.id} is not finished, or nothing was measured that could stand for its weights.")
    names = [name for name in FILES if weights or name in LIGHT]
    names += [BEST] if weights and BEST in run.sha256 else []
    beside = [str(Path(name).with_suffix(".sha256")) for name in names if name in (WEIGHTS, BEST)]
    for name in [*names, *beside]:
        write_file(made.path / name, (run.path / name).read_bytes())
    if measured:
        write_file(made.path / EVALUATIONS, json.dumps({"found": measured}, indent=0))
        names.append(EVALUATIONS)
    if not weights:
        for name in (WEIGHTS, "final.sha256"):
            (made.path / name).unlink(missing_ok=True)
    digests = {name: digest(made.path / name) for name in names}
    write_file(made.path / "manifest.json", json.dumps({"run": run.id, "sha256": digests}, indent=1))
    return made


def _measurements(run: Run) -> dict:
    return {**(_found(run.path / EVALUATIONS) if EVALUATIONS in run.sha256 else {}), **_own(run)}


def _own(run: Run) -> dict:
    """One's own measurements of these weights: recorded runs stay as they are."""
    return _found(_path(run), version=__version__, weights=run.sha256.get(WEIGHTS))


def _found(path: Path, **conditions) -> dict:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(path.read_text())
        if all(kept[name] == value for name, value in conditions.items()):
            return dict(kept["found"])
    return {}


def _path(run: Run) -> Path:
    return output_folder() / "runs" / run.id / MEASURED
