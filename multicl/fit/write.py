"""Write a plan as a recipe's file: Python that reads like the shipped recipes."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from multicl.adapters import adapter
from multicl.data.hold_out import HoldOut
from multicl.data.loading import Data
from multicl.files import write_whole
from multicl.fit.plan import Plan, settings_code

SLOW = 0.05
"""Factor on the learning rate of encoders with trained weights. MiniLM, trained for 24 steps of 32 on 1,200 pairs of
terms and definitions: at the full rate of 1e-3, recall@1 of 300 others falls from 40 to 37 % and STS-B from 0.93 to
0.87; with this factor they go to 48 % and 0.92."""


def write_recipe(path: Path, plan: Plan, data: Data, steps: int, source: str) -> None:
    """Write the plan to `path`, a .py file.

    Args:
        data: what the recipe reads. steps: number of training steps. source: how the user named the data.
    """
    environment = Environment(loader=PackageLoader("multicl.fit", "."), undefined=StrictUndefined, autoescape=False)
    nodes = [(node.name, adapter(node.kind).__name__, settings_code(node)) for node in plan.nodes]
    alone = len(plan.nodes) == 1
    classes = {adapter(node.kind) for node in plan.nodes}
    imports = sorted(f"from {_public(cls)} import {cls.__name__}" for cls in classes)
    heads = "Head(dim=128, layers=2)" if alone else "Head(dim=256, layers=1)"
    text = environment.get_template("recipe.py.jinja").render(
        source=_in_docstring(source), file=_in_docstring(shlex.quote(str(path))),
        why=[_in_docstring(line) for line in plan.why],
        imports=imports, title=_title(plan), nodes=nodes, edges=plan.edges, data=_data_code(data),
        held_out=isinstance(data, HoldOut), batch_size=plan.batch_size, steps=steps, chunk=repr("auto"), head=heads,
        features=alone, label=repr(plan.label) if plan.label else None, crossings=plan.crossings,
        probed=[node.name for node in plan.nodes if node.kind != "text"] or [node.name for node in plan.nodes][:1],
        slow={node.tower: SLOW for node in plan.nodes if node.suggestion.pretrained},
        viewed=viewed(plan), raw=", ".join(f'"{name}"' for name in _raw(plan)),
        k=max(1, min(200, plan.rows // 50)), measured=_measured(plan),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text + "\n")


def _public(cls: type) -> str:
    """The package that exports a class: `multicl.modalities.image` for a class of its module `settings`."""
    parent = cls.__module__.rpartition(".")[0]
    shown = parent and getattr(importlib.import_module(parent), cls.__name__, None) is cls
    return parent if shown else cls.__module__


def _in_docstring(text: str) -> str:
    """Replace what names of columns and files may hold that would end a docstring, or escape a character in it."""
    return text.replace("\\", "/").replace('"""', "'''")


def _title(plan: Plan) -> str:
    return "Pairs: " + ", ".join(f"{edge.a} and {edge.b}" for edge in plan.edges) + "."


def _raw(plan: Plan) -> list[str]:
    """The nodes whose raw inputs are measured as a baseline: pictures, which have one size."""
    pictures = {node.name for node in plan.nodes if node.kind == "image"}
    measured = plan.label or viewed(plan) or any(pictures >= {*pair} for pair in plan.crossings)
    return sorted(pictures) if measured else []


def _measured(plan: Plan) -> str:
    parts = [f"retrieval, {a} <-> {b}" for a, b in plan.crossings]
    parts += [f"{_in_docstring(plan.label)} by nearest neighbours"] if plan.label else []
    parts += [f"views of one {node}, which find each other" for node in viewed(plan)]
    return (
        f"On held-out rows: {'; '.join(parts)}."
        if parts
        else "Nothing: that needs a second column to find, or a column of labels."
    )


def viewed(plan: Plan) -> list[str]:
    """The node measured by its own views, if rows have neither labels nor anything else to find; else none."""
    alone = not plan.label and not plan.crossings and plan.nodes[0].kind != "text"  # a text's views may be equal
    return [plan.nodes[0].name] if alone else []


def _data_code(data: Data) -> str:
    changed: dict[str, Any] = {"path": data.path, "config": data.config, "split": data.split, "test": data.test}
    if isinstance(data, HoldOut):
        changed |= {"hold_out": data.hold_out, "together": data.together}
    plain = type(data)()
    kept = ", ".join(f"{k}={v!r}" for k, v in changed.items() if v != getattr(plain, k))
    return f"{type(data).__name__}({kept})"
