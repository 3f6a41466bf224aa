"""What people see who wait."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from multicl import waiting
from multicl.waiting import Waiting

if TYPE_CHECKING:
    import pytest


def test_where_nobody_watches_a_line_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "LINE_EVERY", 0.0)
    with Waiting(2000, "image", "row") as bar:
        bar.update(1500)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "image: 1,500 of 2,000 rows\n")


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting(2, "image", "row") as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_where_somebody_watches_a_bar_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "LINE_EVERY", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Waiting(2, "image", "row") as bar:
        bar.update(1)
    err = capsys.readouterr().err
    assert "image:   0%" in err
    assert "rows" not in err


def test_a_notebook_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream is no terminal, and draws a line anew all the same."""
    outside = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr("sys.stderr", outside)
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    with Waiting(2, "image", "row") as bar:
        bar.update(1)
    assert "image:   0%" in outside.getvalue()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not waiting.watched()


def test_of_several_ranks_the_first_one_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "LINE_EVERY", 0.0)
    monkeypatch.setattr(waiting.World, "current", lambda: waiting.World(1, 2))
    with Waiting(2, "image", "row") as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""


def test_of_one_within_another_the_outer_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "LINE_EVERY", 0.0)
    with Waiting(4, "index", "row") as outer:
        with Waiting(2, "image", "row") as inner:
            inner.update(2)
        outer.update(2)
    with Waiting(2, "text", "row") as after:
        after.update(1)
    assert capsys.readouterr().err == "index: 2 of 4 rows\ntext: 1 of 2 rows\n"
