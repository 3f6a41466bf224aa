"""Files that are whole or not there, whenever the process is killed or the power goes."""

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
def writing(path: Path, way_out: str = "and go on with --resume auto") -> Iterator[None]:
    """Within it, a disk that is full, or refuses to be written, is a mistake of the user's.

    Args:
        path: what is written, for the message. way_out: what to do then, or instead.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        foreign = "(os error " in str(error)  # safetensors' and tokenizers' errors are not OSErrors
        if not isinstance(error, OSError) and not foreign:
            raise
        full = getattr(error, "errno", None) in FULL or f"(os error {errno.ENOSPC})" in str(error)
        what, first = (
            (f"no room on the disk of {path}", "Make some") if full else (f"{path} cannot be written", "Mend it")
        )
        raise InputError(f"{what}: {error}. {first}, {way_out}") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within it, other processes that ask for the folder are refused. One that dies, however it dies, lets go of it.

    Disks that know no such lock (Windows', some of networks) refuse nobody.

    Raises:
        InputError: another process has it, or it is not there.
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
                    f"another process is training in {folder}: wait for it or end it (after a launcher was killed, its "
                    "processes may live on), or give another --run"
                ) from None
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing would leave it to processes that were forked meanwhile
        os.close(handle)


def check_writable(path: Path, way_out: str) -> None:
    """Before the work whose result will be a file there: its folder is made, and can be written.

    Args:
        path, way_out: as `writing`.

    Raises:
        InputError: it cannot be, or is a folder.
    """
    with writing(path, way_out):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.new")
        beside.touch()
        beside.unlink()


def share(folder: Path, like: Path) -> None:
    """Let whoever reads one file read all of a folder: safetensors makes its own their owner's, whatever the umask."""
    mode = stat.S_IMODE(like.stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def write_whole(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file (UTF-8) beside and rename it: a reader finds the old text or the new one, never a part.

    Args:
        sync: wait for the disk, so that this holds after a power cut, too.

    Raises:
        OSError: it cannot be written; nothing is left beside.
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
    """Wait until a file, or a folder's list of names, is on the disk: a power cut must not leave it empty."""
    if os.name == "nt":  # Windows syncs no folder, and no file that is open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
