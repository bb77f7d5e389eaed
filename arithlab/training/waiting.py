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

    Inside another such bar there is none.

    >>> sum(waiting([1, 2, 3], "adding"))
    6
    """
    if _shown or os.environ.get("ARITHLAB_QUIET") == "1":
        yield from items
        return
    _shown.append(label)
    try:
        yield from tqdm(items, desc=label, delay=SECONDS, leave=False, ncols=100, file=sys.stdout)
    finally:
        _shown.remove(label)
