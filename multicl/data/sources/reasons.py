"""The reason for an error of `datasets` in one line: its own messages often hide it."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from textwrap import shorten

from multicl.files import FULL


def reason(error: BaseException) -> str:
    """The first informative line of an error's root cause, with the way out for well-known ones."""
    while error.__cause__ is not None and type(error).__module__.startswith("datasets."):
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0] == "An error occurred while generating the dataset":
        del lines[0]
    if isinstance(error, UnicodeDecodeError):
        return f"{error}: its text is not UTF-8; write it as UTF-8 (iconv -f LATIN1 -t UTF-8; a spreadsheet: CSV UTF-8)"
    if lines and lines[0].endswith(("corresponds to no data!", "No columns to parse from file", "at least one table")):
        return "it has no rows"
    if lines and (twice := re.match(r"Multiple matches for FieldRef\.Name\((.*?)\) in ", lines[0])):
        return f"two columns are called {twice[1]!r}: give one of them another name"
    if lines and lines[0].startswith("`file_name`"):  # such as LJSpeech's metadata.csv, which has no header
        return "its metadata.csv has no column file_name to name each file: rename a column, or give the table's path"
    if lines and lines[0].startswith("Couldn't infer the same data file format"):  # such as Food-101's meta/
        return (
            "its files called train, test and the like are of several kinds: give the path of the rows' file or folder"
        )
    if lines and lines[0].startswith("Trailing data"):  # pandas' message for lists or what is not JSON
        return 'its lines are not all JSON objects: write each row as one, as {"anchor": ..., "positive": ...}'
    if lines and lines[0].startswith("Invalid string class label"):  # the class is the archive's name or folder
        return f"{lines[0]}: `datasets` finds no classes in zip archives; unpack them"
    if lines and (lines[0].rstrip().endswith(":") or lines[0] == "Couldn't cast"):  # the next lines say what
        return shorten(" ".join(lines), 300)
    if isinstance(error, OSError) and _of_the_cache(error):
        return f"{error}. `datasets` keeps there what it prepares: give HF_DATASETS_CACHE, or HF_HOME, another place"
    return lines[0] if lines else type(error).__name__


def _of_the_cache(error: OSError) -> bool:
    """Whether the disk is full, or the folder in which `datasets` prepares tables cannot be written."""
    from datasets.config import HF_DATASETS_CACHE

    cache, file = Path(HF_DATASETS_CACHE), Path(str(error.filename or ""))
    there = file.is_absolute() and (file.is_relative_to(cache) or cache.is_relative_to(file))
    return error.errno in FULL or (there and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM))
