from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.reasons import reason
from multicl.types import InputError

WAY_OUT = "give HF_DATASETS_CACHE, or HF_HOME, another place"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_has_a_way_out(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that is another's, or read-only, as on clusters."""
    home = tmp_path / "home"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", home / ".cache" / "huggingface" / "datasets")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    makedirs = os.makedirs

    def refused(name: str, *args: object, **kwargs: object) -> None:
        if Path(name).is_relative_to(home):
            raise OSError(number, os.strerror(number), str(home / ".cache"))
        makedirs(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "makedirs", refused)
    with pytest.raises(InputError, match=rf"rows\.jsonl.*{os.strerror(number)}: .*\.cache'.*{WAY_OUT}"):
        open_rows(str(tmp_path / "rows.jsonl"))


def test_a_full_disk_has_it_and_what_is_read_has_not(tmp_path: Path) -> None:
    assert reason(OSError(errno.ENOSPC, "No space left on device")).endswith(WAY_OUT)
    assert WAY_OUT not in reason(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "rows.csv")))
    assert WAY_OUT not in reason(PermissionError(errno.EACCES, "Permission denied"))
