from __future__ import annotations

import io
from dataclasses import dataclass
from typing import NoReturn

import pytest

from multicl.cli import main
from multicl.launcher import launch
from multicl.run import Run
from multicl.streams import print_anything


def page(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What stdout, from now on, writes where it is a file on Windows."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252", write_through=True))
    return written


def test_what_the_code_page_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = page(monkeypatch)
    with pytest.raises(UnicodeEncodeError):
        print("猫")
    print_anything()
    print("ü 猫")
    assert written.getvalue() == b"\xfc \\u732b\n"


def test_a_stream_that_has_chosen_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr("sys.stdout", chosen)
    print_anything()
    assert chosen.errors == "replace"
    monkeypatch.setattr("sys.stdout", io.StringIO())
    print_anything()
    monkeypatch.setattr("sys.stdout", None)  # of pythonw
    print_anything()


@dataclass(frozen=True, kw_only=True)
class Speaking(Run):
    def trainer(self) -> NoReturn:
        print("left out: 猫.png")
        raise SystemExit(7)


def test_commands_print_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    written = page(monkeypatch)
    main(["--version"])
    print("猫")
    assert written.getvalue().endswith(b"\n\\u732b\n")


def test_recipes_print_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    written = page(monkeypatch)
    with pytest.raises(SystemExit, match="7"):
        launch(Speaking, ["--run", "none"])
    assert written.getvalue() == b"left out: \\u732b.png\n"
