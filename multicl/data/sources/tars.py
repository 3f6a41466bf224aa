"""Finds the columns of WebDataset tars: `datasets` looks at five samples only, and ignores or refuses other columns."""

from __future__ import annotations

import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

FILES = 20_000
"""Files, over all tars, whose names are looked at, which takes about a second."""
READ = 5
"""Cells of a column that are read to find its type; one for images, sounds and other media."""
READ_JSON = 100
"""The same for JSON, whose keys may differ between samples."""


def columns_of(tars: Sequence[Path]) -> Any:
    """The `datasets.Features` of local tars, from FILES of their files, an equal share from the start of each tar.

    Types are unified: integers and floats become floats, and JSON has all keys that were seen.

    Returns:
        The features; None if no sample can be read: `datasets` will report what is wrong.

    Raises:
        Exception: of many kinds: a cell cannot be read, or the types of a column's cells cannot be unified.
    """
    import pyarrow
    from datasets import Audio, Features, Image, Mesh, Video
    from datasets.features.features import cast_to_python_objects
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    kinds = (
        (WebDataset.IMAGE_EXTENSIONS, Image()),
        (WebDataset.AUDIO_EXTENSIONS, Audio()),
        (WebDataset.VIDEO_EXTENSIONS, Video()),
        (WebDataset.MESH_EXTENSIONS, Mesh()),
    )
    media = {end: kind for ends, kind in kinds for end in ends}  # the last of two lists wins, as in `datasets`
    wanted = dict.fromkeys(media, 1) | {"json": READ_JSON, "jsn": READ_JSON}
    seen = Counter[str]()
    tables = [
        pyarrow.Table.from_pylist(cast_to_python_objects([sample], only_1d_for_numpy=True))
        for tar in tars
        for sample in WebDataset._get_pipeline_from_tar(str(tar), _some(tar, FILES // len(tars), wanted, seen))
    ]
    if not tables:
        return None
    found = Features.from_arrow_schema(pyarrow.concat_tables(tables, promote_options="permissive").schema)
    names = sorted(found, key=lambda name: name in ("__key__", "__url__"))  # these come last
    return Features({name: media.get(_end(name), found[name]) for name in names})


def _some(tar: Path, files: int, wanted: Mapping[str, int], seen: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield those of a tar's first files whose column has been seen less often than `wanted` for its extension."""
    from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

    with suppress(tarfile.TarError, EOFError, OSError, zlib.error), tarfile.open(tar) as archive:
        for member in islice(archive, max(1, files)):
            hidden = Path(member.name).name.startswith((".", "__"))
            column = base_plus_ext(member.name)[1] if member.isreg() and not hidden else None
            if column is None or seen[column] >= wanted.get(_end(column), READ):
                continue
            seen[column] += 1
            content = archive.extractfile(member)
            assert content is not None
            yield member.name, content


def _end(column: str) -> str:
    return column.rpartition(".")[2].lower()
