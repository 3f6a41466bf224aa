"""Charts of a run for plotly: training curves, cosines of positives and negatives, confusion between classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from multicl.types import InputError

MOST = 400
"""Most points of a curve: more are thinned out evenly."""
CLASSES = 25
"""Most classes of a confusion matrix: the commonest."""


@dataclass(frozen=True)
class Chart:
    """A chart as the page shows it."""

    title: str
    note: str
    traces: Sequence[Mapping[str, Any]]
    """In plotly's JSON form; the page colours them with its own palette."""
    layout: Mapping[str, Any]
    wide: bool = False


def plotly_source() -> str:
    """The source of plotly.js.

    Raises:
        InputError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("a report's charts need plotly: pip install 'multicl[report]'") from None
    return str(get_plotlyjs())


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Charts of a run's metrics.jsonl: loss, each pair's accuracy, temperature, learning rate, throughput, figures.

    Args:
        rows: of the file, in order; rows that lack a figure are left out of its curve.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    losses = ["loss", *(k for k in keys if k.endswith("/loss"))]
    if sum(k.endswith("/loss") for k in keys) == 1:
        losses = ["loss"]  # a single pair's loss is the same
    wanted = [
        ("Loss", "", losses, {}),
        ("Accuracy of each pair", "rows of a batch whose nearest key is a positive",
         [k for k in keys if k.rpartition("/")[2] == "accuracy"], {"tickformat": ".0%", "rangemode": "tozero"}),
        ("Figures on held-out rows", "", [k for k in keys if k.startswith("eval/")], {}),
        ("Temperature", "", [k for k in keys if k.endswith("/temperature")], {}),
        ("Learning rate", "", ["lr"], {"rangemode": "tozero"}),
        ("Rows per second", "", [k for k in keys if k.endswith("rows_per_second")], {"rangemode": "tozero"}),
    ]  # fmt: skip
    charts = []
    for title, note, names, axis in wanted:
        traces = [_curve(rows, name, alone=len(names) == 1) for name in names if name in keys]
        if traces:
            layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": axis, "showlegend": len(traces) > 1}
            charts.append(Chart(title, note, traces, layout))
    return charts


def _curve(rows: Sequence[Mapping[str, Any]], key: str, alone: bool) -> dict[str, Any]:
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    points = points[:: max(1, -(-len(points) // MOST))]
    name = key.removeprefix("eval/").removesuffix("/accuracy").removesuffix("/temperature")
    return {
        "type": "scatter", "mode": "lines" if len(points) > 1 else "markers", "name": name,
        "x": [step for step, _ in points], "y": [float(f"{value:.5g}") for _, value in points],
        "hovertemplate": "%{y:.4~g}<extra>" + ("" if alone else name.replace("<", "&lt;")) + "</extra>",
    }  # fmt: skip


def cosines(title: str, positives: Tensor, negatives: Tensor, bins: int = 60) -> Chart:
    """Histograms, as shares, of the cosines of positive pairs [N] and of negative pairs [M]."""
    edges = torch.linspace(-1, 1, bins + 1, dtype=torch.float64)
    middles = ((edges[1:] + edges[:-1]) / 2).round(decimals=4).tolist()
    both = (("belong together", positives), ("do not", negatives))
    traces = []
    for name, cos in both:
        at = torch.bucketize(cos.double().clamp(-1, 1), edges[1:-1])
        share = at.bincount(minlength=bins).double() / max(1, len(cos))
        traces.append({
            "type": "bar", "name": name, "x": middles, "y": share.round(decimals=5).tolist(), "opacity": 0.7,
            "hovertemplate": "cosine %{x:.2f}: %{y:.1%}<extra>" + name + "</extra>",
        })  # fmt: skip
    least = min(float(cos.min()) for _, cos in both) - 0.05
    layout = {
        "barmode": "overlay", "bargap": 0, "showlegend": True, "yaxis": {"tickformat": ".0%"},
        "xaxis": {"title": {"text": "cosine"}, "range": [max(-1, least), 1]},
    }  # fmt: skip
    note = f"mean {float(positives.mean()):.2f} and {float(negatives.mean()):.2f}"
    return Chart(title, note, traces, layout)


def confusion(truth: Sequence[str], found: Sequence[str]) -> Chart:
    """Confusion matrix of the commonest classes: share of each class (down) taken for each class (across)."""
    counts = Counter(truth)
    names = sorted(name for name, _ in counts.most_common(CLASSES))
    number = {name: i for i, name in enumerate(names)}
    table = torch.zeros(len(names), len(names), dtype=torch.float64)
    for true, said in zip(truth, found, strict=True):
        if true in number and said in number:
            table[number[true], number[said]] += 1
    shares = table / torch.tensor([[counts[name]] for name in names], dtype=torch.float64)
    ticks = [_short(name) for name in names]
    wrong = sum(a != b for a, b in zip(truth, found, strict=True))
    trace = {
        "type": "heatmap", "x": list(range(len(names))), "y": list(range(len(names))), "zmin": 0, "zmax": 1,
        "z": shares.round(decimals=4).tolist(), "showscale": False, "xgap": 1, "ygap": 1,
        "customdata": [[f"{_plain(a)} taken for {_plain(b)}" for b in names] for a in names],
        "hovertemplate": "%{customdata}: %{z:.1%}<extra></extra>",
    }  # fmt: skip
    axis = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": ticks, "showgrid": False}
    layout = {"yaxis": {**axis, "autorange": "reversed"}, "xaxis": {**axis, "tickangle": -45}}
    more = f"; the {CLASSES} commonest of {len(counts)} classes" if len(counts) > CLASSES else ""
    note = f"rows: true class; columns: class of the ten nearest neighbours; {wrong} of {len(truth)} wrong{more}"
    return Chart("Confusion between classes", note, [trace], layout, wide=True)


def _plain(name: str) -> str:
    """Escape a label, in which plotly would interpret a few HTML tags."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _short(name: str) -> str:
    return _plain(name if len(name) <= 16 else name[:15] + "…")
