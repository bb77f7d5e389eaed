"""A bar for what may take more than two seconds and is no training."""

import os
import sys
from collections.abc import Collection, Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 2.0  # before a bar appears


def waiting(items: Collection[T], label: str) -> Iterable[T]:
    """The items, one by one, under a bar with the time left; it comes after two seconds and leaves nothing behind.

    >>> sum(waiting([1, 2, 3], "adding"))
    6
    """
    quiet = os.environ.get("ARITHLAB_QUIET") == "1"
    return tqdm(items, desc=label, delay=SECONDS, leave=False, ncols=100, file=sys.stdout, disable=quiet)
