"""Measurements that were made before, kept beside the run: they cost nothing the second time."""

import json
from contextlib import suppress
from pathlib import Path

from .. import __version__
from ..errors import CannotWrite
from .runs import EVALUATIONS, Run, output_folder, write_file


def recall(run: Run, test: str, n: int) -> dict | None:
    """What was found with n test pairs of a domain: {"n": of them tested, "right": int, "agree": int}; None if nothing.

    Recorded runs bring their measurements along, vouched for by the manifest; one's own count for one version only.
    """
    for path, version in ((run.path / EVALUATIONS, None if run.recorded else __version__), (_own(run), __version__)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text())
            found = kept["found"][_key(test, n)]
            if version in (None, kept["version"]) and {"n", "right", "agree"} == set(found):
                return found
    return None


def remember(run: Run, test: str, n: int, found: dict) -> None:
    """Keep what was found. Where nothing can be written, it is measured again the next time."""
    kept = {"version": __version__, "found": {}}
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(_own(run).read_text())
        if before["version"] == __version__:
            kept["found"] = dict(before["found"])
    kept["found"][_key(test, n)] = found
    with suppress(CannotWrite):
        write_file(_own(run), json.dumps(kept, indent=0))


def _own(run: Run) -> Path:
    return output_folder() / "runs" / run.id / EVALUATIONS  # recorded runs stay as they are


def _key(test: str, n: int) -> str:
    return f"{n} of {test}"
