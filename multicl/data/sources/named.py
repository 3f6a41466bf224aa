"""Opens a file, a folder or a hub set with `datasets`: chooses its reader and options, and leaves media undecoded."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from multicl.data.sources.beside import ROWS, folder_of_media
from multicl.data.sources.fields import with_fields
from multicl.data.sources.first_lines import comments, separator_of_files, table_of, told
from multicl.data.sources.folders import FOLDERS, captions_beside, refuse_links, refuse_mixed, unread
from multicl.data.sources.hidden import hidden_media, media_home, only_media, refuse_unnamed
from multicl.data.sources.hub import offline_if_unreachable
from multicl.data.sources.integers import whole_columns
from multicl.data.sources.json_lists import chosen, lines_of, lists_in, only_lists
from multicl.data.sources.nested import with_classes
from multicl.data.sources.numbered import with_captions
from multicl.data.sources.reasons import reason
from multicl.data.sources.separators import (
    EMPTY_ALONE,
    captions,
    is_spaced,
    quotes_are_letters,
    read_captions,
    separator,
)
from multicl.data.sources.tables import TABLES, files_of, is_empty, is_torn, suffix_of
from multicl.data.sources.tars import columns_of
from multicl.data.sources.transcripts import with_transcripts
from multicl.data.sources.undecoded import let_sounds_pass, undecoded
from multicl.types import InputError


def open_named(name: str, split: str, config: str | None, streaming: bool) -> tuple[Any, Path | None, str]:
    """A path, URL or hub name -> (undecoded data set, base folder of its relative paths, label for messages).

    Raises:
        InputError: see `multicl.data.rows.open_rows`.
    """
    if streaming and "[" in split:
        raise InputError(f"a stream has no slices: split {split!r} needs the data without streaming")
    path, url, part = Path(name).expanduser(), "://" in name, split
    if path.is_dir() and (table := table_of(path)):
        return open_named(str(table), split, config, streaming)
    files = files_of(name, path, url)
    suffix = suffix_of(files[0] if files else path)
    if files or (url and suffix in TABLES):
        if suffix not in TABLES:
            unpack = "; unpack archives" if suffix in (".zip", ".rar", ".7z") else ""
            raise InputError(
                f"{name}: a data file must end in one of {sorted(TABLES)}, or be a folder of media{unpack}"
            )
        key = chosen(lists_in(files[0]), split, name) if len(files) == 1 else None
        part = split if key is None else "train" + "".join(split.partition("[")[1:])
        if set(_splits(part)) != {"train"}:
            raise InputError(
                f"{name} is one file, all of it split 'train': it has no split {split!r}. Give a folder that holds "
                "train.parquet and test.parquet, the path of another file (--data.test other.parquet), or parts of "
                "this one (--data.split 'train[:90%]' --data.test 'train[90%:]')"
            )
        if config is not None:
            raise InputError(f"{name} is one file and has no configuration {config!r}")
        if files and all(map(is_empty, files)):
            raise InputError(f"{name} has no rows")
        options: dict[str, Any] = {"data_files": [glob.escape(str(file)) for file in files] or name}
        if suffix == ".tsv":
            options["sep"] = "\t"
        elif suffix == ".txt":
            options["encoding"] = "utf-8-sig"  # otherwise a byte-order mark would be part of the first text
        elif key is not None:
            options |= lines_of({"train": files[0]}, key)
        what, label, base = TABLES[suffix], f"{name} ({key})" if key else name, files[0].parent if files else None
        if suffix == ".txt" and files and (sep := separator_of_files(files[0])):
            what, options = "csv", {"data_files": options["data_files"], "sep": sep, "skiprows": comments(files[0])}
    else:
        base = path if path.is_dir() else None
        what, label, options = str(path.resolve()) if base else name, f"{name} ({split})", {"name": config}
        if base and (saved := _saved(base)):
            what, options["data_files"] = "arrow", saved
        elif base:
            refuse_mixed(base)
    let_sounds_pass()
    try:
        with nullcontext() if files or base or url else offline_if_unreachable(name):
            builder = _of_folder(base, what, options) if base and not files else _builder(what, options)
            if not streaming:
                builder.download_and_prepare()
                in_classes = builder.name in FOLDERS and "label" in (builder.info.features or ())
                _check_split(name, part, list(builder.info.splits or ()), in_classes)
            data = undecoded((builder.as_streaming_dataset if streaming else builder.as_dataset)(split=part))
    except InputError:
        raise
    except Exception as error:  # `datasets` raises many kinds, and each means that the source cannot be read
        torn = [str(file) for file in sorted(base.rglob("*")) if is_torn(file)] if base and not files else []
        why = f"{', '.join(torn)}: empty or cut short: remove it or write it again" if torn else reason(error)
        if base and not files and glob.escape(what) != what:
            why = "`datasets` treats *, ? and [ in a folder's path as a pattern: rename the folder"
        if base and not files:
            refuse_links(base)
            kind, media, home = media_home(base)
            inside = [f"its {media} {kind} are in {home}"] if media and Path(home) != base else []
            why = "; ".join([why, *inside, *unread(base)])
        raise InputError(f"cannot read {name!r} (split {split!r}): {why}") from error
    if base and not files and data.info.builder_name in FOLDERS:
        refuse_links(base)
        parts = builder.config.data_files or {}
        data = with_classes(data, chain.from_iterable(parts[name] for name in _splits(part) if name in parts))
        data = with_transcripts(data, base)
    if not streaming and len(data) == 0:
        raise InputError(f"{label} has no rows")
    if base and data.info.builder_name not in FOLDERS:
        if not (files or streaming):
            refuse_unnamed(base, data)
        base = folder_of_media(_beginning(data, builder, ROWS) if streaming else data, base)
    return with_captions(with_fields(data) if data.info.builder_name == "webdataset" else data), base, label


def _beginning(data: Any, builder: Any, count: int) -> Iterable[Mapping[str, Any]]:
    """A stream's first rows. pandas reads those of CSV: `datasets` leaves a file open unless it reads it to the end."""
    how = getattr(builder.config, "pd_read_csv_kwargs", None)
    if how is None:
        return data  # type: ignore[no-any-return]
    import pandas

    file = next(file for part in builder.config.data_files.values() for file in part)
    how = {**how, "chunksize": None, "iterator": False, "nrows": count}
    rows: list[Mapping[str, Any]] = pandas.read_csv(file, **how).to_dict("records")
    return rows


