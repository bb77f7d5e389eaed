"""A bar for what may take more than two seconds and is no training."""

import os
import sys
from collections.abc import Collection, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 2.0  # before a bar appears
_shown: list[str] = []  # the label of the bar that is there


def waiting(items: Collection[T], label: str) -> Iterator[T]:
    """The items, one by one, under a bar with the time left; it comes after two seconds and leaves nothing behind.

    Inside another such bar there is none. In a notebook it is on the standard output, where nothing marks it as an
    error; elsewhere on the standard error, as what a command prints may be read by a program.

    >>> sum(waiting([1, 2, 3], "adding"))
    6
    """
    if _shown or os.environ.get("ARITHLAB_QUIET") == "1":
        yield from items
        return
    _shown.append(label)
    stream = sys.stdout if type(sys.stdout).__module__.startswith("ipykernel") else sys.stderr
    try:
        yield from tqdm(items, desc=label, delay=SECONDS, leave=False, ncols=100, file=stream)
    finally:
        _shown.remove(label)
