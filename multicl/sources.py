"""What `datasets` must be told before the rows of a file, a folder or a hub set can be used undecoded."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import is_dataclass, replace
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any

from multicl.folders import FOLDERS, PACKED, refuse_links, refuse_mixed, unread
from multicl.json_lists import chosen, field_options, lists_in, only_lists
from multicl.separators import EMPTY_ALONE, captions, read_captions, separator
from multicl.tars import columns_of
from multicl.types import InputError

TABLES = {
    ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".txt": "text", ".arrow": "arrow", ".tar": "webdataset",
}  # fmt: skip


def open_named(name: str, split: str, config: str | None, streaming: bool) -> tuple[Any, Path | None, str]:
    """A path, URL or hub name -> (undecoded data set, the folder of its relative paths, how messages call it).

    Raises:
        InputError: see `multicl.rows.open_rows`.
    """
    if streaming and "[" in split:
        raise InputError(f"a stream has no slices: split {split!r} needs the data without streaming")
    path, url, part = Path(name).expanduser(), "://" in name, split
    files = _files(name, path, url)
    suffix = _suffix(files[0] if files else path)
    if files or (url and suffix in TABLES):
        if suffix not in TABLES:
            unpack = "; unpack archives" if suffix in (".zip", ".rar", ".7z") else ""
            raise InputError(
                f"{name}: a data file must end in one of {sorted(TABLES)}, or be a folder of media{unpack}"
            )
        key = chosen(lists_in(files[0]), split, name) if len(files) == 1 else None
        part = "train" + "".join(split.partition("[")[1:]) if key else split
        if set(_splits(part)) != {"train"}:
            raise InputError(
                f"{name} is one file, all of it split 'train': it has no split {split!r}. Give a folder that holds "
                "train.parquet and test.parquet, the path of another file (--data.test other.parquet), or parts of "
                "this one (--data.split 'train[:90%]' --data.test 'train[90%:]')"
            )
        if config is not None:
            raise InputError(f"{name} is one file and has no configuration {config!r}")
        if files and all(map(_is_empty, files)):
            raise InputError(f"{name} has no rows")
        options: dict[str, Any] = {"data_files": [glob.escape(str(file)) for file in files] or name}
        if suffix == ".tsv":
            options["sep"] = "\t"
        elif suffix == ".txt":
            options["encoding"] = "utf-8-sig"  # or the mark with which Windows begins a file is of the first text
        elif key:
            options |= field_options(key)
        what, label, base = TABLES[suffix], f"{name} ({key})" if key else name, files[0].parent if files else None
    else:
        base = path if path.is_dir() else None
        what, label, options = str(path.resolve()) if base else name, f"{name} ({split})", {"name": config}
        if base and (saved := _saved(base)):
            what, options["data_files"] = "arrow", saved
        elif base:
            refuse_mixed(base)
    _let_sounds_pass()
    try:
        with nullcontext() if files or base or url else _offline_if_unreachable(name):
            builder = _builder(what, options)
            if not streaming:
                builder.download_and_prepare()
                _check_split(name, part, list(builder.info.splits or ()))
            data = undecoded((builder.as_streaming_dataset if streaming else builder.as_dataset)(split=part))
    except InputError:
        raise
    except Exception as error:  # datasets raises many kinds; all of them mean that this source cannot be read
        torn = [str(file) for file in sorted(base.rglob("*")) if _is_torn(file)] if base and not files else []
        why = f"{', '.join(torn)}: empty or cut short, take it out or write it again" if torn else reason(error)
        if base and not files and glob.escape(what) != what:
            why = "`datasets` takes *, ? and [ in a folder's path for a pattern: give the folder another name"
        if base and not files:
            refuse_links(base)
            why = "; ".join([why, *unread(base)])
        raise InputError(f"cannot read {name!r} (split {split!r}): {why}") from error
    if base and not files and data.info.builder_name in FOLDERS:
        refuse_links(base)
    if not streaming and len(data) == 0:
        raise InputError(f"{label} has no rows")
    return data, base, label


def _splits(split: str) -> list[str]:
    """The names in "train[:90%]+test"."""
    return re.sub(r"\[[^]]*\]", "", split).split("+")


def _check_split(name: str, split: str, there: list[str]) -> None:
    """InputError unless the data, which are no single file, have every split that is asked for."""
    missing = [part for part in _splits(split) if part not in {*there, "all"}]
    if there and missing:
        raise InputError(
            f"{name} has no split {missing[0]!r}; it has {there}. Give the path of other data (--data.test PATH), or "
            f"parts of these, in their order (--data.split '{there[0]}[:90%]' --data.test '{there[0]}[90%:]')"
        )


def _builder(what: str, options: Mapping[str, Any]) -> Any:
    """What `datasets` reads a set with.

    Of CSV only empty cells are missing, unless the set's card says otherwise; local files may have other separators,
    and a local folder's metadata.csv is read alike. Local tars have all columns that are found in many samples.
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
        return datasets.load_dataset_builder(what, **options, **EMPTY_ALONE)  # as CSV that was downloaded is kept
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
    if changes:
        builder = datasets.load_dataset_builder(what, **(dict(options) | changes))
    if "metadata_filenames" in changes:
        read_captions(builder)
    return builder


