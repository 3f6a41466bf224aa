"""Records what torch computes within a `with` block."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Watched(TorchDispatchMode):
    """Counts calls by name, such as "mm" and "index_add_", and keeps the size of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return out

    @property
    def products(self) -> int:
        """Number of matrix products."""
        return sum(self.calls[name] for name in ("mm", "addmm", "addmm_"))
