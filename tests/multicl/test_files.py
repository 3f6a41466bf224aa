"""What is written whole, and what is said where it cannot be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multicl.files import alone, check_writable, write_whole, writing
from multicl.types import InputError

HOLD = """
import pathlib, sys
from multicl.files import alone
with alone(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_a_folder_is_held_until_its_process_ends_or_is_killed(tmp_path: Path) -> None:
    with alone(tmp_path):
        pass
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"training in .*or give another --run"), alone(tmp_path):
            raise AssertionError("two were let in")
        other.kill()
    with alone(tmp_path):
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are looked for there")
def test_a_folder_is_let_go_though_a_forked_process_lives_on(tmp_path: Path) -> None:
    with alone(tmp_path):
        (held,) = (int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == tmp_path.resolve())
        copy = os.dup(held)  # what a fork has
    with alone(tmp_path):
        os.close(copy)


def test_a_text_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "before")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multicl.files.to_disk", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left"),
            r"the disk of run is full: .*No space left. Free some space, and continue",
        ),
        (
            OSError(errno.EROFS, "Read-only"),
            r"run cannot be written: .*Read-only. Fix this, and continue with --resume auto",
        ),
        (
            Exception("I/O error: No space left (os error 28)"),
            r"the disk of run is full: I/O error",
        ),  # of safetensors
        (Exception("Permission denied (os error 13)"), r"run cannot be written: Permission denied"),
    ],
)
def test_a_disk_that_cannot_be_written_is_named_with_a_way_out(error: Exception, words: str) -> None:
    with pytest.raises(InputError, match=words), writing(Path("run")):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="another"), writing(Path("run")):
        raise ValueError("another")


def test_where_nothing_can_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a.html", tmp_path):
        with pytest.raises(InputError, match=r"cannot be written: .*\. Fix this, or give another --out"):
            check_writable(path, "or give another --out")
    check_writable(tmp_path / "new" / "a.html", "or give another --out")
    assert list((tmp_path / "new").iterdir()) == []
    check_writable(tmp_path / "file", "or give another --out")
    assert (tmp_path / "file").read_text() == "x"
