"""The examples run and print what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "ten_lines.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for colour in ("red", "green", "blue", "yellow"):
        assert f"a {colour} picture finds: a {colour} square" in printed


def test_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_loop.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3]) for line in lines if line.startswith("step")]
    assert losses[-1] < losses[0] / 2
    assert int(lines[-1].split()[-1].rstrip("%")) > 80


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text()
    assert all(path.name in tested for path in EXAMPLES.glob("*.py"))
