"""Performance targets of the losses on two CPU cores, beside the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def targets(rows: Sequence[Row]) -> list[Row]:
    """A row for each target whose sizes were measured: cpu, target, asked, measured, met."""
    processors = dict.fromkeys(row["cpu"] for row in rows)
    return [{"cpu": cpu, **asked} for cpu in processors for asked in _of_one([r for r in rows if r["cpu"] == cpu])]


def _of_one(rows: Sequence[Row]) -> list[Row]:
    found = {(r["loss"], r["B"], r["D"], r["implementation"]): r for r in rows if "ms" in r}
    sized: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        sized.setdefault((row["loss"], row["B"], row["D"]), []).append(row)
    asked = [
        *_against(found, ("nt_xent", 8192, 128), "lightly", time=6, memory=40),
        *_against(found, ("nt_xent", 8192, 128), "plain", time=4, memory=40),
        *_floor(found, ("nt_xent", 8192, 128), "floor"),
        *_floor(found, ("nt_xent", 8192, 128), "floor-half"),
        *_against(found, ("info_nce", 16384, 256), "open_clip", time=2.5, memory=25),
        *_floor(found, ("info_nce", 16384, 256), "floor"),
    ]
    for size, beside in sized.items():
        if size[1] in (256, 1024):
            asked += _best(size, beside)
    for loss in ("nt_xent", "info_nce"):
        asked += _growth(found, loss)
    return asked


def _target(what: str, asked: str, measured: float, met: bool) -> Row:
    return {"target": what, "asked": asked, "measured": measured, "met": "yes" if met else "NO"}


def _named(size: tuple[str, int, int]) -> str:
    return f"{size[0]} B={size[1]} D={size[2]}"


def _against(found: Any, size: tuple[str, int, int], peer: str, time: float, memory: float) -> list[Row]:
    row = found.get((*size, peer), {})
    return [
        _target(f"{_named(size)}: {what} of {peer} / ours", f">= {least:g}", row[key], row[key] >= least)
        for what, key, least in [("time", "time / ours", time), ("extra memory", "memory / ours", memory)]
        if key in row
    ]


def _floor(found: Any, size: tuple[str, int, int], floor: str) -> list[Row]:
    row = found.get((*size, floor), {})
    if "time / ours" not in row:
        return []
    ours = 1 / row["time / ours"]
    return [_target(f"{_named(size)}: our time / {floor}", "<= 1.2", ours, ours <= 1.2)]


def _best(size: tuple[str, int, int], beside: Sequence[Row]) -> list[Row]:
    others = [r for r in beside if "time / ours" in r and r["implementation"] not in ("multicl", "floor", "floor-half")]
    asked = []
    for what, rows in [
        ("best peer", [r for r in others if r["implementation"] != "plain"]),
        ("plain PyTorch", [r for r in others if r["implementation"] == "plain"]),
    ]:
        if rows:
            best = min(rows, key=lambda r: r["time / ours"])
            name = f" ({best['implementation']})" if what == "best peer" else ""
            ratio = best["time / ours"]
            asked.append(_target(f"{_named(size)}: time of {what}{name} / ours", ">= 1", ratio, ratio >= 1))
    return asked


def _growth(found: Any, loss: str) -> list[Row]:
    small, large = (found.get((loss, b, 128, "multicl"), {}) for b in (8192, 65536))
    if not (small.get("extra MB") and large.get("extra MB")):
        return []
    growth = large["extra MB"] / small["extra MB"]
    return [_target(f"{loss} D=128: our extra memory, B=65536 / B=8192", "<= 8.8", growth, growth <= 8.8)]
