"""Loader processes by themselves; `test_loading` has what comes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from multicl.data.processes import unguarded
from multicl.data.slice import Slice
from multicl.types import InputError


def test_a_loader_process_that_dies_is_explained() -> None:
    class Killed:
        def __next__(self) -> Slice:
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

        def __iter__(self) -> Iterator[Slice]:
            return self

    with pytest.raises(InputError, match=r"a loader process died.*--data\.workers 0"):
        next(unguarded(Killed()))
