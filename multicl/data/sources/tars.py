"""Which columns WebDataset tars have: `datasets` looks at five samples, and loses what these lack or refuses them."""

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
"""Files in all tars whose names are looked at, which takes about a second."""
READ = 5
"""Cells of a column that are read for its type; of pictures, sounds and the like one."""
READ_JSON = 100
"""The same of JSON, which may have other keys in each."""


def columns_of(tars: Sequence[Path]) -> Any:
    """The `datasets.Features` of local tars, by the first FILES of their files, of which each tar has its share.

    Types are joined: whole numbers and others are numbers, JSON has all keys that were seen.

    Returns:
        None where no sample can be read: what is wrong, `datasets` says.

    Raises:
        Exception: of many kinds: a cell cannot be read, or cells of one column are of unlike types.
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
    media = {end: kind for ends, kind in kinds for end in ends}  # of an end in two lists the last, as `datasets` has it
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
    names = sorted(found, key=lambda name: name in ("__key__", "__url__"))  # which come last
    return Features({name: media.get(_end(name), found[name]) for name in names})


def _some(tar: Path, files: int, wanted: Mapping[str, int], seen: Counter[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Of a tar's first files those whose column has been seen less often than is wanted of its end."""
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