def _files(name: str, path: Path, url: bool) -> list[Path]:
    """The local files of a name; none for a folder, a URL or a hub name.

    Raises:
        InputError: it looks like a path, and nothing is there.
    """
    wild = not url and ("*" in name or "?" in name)
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor))) if wild else [path]
    files = sorted(filter(Path.is_file, found))
    # A hub name is "name" or "user/name"; anything else that does not exist is a path that is missing.
    inside = "/" in name and path.parts != () and Path(path.parts[0]).is_dir()
    is_path = name.startswith((".", "/", "~")) or name.endswith("/")
    looks_local = wild or inside or _suffix(path) in TABLES or is_path or name.count("/") > 1
    if not name or (looks_local and not url and not files and not path.is_dir()):
        braces = "; {0..9} is not spelt out: write * or ? in its place" if "{" in name else ""
        raise InputError(f"no such file or folder: {name or repr(name)}{braces}")
    return files


def _saved(folder: Path) -> dict[str, list[str]]:
    """Split -> the tables of a folder that `save_to_disk` wrote, without what `map` cached beside; else empty."""
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


def _is_empty(file: Path) -> bool:
    """No rows in a local table: `datasets` says so in a dozen ways."""
    if file.stat().st_size == 0:
        return True
    if file.suffix.lower() in (".csv", ".tsv"):
        with file.open("rb") as lines:
            return sum(1 for line in islice(lines, 2) if line.strip()) < 2
    if file.suffix.lower() == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_metadata

        with suppress(ArrowInvalid, OSError):  # `datasets` says what is wrong with it
            return int(read_metadata(file).num_rows) == 0
    return False


def _is_torn(file: Path) -> bool:
    """A table in a folder that `datasets` cannot read and does not name."""
    if not file.is_file() or _suffix(file) not in TABLES:
        return False
    if file.suffix.lower() == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_metadata

        try:
            read_metadata(file)
        except (ArrowInvalid, OSError):
            return True
    return file.stat().st_size == 0


@contextmanager
def _offline_if_unreachable(name: str) -> Iterator[None]:
    """Ask the hub once for a set of this name; where nothing answers, only what was downloaded before can be opened.

    `datasets` itself would retry for half a minute.
    """
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    unreachable: Exception | None = None
    try:
        HfApi().dataset_info(name, timeout=10)
    except HfHubHTTPError:  # an answer: `datasets` says best what is wrong with the name
        pass
    except Exception as error:
        unreachable = error
    if unreachable is None:
        yield
        return
    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    except (ConnectionError, OSError) as error:
        raise InputError(
            f"cannot read {name!r}: there is no such file or folder, and the Hugging Face hub, which might have a data "
            f"set of that name, cannot be reached ({reason(unreachable)})"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _let_sounds_pass() -> None:
    """Without torchcodec `datasets` refuses even sounds that stay bytes and paths; nothing is decoded here.

    Replaces a method that does nothing but raise in that case.
    """
    import datasets

    if not datasets.config.TORCHCODEC_AVAILABLE:
        datasets.Audio.encode_example = _encode_sound


def _encode_sound(feature: Any, value: Any) -> dict[str, Any]:
    if isinstance(value, str | os.PathLike):
        return {"bytes": None, "path": os.fspath(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, dict) and (value.get("bytes") is not None or value.get("path") is not None):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    raise InputError(f"a sound must be bytes, a path or a dict of them, got {type(value).__name__}")


def undecoded(data: Any) -> Any:
    """Media as bytes and paths, numbers as plain Python: decoding is `Modality.load`'s affair."""
    kind = getattr(data, "format", {}).get("type")
    if kind != "custom":  # a transform of the user's own stays
        data = data.with_format(None)
    if data.features is None and hasattr(data, "_resolve_features"):
        data = data._resolve_features()
    for name, feature in (data.features or {}).items():
        plain = _plain(feature)
        if plain != feature:
            data = data.cast_column(name, plain)
    return data


def _plain(feature: Any) -> Any:
    """The feature with every medium in it left undecoded."""
    import datasets

    if isinstance(feature, dict):
        return {name: _plain(part) for name, part in feature.items()}
    if isinstance(feature, list):
        return [_plain(part) for part in feature]
    if is_dataclass(feature) and not isinstance(feature, type):
        if hasattr(feature, "decode"):  # but of JSON, which datasets 5 knows: texts beside lists
            return feature if isinstance(feature, getattr(datasets, "Json", ())) else replace(feature, decode=False)
        if hasattr(feature, "feature"):
            return replace(feature, feature=_plain(feature.feature))
    return feature


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame; its NaN, NA and NaT are null."""
    names = [str(name) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the DataFrame has two columns {twice[0]!r}: give one of them another name")
    plain = frame.set_axis(names, axis=1).astype(object)
    rows: list[dict[str, Any]] = plain.where(frame.notna().to_numpy(), None).to_dict("records")
    return rows


def _suffix(path: Path) -> str:
    """What kind of table a name says it is: ".csv" of "rows.csv.gz" too."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in PACKED]
    return suffixes[-1] if suffixes else ""


def reason(error: BaseException) -> str:
    """The first line that tells something at the bottom of an error: `datasets` wraps it in words that say nothing."""
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
    if lines and lines[0].startswith("Invalid string class label"):  # it is the archive's own name or folder
        return f"{lines[0]}: `datasets` finds no classes in zip archives; unpack them"
    if lines and (lines[0].rstrip().endswith(":") or lines[0] == "Couldn't cast"):  # what, the next ones say
        return shorten(" ".join(lines), 300)
    return lines[0] if lines else type(error).__name__
