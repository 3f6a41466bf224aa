"""What `datasets` silently ignores in a folder: links to folders, and files of a second or an unsupported kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path

from multicl.types import InputError

FOLDERS = ("imagefolder", "audiofolder")
"""The names of the builders with which `datasets` reads folders of images and of sounds."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
_ZIPS = "zip archives"
_TARS = "WebDataset tars"
_KINDS = {
    ".parquet": "Parquet tables", ".jsonl": "JSON tables", ".ndjson": "JSON tables", ".json": "JSON tables",
    ".csv": "CSV tables", ".tsv": "TSV tables", ".arrow": "Arrow tables", ".tar": _TARS,
    ".zip": _ZIPS,
}  # fmt: skip
_MEDIA = {"pictures", "sounds"}
_UNREAD = {
    "pictures": (".heic", ".heif", ".avif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf"),
    "sounds": (".m4a", ".aac", ".aif", ".aifc", ".oga", ".amr", ".ac3", ".mp2", ".mka", ".ape", ".wv", ".spx"),
}
"""Extensions of images and sounds that `datasets` does not read from a folder."""
_WAYS_OUT = {
    "pictures": "write them as .png or .jpg (ImageMagick: mogrify -format png FILES; in Python pillow-heif)",
    "sounds": "write them as .flac (ffmpeg -i FILE FILE.flac)",
}


def refuse_links(folder: Path) -> None:
    """Refuse links to folders: `datasets` follows links to files, but silently ignores those to folders.

    Raises:
        InputError: the folder holds a link to a folder.
    """
    for home, names, _ in os.walk(folder):
        for name in sorted(names):
            link = Path(home, name)
            if link.is_symlink() and not name.startswith((".", "__")):
                raise InputError(
                    f"{link} is a link to a folder, and `datasets` would ignore what it holds: remove it, and put "
                    f"a folder of links to files in its place (cp -rs '{link.resolve()}' '{link}')"
                )


def refuse_mixed(folder: Path) -> None:
    """Refuse a folder with files of several kinds: `datasets` reads the most frequent kind and ignores the others.

    A table beside images or sounds is accepted: it usually names them. An archive beside them would be read, but its
    files lie at another depth, so that no file would get a class.

    Raises:
        InputError: the folder holds images and sounds, zip archives and either, or two kinds of tables.
    """
    if _says_its_files(folder) or not _clash(_examples(walk(folder))):
        return
    examples = _examples(_candidates(folder))  # only now: slow in a large folder
    if clash := _clash(examples):
        one, other = clash
        file = Path(examples.get(_TARS, examples[one]))  # img2dataset writes logs beside its tars
        end = next(end for end in reversed(file.suffixes) if end.lower() not in PACKED)
        why = "of which `datasets` would read only one kind: "
        if other == _ZIPS:
            why = "and `datasets` would find no classes: unpack them, or move them elsewhere"
        elif one in _MEDIA:
            why += (
                "name a folder of only one kind, move one kind to another folder, or name pairs of them in a table, as "
                "two columns of paths"
            )
        else:
            why += f"name the files (such as '{file.parent}/*{end}'), or move one kind to another folder"
        raise InputError(f"{folder} holds {one} ({examples[one]}) and {other} ({examples[other]}), {why}")


def passed_over(folder: Path, rows: int | None) -> list[str]:
    """What a folder of images or sounds holds besides its rows, a line each: tables, captions, and unlisted files.

    Args:
        rows: the number of rows that `datasets` found; None: not known.
    """
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    beside = sorted(file.name for file in folder.iterdir() if file.is_file())
    lines = [
        f"{name} beside them is not read: to read it, and the files that it names, give its path ({folder / name})"
        for name in beside
        if name not in ImageFolder.METADATA_FILENAMES and (kind_of(name) or "").endswith("tables")
    ]
    walked = list(walk(folder))
    lines += [line] if (line := captions_beside(folder, walked)) else []
    metadata = next((name for name in beside if name in ImageFolder.METADATA_FILENAMES), None)
    files = sum(kind_of(file) in _MEDIA for file in walked) if metadata else 0
    if rows is not None and files > rows:
        lines.append(f"{files - rows} of {files} files have no line in {metadata}, and are left out")
    return lines


