"""What `datasets` would pass over in a folder without a word: links to folders, and files of a second kind."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

from multicl.types import InputError

PACKED = (".gz", ".bz2", ".xz", ".zst")
_ZIPS = "zip archives"
_KINDS = {
    ".parquet": "Parquet tables", ".jsonl": "JSON tables", ".ndjson": "JSON tables", ".json": "JSON tables",
    ".csv": "CSV tables", ".tsv": "TSV tables", ".arrow": "Arrow tables", ".tar": "WebDataset tars",
    ".zip": _ZIPS,
}  # fmt: skip
_MEDIA = {"pictures", "sounds"}


def refuse_links(folder: Path) -> None:
    """`datasets` follows links to files, and passes over those to folders without a word.

    Raises:
        InputError: the folder holds a link to a folder.
    """
    for home, names, _ in os.walk(folder):
        for name in sorted(names):
            link = Path(home, name)
            if link.is_symlink() and not name.startswith((".", "__")):
                raise InputError(
                    f"{link} is a link to a folder, and `datasets` would pass over what it holds: remove it, and put "
                    f"a folder of links to files in its place (cp -rs '{link.resolve()}' '{link}')"
                )


def refuse_mixed(folder: Path) -> None:
    """`datasets` reads the kind of file of which there are most, and passes over the others.

    A table beside pictures or sounds mostly names them, and passes. An archive beside them is read, but at a depth of
    its own, so that the classes of all are lost.

    Raises:
        InputError: pictures and sounds, either and archives, or two kinds of tables, each of which would be rows were
            it alone.
    """
    if _says_its_files(folder) or not _clash(_examples(_walk(folder))):
        return
    examples = _examples(_candidates(folder))  # asked only now, as it takes long in a large folder
    if clash := _clash(examples):
        one, other = clash
        file = Path(examples[one])
        end = next(end for end in reversed(file.suffixes) if end.lower() not in PACKED)
        why = "of which `datasets` would read one kind alone: "
        if other == _ZIPS:
            why = "and `datasets` would find no classes: unpack them, or put them elsewhere"
        elif one in _MEDIA:
            why += "put one kind into another folder, or name pairs of them in a table, as two columns of paths"
        else:
            why += f"name the files (such as '{file.parent}/*{end}'), or put one kind into another folder"
        raise InputError(f"{folder} holds {one} ({examples[one]}) and {other} ({examples[other]}), {why}")


def _clash(kinds: Iterable[str]) -> tuple[str, str] | None:
    """Two kinds that are never one set."""
    pairs = combinations(sorted(kinds), 2)
    return next(((a, b) for a, b in pairs if (a in _MEDIA) == (b in _MEDIA or b == _ZIPS)), None)


def _examples(files: Iterable[str]) -> dict[str, str]:
    """Kind -> its first file. Captions of media (metadata.csv) and texts (LICENSE.txt) are of no kind."""
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    media = {**dict.fromkeys(AudioFolder.EXTENSIONS, "sounds"), **dict.fromkeys(ImageFolder.EXTENSIONS, "pictures")}
    kinds, found = _KINDS | media, dict[str, str]()
    for file in files:
        name = Path(file).name
        ends = [f".{end}" for end in name.lower().split(".")[1:] if f".{end}" not in PACKED]
        kind = kinds.get(ends[-1]) if ends else None
        if kind and kind not in found and name not in ImageFolder.METADATA_FILENAMES:
            found[kind] = file
    return found


def _walk(folder: Path) -> Iterator[str]:
    for home, _, names in os.walk(folder):
        yield from (f"{home}{os.sep}{name}" for name in sorted(names))


def _candidates(folder: Path) -> list[str]:
    """The files of all splits as `datasets` finds them: none that are hidden, or beside train.csv and test.csv."""
    from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

    base = folder.resolve().as_posix()
    try:
        splits = DataFilesDict.from_patterns(get_data_patterns(base), base_path=base)
    except (EmptyDatasetError, FileNotFoundError):  # what is wrong, opening it says best
        return []
    return [file for files in splits.values() for file in files]


def _says_its_files(folder: Path) -> bool:
    """Whether the folder's own card says which files are its rows."""
    cards = [folder / "README.md", folder / ".huggingface.yaml"]
    lines = (line for card in cards if card.is_file() for line in card.read_text("utf-8", "replace").splitlines())
    return any(line.startswith("configs:") for line in lines)
