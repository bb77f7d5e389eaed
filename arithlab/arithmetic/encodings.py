"""Positional encodings as text: a name, then options in any order.

`rope`                     positions counted in tokens
`rope places`              counted in places: what stands at place 3 of a, b and answer has one position, and every
                           token is told its role (which operand, or the answer) by a learned vector
`clipped places window 1`  keys further away than 1 position are masked out
`grid window 2`            counted in two levels, column and row, where the scratchpad is a table (format schoolbook)
`fire randomized`          in training an ordered random subset of a longer range stands for 0, 1, 2, ...
"""

import re
from dataclasses import dataclass

from ..errors import ArithlabError, UnknownName, shorten

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
