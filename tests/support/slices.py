"""Slices as plain values, for tests that compare them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from multicl.data.slice import Slice


def plain(part: Slice) -> dict[str, Any]:
    """All that a slice holds, as values that compare."""
    batches = {s: (b.get("x").tolist(), b.row.tolist()) if b else None for s, b in part.batches.items()}
    ids = {name: ids.tolist() for name, ids in part.ids.items()}
    return {"row": part.row.tolist(), "batches": batches, "ids": ids, "skipped": part.skipped, "epoch": part.epoch}


def numbers(parts: Iterable[Slice]) -> list[list[int]]:
    return [part.row.tolist() for part in parts]
