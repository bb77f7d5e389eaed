"""Errors that are the user's to mend: what was given, what is allowed, what to do next."""

from collections.abc import Iterable
from difflib import get_close_matches


class ArithlabError(Exception):
    """Base of every error that a user can cause. The commands print it and leave with `exit_code`.

    >>> raise ArithlabError("modulus 0: allowed are whole numbers from 2")
    Traceback (most recent call last):
    ...
    arithlab.errors.ArithlabError: modulus 0: allowed are whole numbers from 2
    """

    exit_code = 2


class UnknownName(ArithlabError):
    """A name that is not in a list of allowed names; suggests the nearest one.

    >>> str(UnknownName("positions", "ropee", ["rope", "shaw"]))
    "unknown positions 'ropee'. Did you mean 'rope'? Known: rope, shaw."
    """

    def __init__(self, what: str, given: object, known: Iterable[str]):
        known = list(known)
        near = get_close_matches(given, known, n=1) if isinstance(given, str) else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {what} {shorten(given)}.{hint} Known: {', '.join(known)}.")


class ConfigError(ArithlabError):
    """An experiment that cannot run: every problem found, in one message."""


class RunMissing(ArithlabError):
    """No such run, or a folder that is not a run of this package."""


class RunBusy(ArithlabError):
    """Another process is training the same run."""

    exit_code = 1


class CheckpointCorrupt(ArithlabError):
    """A checkpoint that is truncated, altered or not one of ours."""


class CannotWrite(ArithlabError):
    """A full disk, a quota, a folder that is read-only: nothing that was there is lost."""

    exit_code = 1


class PackageMissing(ArithlabError):
    """A package of an optional extra that is not installed.

    >>> str(PackageMissing("plotly", "lab"))
    "the package plotly is not installed: pip install 'arithlab[lab]', or see `arithlab doctor`."
    """

    exit_code = 1

    def __init__(self, name: str | None, extra: str):
        super().__init__(
            f"the package {name} is not installed: pip install 'arithlab[{extra}]', or see `arithlab doctor`."
        )


class TrainingFailed(ArithlabError):
    """Training that cannot go on, for example because the loss is not a number."""

    exit_code = 1


class StudyFailed(ArithlabError):
    """A notebook that did not execute cleanly from its first cell to its last."""

    exit_code = 1


def shorten(value: object, limit: int = 40) -> str:
    """repr() of a value, cut to `limit` characters, so that messages stay one clear sentence.

    >>> shorten("9" * 100, 10)
    "'99999999... (100 characters)"
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number above 4,300 digits
        return f"({type(value).__name__} too long to write)"
    if len(text) <= limit:
        return text
    size = f" ({len(value):,} characters)" if isinstance(value, str) else ""
    return text[: limit - 1] + "..." + size
