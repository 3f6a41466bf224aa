from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multicl.data import equal_files
from multicl.data.equal_files import PIECE, Files, bytes_key, file_key
from multicl.data.ids import content_ids, content_key, row_id

few = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, contents: list[bytes]) -> list[str]:
    paths = []
    for i, content in enumerate(contents):
        path = folder / f"{i}.bin"
        path.write_bytes(content)
        paths.append(str(path))
    return paths


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Which files were looked at, in each of the three ways."""
    seen: dict[str, list[str]] = {}

    def noted(name: str, look: Callable[[str], int | None]) -> Callable[[str], int | None]:
        def with_note(path: str) -> int | None:
            seen[name].append(Path(path).stem)
            return look(path)

        return with_note

    for name in ("_size_of", "_piece_of", "file_key"):
        seen[name] = []
        monkeypatch.setattr(equal_files, name, noted(name, getattr(equal_files, name)))
    return seen


def test_a_file_has_the_key_of_its_bytes_in_a_table(tmp_path: Path) -> None:
    content = os.urandom(3 * PIECE + 1)
    (path,) = written(tmp_path, [content])
    assert file_key(path) == bytes_key(content) == content_key(content) == content_key({"bytes": content, "path": "x"})
    assert content_key(path, largest=len(content)) == content_key({"path": path}, len(content)) == bytes_key(content)
    assert content_key(path, largest=len(content) - 1) == content_key(path)


@pytest.mark.parametrize("name", ["missing", "folder", "empty", "\0", "http://example.org/a.png"])
def test_what_cannot_be_read_has_no_key_and_goes_by_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    path = name if name == "\0" or "://" in name else str(tmp_path / name)
    assert file_key(path) is None
    assert content_key(path, largest=100) == content_key(path)
    others = [str(tmp_path / other) for other in ("empty", "folder", "gone")]
    assert Files().keys([path, *others], {0, 4096}) == {}
    ids, shared = content_ids([[path, "x", path]], range(3), [Files()])
    assert (ids[0] == ids[2], shared) == (True, 2)


@few
@given(
    st.lists(st.sampled_from([b"", b"a", b"b", b"aa", b"ab", *(bytes([x]) * PIECE * 2 for x in (1, 2))]), max_size=8)
)
def test_equal_files_are_found_and_no_others(tmp_path: Path, contents: list[bytes]) -> None:
    paths = written(tmp_path, contents)
    ids, _ = content_ids([paths], range(len(paths)), [Files()])
    for i, x in enumerate(contents):
        for j, y in enumerate(contents):
            assert (ids[i] == ids[j]) == (i == j or (x == y != b""))


def test_only_what_may_be_equal_is_read(tmp_path: Path, looks: dict[str, list[str]]) -> None:
    n = 3 * PIECE
    ends = [bytes(n), b"\1" + bytes(n - 1), bytes(n - 1) + b"\1", bytes(n // 2) + b"\1" + bytes(n - n // 2 - 1)]
    paths = written(tmp_path, [b"alone", *ends, bytes(n), b"twelve bytes"])
    files = Files()
    for _ in range(2):  # the second time everything is known
        assert files.keys([*paths, *paths], {12}) == {
            **dict.fromkeys((paths[1], paths[5]), bytes_key(bytes(n))),
            paths[2]: bytes_key(ends[1]), paths[3]: bytes_key(ends[2]), paths[6]: bytes_key(b"twelve bytes"),
        }  # fmt: skip
        assert {name: sorted(seen) for name, seen in looks.items()} == {
            "_size_of": list("0123456"),
            "_piece_of": list("12345"),  # of one size
            "file_key": list("12356"),  # the fourth differs in the middle; the last may equal what a table holds
        }


def test_copies_links_and_cells_of_a_table_are_one_thing(tmp_path: Path) -> None:
    first, copy, other, same_size = written(tmp_path, [b"picture", b"picture", b"another", b"Picture"])
    link = tmp_path / "link"
    link.symlink_to(first)
    cells: list[Any] = [
        first, other, Path(copy), {"bytes": None, "path": str(link)}, {"bytes": b"picture", "path": "elsewhere"},
        same_size, [same_size, other], None, first,
    ]  # fmt: skip
    ids, shared = content_ids([cells], range(9), [Files()])
    assert len({*ids[[0, 2, 3, 4, 8]].tolist()}) == 1
    assert len({*ids[[1, 5, 6]].tolist()}) == 1  # a cell of several files is about either
    assert ids[7] == row_id(7)
    assert shared == 8
    texts, _ = content_ids([cells], range(9))  # as texts, names are what counts
    assert texts[0] == texts[8] != texts[2]


def test_ids_do_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = written(tmp_path / name, [b"x", b"y", b"x"])
        found.append(content_ids([paths], range(3), [Files()])[0].tolist())
    assert found[0] == found[1]


def test_many_files_take_seconds(tmp_path: Path) -> None:
    paths = written(tmp_path, [i.to_bytes(2, "big") * (1 + i % 500) for i in range(5000)])
    began = time.perf_counter()
    assert Files().keys([str(tmp_path / "gone" / str(i)) for i in range(50_000)] + paths) == {}
    assert time.perf_counter() - began < 8
