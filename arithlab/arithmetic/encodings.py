"""Positional encodings as text: a name, then options in any order.

`rope`                     positions counted in tokens
`rope places`              counted in places: what stands at place 3 of a, b and answer has one position, and every
                           token is told its role (which operand, or the answer) by a learned vector
`clipped places window 1`  keys further away than 1 position are masked out
`grid window 2`            counted in two levels, column and row, where the scratchpad is a table (format schoolbook)
`fire randomized`          in training an ordered random subset of a longer range stands for 0, 1, 2, ...
"""

import re
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from ..errors import ArithlabError, UnknownName, shorten
from .formats import Format
from .tables import MAKERS
from .tasks import Task
from .tokens import ROLE

KIND = {  # what a model sees of a position; more are added by model.positions.new_encoding
    "none": "absolute",  # a causal mask lets a model count tokens
    "learned": "absolute",
    "sinusoidal": "absolute",
    "rope": "relative",  # differences of positions only
    "alibi": "relative",
    "t5": "relative",
    "shaw": "relative",
    "kerple": "relative",
    "clipped": "relative",
    "grid": "relative",
    "fire": "relative",  # as shares of the length
    "abacus": "offset",  # absolute places behind a random offset
    "coupled": "offset",
}
CODE: dict[str, str] = {}  # of encodings added by the reader: what their class does, so that a changed one is another
BY_PLACE = ("abacus", "coupled", "grid")  # these count places by themselves
LAYERS = 2  # over which windows are reckoned to hand on what they show, as in the sizes tiny and small
_OPTION = re.compile(r"(places|randomized|window ([0-9]{1,6}))(?: |$)")


@dataclass(frozen=True)
class Encoding:
    """What the text of an encoding says. window: the farthest distance that is seen; None = all are."""

    name: str
    places: bool = False
    window: int | None = None
    randomized: bool = False

    @property
    def kind(self) -> str:
        """absolute, relative or offset."""
        return KIND[self.name]

    @property
    def unseen(self) -> str:
        """Why the encoding itself tells nothing of positions past the training length; empty where it does."""
        if self.randomized:
            return "random gaps between positions: their order is learned, no distance is"
        if self.kind == "absolute" and (self.name != "none" or self.window is None):
            return "absolute positions past the training length were never seen"
        return ""

    def __str__(self) -> str:
        window = "" if self.window is None else f" window {self.window}"
        places = " places" * (self.places and self.name not in BY_PLACE)
        return self.name + places + window + " randomized" * self.randomized


def encoding(text: str) -> Encoding:
    """The encoding written as text; see the head of this file for the grammar.

    >>> str(encoding("clipped window 1 places"))
    'clipped places window 1'
    """
    words = " ".join(text.split()) if isinstance(text, str) and len(text) < 200 else ""
    name, _, rest = words.partition(" ")
    if name not in KIND:
        raise UnknownName("positions", text, KIND)
    options = list(_OPTION.finditer(rest))
    kinds = [match[1].split()[0] for match in options]
    if "".join(match[0] for match in options) != rest or len(set(kinds)) < len(kinds):
        raise ArithlabError(
            f"positions {shorten(text)}: after the name, 'places', 'window 4' and 'randomized' may stand, once each."
        )
    if name in BY_PLACE and set(kinds) - {"window"}:
        raise ArithlabError(
            f"positions {shorten(text)}: {name} counts places by itself; leave 'places' and 'randomized' out."
        )
    window = next((int(match[2]) for match in options if match[2]), None)
    return Encoding(name, "places" in kinds or name in BY_PLACE, window, "randomized" in kinds)


def distance_needed(chosen: Encoding, fmt: Format, task: Task, digits: int) -> int:
    """How far from a token the digits can be that decide the next one, in places or tokens as the encoding counts.

    A token is predicted at the one before it. Units first, the next digit follows from the operands' digits of its
    place and the place below (whose carry shows in what was written there); highest digit first, from all below.

    >>> from .formats import format_
    >>> distance_needed(encoding("clipped places"), format_("aligned"), Task("add"), 5)
    1
    >>> distance_needed(encoding("clipped"), format_("padded 9"), Task("add"), 5)
    20
    """
    if fmt.name in MAKERS:
        return 1  # tables: direct neighbours
    a = np.full((1, digits), 0 if fmt.width else task.base - 1, np.uint8)  # padded, all are written alike
    tokens = fmt.encode(task, a, a * (np.arange(digits) < 1) if fmt.repeated else a)
    role, place = tokens.role[0], tokens.place[0]
    at = place if chosen.places else np.arange(len(place))
    farthest = 0
    for operand in "ab":
        where = np.flatnonzero(role == ROLE[operand])
        where = where[np.argsort(place[where])]  # the token of each place
        written = np.flatnonzero(np.isin(role, [ROLE["c"], ROLE["r"]]) & (place <= digits))
        top = np.minimum(place[written], digits - 1)
        below = np.maximum(place[written] - 1, 0) if fmt.answer == "units" else np.zeros_like(top)
        for needed in (top, top if fmt.name == "remainders" else below):
            farthest = max(farthest, int(abs(at[written - 1] - at[where[needed]]).max()))
    return farthest


def visible_digits(chosen: Encoding, fmt: Format, task: Task, most: int) -> int:
    """How many digits operands can have, at most `most`, for a window to show what every step needs.

    >>> from .formats import format_
    >>> visible_digits(encoding("clipped window 3"), format_("aligned"), Task("add"), 5)
    2
    """
    if chosen.window is None:
        return most
    if chosen.name == "abacus":
        return 0  # signs, such as the = that the first digit is predicted at, are nowhere near
    reach = LAYERS * chosen.window
    return bisect_right(range(1, most + 1), reach, key=lambda digits: distance_needed(chosen, fmt, task, digits))
