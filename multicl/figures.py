"""Formats figures for people and files: rounded, as a table, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, float]


def rounded(figures: Mapping[str, float]) -> Figures:
    """Figures rounded to six decimals, as they are printed and saved."""
    return {name: value if isinstance(value, int) else round(float(value), 6) for name, value in figures.items()}


def figures_table(rows: Mapping[str, Mapping[str, float]], spans: Mapping[str, Sequence[float]] | None = None) -> str:
    """A text table with a row per measure and a column per model; columns without figures are left out.

    Args:
        rows: model -> its figures. spans: measure -> interval of the last column's figure, shown as one more column.
    """
    columns = [name for name, values in rows.items() if values]
    measures = list(dict.fromkeys(key for values in rows.values() for key in values))
    if not measures:
        return ""
    table = [["", *columns]]
    table += [[m, *(_cell(rows[c][m]) if m in rows[c] else "-" for c in columns)] for m in measures]
    if spans:
        edges = (spans.get(m) for m in measures)
        more = ["95 % interval", *(f"{e[0]:.4f} {e[1]:.4f}" if e else "-" for e in edges)]
        table = [[*row, cell] for row, cell in zip(table, more, strict=True)]
    first, *wide = (max(map(len, column)) for column in zip(*table, strict=True))
    wide = [first, *(max(9, w) for w in wide)]
    lines = [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, wide, strict=True)))
        for row in table
    ]
    return "\n".join(lines)


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON, which every reader accepts: a float that is not finite becomes null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: finite(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [finite(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), indent=indent)
