"""What tyro makes of settings; dictionaries as flags are in test_config.py and test_data.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from multicl.config import parse_arguments
from multicl.settings import Train


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Settings."""

    rate: float = 1.0
    """The rate of
    change."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings with others in them."""

    inner: Inner = Inner()
    several: int = 1
    """A first paragraph, which goes
    on here.

    And a second one."""
    train: Train = field(default_factory=Train)


def test_help_ends_no_line_where_the_source_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit):
        parse_arguments(Outer, ["--help"])
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    assert "The rate of change. (default: 1.0)" in lines
    at = lines.index("A first paragraph, which goes on here.")
    assert lines[at + 1 : at + 3] == ["", "And a second one. (default: 1)"]
    (chunks,) = (line for line in lines if line.startswith("Rows that the encoders of a rank hold"))
    assert chunks.endswith("found before the first step and kept in the checkpoint. (default: None)")


def test_a_classs_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_arguments(Outer, [])
    monkeypatch.setattr("inspect.getsource", lambda source: pytest.fail(f"read again: {source}"))
    assert parse_arguments(Outer, ["--several", "2"]).several == 2
