"""Files that are whole or not there, whenever the process is killed or the power goes."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file (UTF-8) beside and rename it: a reader finds the old text or the new one, never a part.

    Args:
        sync: wait for the disk, so that this holds after a power cut, too.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    if sync:
        to_disk(beside)
    beside.replace(path)


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk: a power cut must not leave it empty."""
    if os.name == "nt":  # Windows syncs no folder, and no file that is open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
