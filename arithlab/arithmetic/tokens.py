"""What a format makes of examples: token ids, and what every token stands for."""

from dataclasses import dataclass, replace

import numpy as np

ROLES = ("a", "op", "b", "=", "c", "end", "bos", "eos", "pad", "r")  # r: a cell of a scratchpad
ROLE = {name: code for code, name in enumerate(ROLES)}
ANY = -(10**9)  # in a level: what belongs to every row, or to every column


@dataclass(frozen=True)
class Tokens:
    """A batch of examples as the model sees them. All arrays have shape (N, T), or (1, T) where all rows agree.

    ids: token ids. role: index into ROLES. place: the digit that a token stands for (0 = units); the
    separators carry the place before or after. supervised: the tokens that the model must predict. levels: for
    formats whose scratchpad is a table, the column and the row of each token, (2, N or 1, T).
    """

    ids: np.ndarray
    role: np.ndarray
    place: np.ndarray
    supervised: np.ndarray
    levels: np.ndarray | None = None

    @property
    def tail(self) -> int:
        """How many tokens at the end hold every supervised one."""
        return self.ids.shape[1] - int(np.argmax(self.supervised.any(0)))

    def rows(self, part: slice) -> "Tokens":
        """Some of the examples."""
        if len(self.role) < len(self.ids):
            return replace(self, ids=self.ids[part])
        levels = None if self.levels is None else self.levels[:, part]
        return Tokens(self.ids[part], self.role[part], self.place[part], self.supervised[part], levels)


def id_type(vocabulary: tuple[str, ...]) -> type:
    """The smallest type of token ids."""
    return np.uint8 if len(vocabulary) <= 256 else np.uint16
