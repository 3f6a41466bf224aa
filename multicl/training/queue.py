"""A queue of keys from the last batches: more negatives than a batch has (MoCo, arXiv:1911.05722, section 3.2).

It is the same on every rank. It starts empty and returns only what was pushed, so no random vector is ever taken for
data. It is kept in plain tensors rather than module buffers, so that nothing broadcasts, averages or casts it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from multicl.types import Embedded, Extra, InputError


class Queue:
    """The last `size` keys.

    Args:
        size: 1 or more. dim: D, width of a key.

    Raises:
        InputError: `size` is below 1.
    """

    def __init__(self, size: int, dim: int, device: torch.device | str = "cpu") -> None:
        if size < 1:
            raise InputError(f"a queue's size must be 1 or more, got {size}")
        self.z = torch.zeros(size, dim, device=device)
        self.row = torch.zeros(size, dtype=torch.int64, device=device)
        self.id = torch.zeros(size, dtype=torch.int64, device=device)
        self.at, self.filled = 0, 0

    def __len__(self) -> int:
        return self.filled

    def keys(self) -> Extra:
        """The keys held, [filled, D]; views of memory that `push` overwrites in place."""
        held = slice(0, self.filled)
        return Extra(self.z[held], self.row[held], self.id[held])

    @torch.no_grad()
    def push(self, keys: Embedded) -> None:
        """Overwrite the oldest keys with these, [B, D]; of more than `size`, the last ones are kept.

        Raises:
            InputError: the keys have another width.
        """
        size = len(self.z)
        if keys.z.shape[1:] != self.z.shape[1:]:
            raise InputError(f"a queue of width {self.z.shape[1]} cannot take keys of shape {list(keys.z.shape)}")
        count = min(len(keys), size)
        room = min(count, size - self.at)  # the rest goes to the front
        for mine, theirs in ((self.z, keys.z), (self.row, keys.row), (self.id, keys.id)):
            last = theirs[len(keys) - count :]
            mine[self.at : self.at + room] = last[:room]
            if room < count:
                mine[: count - room] = last[room:]
        self.at = (self.at + count) % size
        self.filled = min(size, self.filled + count)

    def state(self) -> dict[str, Tensor]:
        """The complete state, for a checkpoint."""
        return {"z": self.z, "row": self.row, "id": self.id, "pointer": torch.tensor([self.at, self.filled])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or RuntimeError if it came from another kind or size of queue."""
        for mine, name in ((self.z, "z"), (self.row, "row"), (self.id, "id")):
            if mine.shape != state[name].shape:  # `copy_` would broadcast a single row
                raise RuntimeError(f"a queue's {name} is {list(mine.shape)}, not {list(state[name].shape)}")
            mine.copy_(state[name])
        self.at, self.filled = state["pointer"].tolist()