def captions_beside(folder: Path, files: Sequence[str] | None = None) -> str | None:
    """Advice for texts named like the images or sounds beside them (1.jpg and 1.txt); None: there are none.

    `datasets` reads only one kind of file: the texts, if there are equally many of both.

    Args:
        files: all files of the folder, if the caller has walked it.
    """
    files = list(walk(folder)) if files is None else files
    texts = [file for file in files if _end(file) == ".txt"]
    media = {file.rpartition(".")[0] for file in files if kind_of(file) in _MEDIA} if texts else set()
    texts = [file for file in texts if file.rpartition(".")[0] in media]
    if not texts:
        return None
    return (
        f"{len(texts)} texts are named like the pictures or sounds beside them ({min(texts)} ...), of which `datasets` "
        f"would read only one kind: pack them (tar --sort=name -cf pairs.tar -C '{folder}' .), and name pairs.tar"
    )


def unread(folder: Path) -> list[str]:
    """The images and sounds in a folder that `datasets` cannot read, a line per kind: how many, and how to convert."""
    kinds = {end: kind for kind, ends in _UNREAD.items() for end in ends if end not in _kinds()}
    found: dict[str, list[str]] = {kind: [] for kind in _UNREAD}
    for file in walk(folder):
        if (kind := kinds.get(_end(file))) and not file.rpartition(os.sep)[2].startswith((".", "__")):
            found[kind].append(file)
    lines = []
    for kind, files in found.items():
        ends = Counter(map(_end, files))
        counts = " and ".join(f"{count} {end}" for end, count in ends.most_common())
        lines += [f"{counts} are left out ({min(files)} ...): {_WAYS_OUT[kind]}"] if files else []
    return lines


def _end(file: str) -> str:
    return "." + file.rpartition(".")[2].lower()


def _clash(kinds: Iterable[str]) -> tuple[str, str] | None:
    """Two of these kinds that cannot form one data set; None: there are none."""
    pairs = combinations(sorted(kinds), 2)
    return next(((a, b) for a, b in pairs if (a in _MEDIA) == (b in _MEDIA or b == _ZIPS)), None)


def _examples(files: Iterable[str]) -> dict[str, str]:
    """Kind -> its first file. Captions of media (metadata.csv) and texts (LICENSE.txt) have no kind."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    found = dict[str, str]()
    for file in files:
        kind = kind_of(file)
        if kind and kind not in found and Path(file).name not in ImageFolder.METADATA_FILENAMES:
            found[kind] = file
    return found


def kind_of(file: str) -> str | None:
    """The kind of a file by its name: "pictures", "sounds", a kind of tables or archives; None: something else."""
    name = file.replace(os.sep, "/").rpartition("/")[2]  # pathlib would take seconds for a million files
    ends = [f".{end}" for end in name.lower().split(".")[1:] if f".{end}" not in PACKED]
    return _kinds().get(ends[-1]) if ends else None


def is_medium(file: str) -> bool:
    """Whether a file's name says that it is a picture or a sound."""
    return kind_of(file) in _MEDIA


def is_picture(file: str) -> bool:
    """Whether a file's name says that it is a picture."""
    return kind_of(file) == "pictures"


def media_in(folder: Path) -> dict[str, list[str]]:
    """Kind -> the images and the sounds below a folder, without hidden files."""
    found: dict[str, list[str]] = {kind: [] for kind in sorted(_MEDIA)}
    for file in walk(folder):
        if (kind := kind_of(file)) in found and not file.rpartition(os.sep)[2].startswith((".", "__")):
            found[kind].append(file)
    return found


def medium_ends() -> list[str]:
    """The extensions of images and sounds."""
    return [end for end, kind in _kinds().items() if kind in _MEDIA]


@cache
def _kinds() -> dict[str, str]:
    """Extension -> kind of file."""
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    media = {**dict.fromkeys(AudioFolder.EXTENSIONS, "sounds"), **dict.fromkeys(ImageFolder.EXTENSIONS, "pictures")}
    return _KINDS | media


def walk(folder: Path) -> Iterator[str]:
    """Yield the path of every file below a folder, sorted by name within each folder."""
    for home, _, names in os.walk(folder):
        yield from (f"{home}{os.sep}{name}" for name in sorted(names))


def _candidates(folder: Path) -> list[str]:
    """The files of all splits as `datasets` finds them: no hidden ones, and no others beside train.csv and test.csv."""
    from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

    base = folder.resolve().as_posix()
    try:
        splits = DataFilesDict.from_patterns(get_data_patterns(base), base_path=base)
    except (EmptyDatasetError, FileNotFoundError):  # opening it gives a better message
        return []
    return [file for files in splits.values() for file in files]


def _says_its_files(folder: Path) -> bool:
    """Whether the folder's dataset card specifies its data files."""
    cards = [folder / "README.md", folder / ".huggingface.yaml"]
    lines = (line for card in cards if card.is_file() for line in card.read_text("utf-8", "replace").splitlines())
    return any(line.startswith("configs:") for line in lines)