def _splits(split: str) -> list[str]:
    """The names in "train[:90%]+test"."""
    return re.sub(r"\[[^]]*\]", "", split).split("+")


def _check_split(name: str, split: str, there: list[str], in_classes: bool) -> None:
    """Refuse a split that a folder or hub set does not have.

    Args:
        in_classes: rows come sorted by class, so that a slice at the end would hold the last classes only.

    Raises:
        InputError: a split is missing; the message names the first.
    """
    missing = [part for part in _splits(split) if part not in {*there, "all"}]
    if there and missing:
        raise InputError(
            f"{name} has no split {missing[0]!r}; it has {there}. Give the path of other data (--data.test PATH), or "
            + (
                "put some files of each class into test/CLASS/ and the others into train/CLASS/"
                if in_classes
                else f"parts of these, in their order (--data.split '{there[0]}[:90%]' --data.test '{there[0]}[90%:]')"
            )
            + ". `multicl fit` holds rows out at random"
        )


def _of_folder(folder: Path, what: str, options: Mapping[str, Any]) -> Any:
    """The builder of `datasets` for a folder; it reads the media even where `datasets` would choose only texts or fail.

    Raises:
        InputError: the texts are captions of media beside them; or see `hidden_media`.
    """
    from datasets.exceptions import DataFilesNotFoundError

    if options == {"name": None} and (media := only_media(folder)):
        return _builder(*media)
    try:
        builder = _builder(what, options)
    except DataFilesNotFoundError:
        if (found := hidden_media(folder, ())) is None:
            raise
        return _builder(*found)
    if builder.name != "text":
        return builder
    if line := captions_beside(folder):
        raise InputError(line)
    found = hidden_media(folder, (file for part in builder.config.data_files.values() for file in part))
    return _builder(*found) if found else builder


def _builder(what: str, options: Mapping[str, Any]) -> Any:
    """The builder with which `datasets` reads a set.

    In CSV only empty cells are missing, unless the set's card says otherwise. Local CSV files, metadata.csv of folders
    included, may use separators other than a comma. Integers in local CSV keep all digits. Local tars get every column
    found in their first samples, where `datasets` looks at only five.
    """
    import datasets
    from datasets.packaged_modules.csv.csv import CsvConfig
    from datasets.packaged_modules.json.json import JsonConfig
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    try:
        builder = datasets.load_dataset_builder(what, **options)
    except ValueError:
        if not datasets.config.HF_HUB_OFFLINE:
            raise
        return datasets.load_dataset_builder(what, **options, **EMPTY_ALONE)  # the options under which CSV is cached
    config, changes = builder.config, captions(builder)
    files = [Path(str(file)) for part in (config.data_files or {}).values() for file in part]
    if isinstance(builder, WebDataset) and all(map(Path.is_file, files)) and (found := columns_of(files)):
        changes["features"] = found
    if isinstance(config, JsonConfig) and config.field is None:
        changes |= only_lists(config.data_files or {})
    if isinstance(config, CsvConfig):
        if config.keep_default_na and config.na_values is None:
            changes |= EMPTY_ALONE
        if config.sep == "," and config.delimiter is None and (found := separator(files)):
            changes["sep"] = found
        sep = changes.get("sep", config.sep)
        if is_spaced(files, sep):
            changes["skipinitialspace"] = True
        if config.converters is None and config.features is None and all(map(Path.is_file, files)):
            if quotes_are_letters(files, sep):
                changes["quoting"] = csv.QUOTE_NONE
            changes |= told(files, config.pd_read_csv_kwargs | changes)
            whole = whole_columns(files, config.pd_read_csv_kwargs | changes)
            if "converters" in whole:
                whole["converters"] |= changes.get("converters", {})
            changes |= whole
    if changes:
        builder = datasets.load_dataset_builder(what, **(dict(options) | changes))
    if "metadata_filenames" in changes:
        read_captions(builder)
    return builder


def _saved(folder: Path) -> dict[str, list[str]]:
    """Split -> the tables of a folder that `save_to_disk` wrote, without the cache files of `map`; else empty."""
    index, names = folder / "dataset_dict.json", ["."]
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["splits"]
    found: dict[str, list[str]] = {}
    for name in names:
        home = folder / name
        if (home / "state.json").is_file():
            parts = json.loads((home / "state.json").read_text(encoding="utf-8")).get("_data_files", [])
            found["train" if name == "." else name] = [glob.escape(str(home / part["filename"])) for part in parts]
    return {name: files for name, files in found.items() if files}
