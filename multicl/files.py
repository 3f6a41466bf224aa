"""Files that are whole or not there, whenever the process is killed or the power goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from multicl.types import InputError

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
