"""Writes files atomically: they are complete or absent, whenever the process is killed or the power fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from multicl.types import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path, way_out: str = "and continue with --resume auto") -> Iterator[None]:
    """Within it, a failure to write, as on a full disk, is raised as InputError, which is shown without a traceback.

    Args:
        path: what is written, for the message. way_out: what to do then, or instead.

    Raises:
        InputError: a file cannot be written.
    """
    try:
        yield
    except Exception as error:
        foreign = "(os error " in str(error)  # safetensors' and tokenizers' errors are not OSErrors
        if not isinstance(error, OSError) and not foreign:
            raise
        full = getattr(error, "errno", None) in FULL or f"(os error {errno.ENOSPC})" in str(error)
        what, first = (
            (f"the disk of {path} is full", "Free some space") if full else (f"{path} cannot be written", "Fix this")
        )
        raise InputError(f"{what}: {error}. {first}, {way_out}") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it, a folder is locked against other processes. The lock is released even if the process is killed.

    Where there are no such locks (Windows, some network drives), nothing is refused.

    Raises:
        InputError: another process holds the lock, or the folder does not exist.
    """
    if fcntl is None:
        yield
        return
    with writing(folder):  # it may have vanished
        handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {folder}: wait for it or end it (the processes of a killed "
                    "launcher may still run), or give another --run"
                ) from None
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would leave it held by processes forked meanwhile
        os.close(handle)


def check_writable(path: Path, way_out: str) -> None:
    """Check, before long work, that its result can be written to `path`; creates the folder.

    Args:
        path, way_out: as in `writing`.

    Raises:
        InputError: it cannot be written, or is a folder.
    """
    with writing(path, way_out):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        beside.touch()
        beside.unlink()


def share(folder: Path, like: Path) -> None:
    """Give all files of a folder the mode of one: safetensors makes its files private, whatever the umask."""
    mode = stat.S_IMODE(like.stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def write_whole(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file (UTF-8) under another name, then rename it: readers see the old text or the new, never a part.

    Args:
        sync: wait for the disk, so that this also holds after a power cut.

    Raises:
        OSError: it cannot be written; no temporary file is left.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        if sync:
            to_disk(beside)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of entries, is on disk, so that a power cut does not leave it empty."""
    if os.name == "nt":  # Windows cannot sync a folder, nor a file that is open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
