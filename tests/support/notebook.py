"""examples/seven_steps.py -> seven_steps.ipynb; `python tests/support/notebook.py` rewrites it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "examples" / "seven_steps.py"
NOTEBOOK = SCRIPT.with_suffix(".ipynb")
INSTALL = """\
import importlib.util

if importlib.util.find_spec("multicl") is None:  # on Colab; for a checkout: %pip install -q /path/to/multicl
    %pip install -q multicl"""


def notebook(script: str) -> dict[str, Any]:
    """A script in percent format as a notebook: its docstring is the title, `# %% [markdown]` cells are text."""
    title, *cells = re.split(r"^# %%", script, flags=re.MULTILINE)
    made = [_text(f"# {title.strip().strip(chr(34)).partition(': ')[0]}"), _code(INSTALL)]
    for cell in cells:
        kind, _, body = cell.partition("\n")
        if kind.strip() == "[markdown]":
            made.append(_text(re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)))
        else:
            made.append(_code(re.sub(r"  # (noqa|fmt): ?\S*( \w+)?$", "", body.strip(), flags=re.MULTILINE)))
    for i, cell in enumerate(made):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(source: str) -> dict[str, Any]:
    lines = source.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


def written(script: str) -> str:
    """The notebook as the file holds it."""
    return json.dumps(notebook(script), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(written(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
