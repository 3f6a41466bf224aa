"""Finds files with the same bytes. Most are told apart by size, most others by a piece; the rest are read whole."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from multicl.waiting import Waiting

PIECE = 1 << 14
"""Bytes read from the middle of a file, enough to tell apart nearly all files of equal size. Not from the beginning or
the end, where files of one format are alike."""
THREADS = 16
"""Concurrent reads; on a network file system each waits for a reply."""
BLOCK = 256
"""Files per task of a thread."""


def bytes_key(content: bytes | bytearray | memoryview) -> int:
    """The 62-bit hash (blake2b) of these bytes."""
    return _number(hashlib.blake2b(content, digest_size=8))


def file_key(path: str, largest: int | None = None) -> int | None:
    """The `bytes_key` of a file's content; None if it is missing, empty, not a regular file or larger than `largest`.

    The file is read in parts, so that a long recording takes no memory.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - for a million files, pathlib takes half of the time
            size = _size(os.fstat(file.fileno()))
            if not size or (largest is not None and size > largest):
                return None
            return _number(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)))
    except (OSError, ValueError):
        return None


class Files:
    """Compares files by content; remembers what it has read, for columns that several pairs share."""

    def __init__(self) -> None:
        self._known: dict[Any, dict[str, int | None]] = {}

    def keys(self, paths: Iterable[str], embedded: Collection[int] = ()) -> dict[str, int]:
        """Path -> `file_key` of every file that may equal another file, or embedded bytes of the sizes `embedded`.

        A file left out has unique content or cannot be read. The result is the same on every rank.
        """
        sizes = self._each(_size_of, dict.fromkeys(paths), "sizes")
        often = Counter(sizes.values())
        again = {path: size for path, size in sizes.items() if often[size] > 1 and size not in embedded}
        pieces = self._each(_piece_of, again, "pieces")
        alike = Counter((again[path], piece) for path, piece in pieces.items())
        whole = [path for path, piece in pieces.items() if alike[again[path], piece] > 1]
        whole += [path for path, size in sizes.items() if size in embedded]
        return self._each(file_key, whole, "contents")

    def _each(self, look: Callable[[str], int | None], paths: Collection[str], what: str) -> dict[str, int]:
        """Path -> what a look at the file gives, of those of which it gives anything."""
        known = self._known.setdefault(look, {})
        new = [path for path in paths if path not in known]
        blocks = [new[at : at + BLOCK] for at in range(0, len(new), BLOCK)]
        with Waiting(len(new), f"files' {what}", "file") as bar, ThreadPoolExecutor(THREADS) as threads:
            for block, found in zip(blocks, threads.map(lambda block: [*map(look, block)], blocks), strict=True):
                known.update(zip(block, found, strict=True))
                bar.update(len(block))
        return {path: value for path in paths if (value := known[path]) is not None}


def _size_of(path: str) -> int | None:
    """The size of a file in bytes; None if it is empty, not a regular file or cannot be read."""
    try:
        return _size(os.stat(path))  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return None


def _size(status: os.stat_result) -> int | None:
    return status.st_size or None if stat.S_ISREG(status.st_mode) else None


def _piece_of(path: str) -> int | None:
    """The `bytes_key` of PIECE bytes in the middle of a file."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
            file.seek(max(0, os.fstat(file.fileno()).st_size - PIECE) // 2)
            return bytes_key(file.read(PIECE))
    except (OSError, ValueError):
        return None


def _number(digest: Any) -> int:
    """The upper 62 bits of a 64-bit digest."""
    return int.from_bytes(digest.digest(), "little") >> 2
