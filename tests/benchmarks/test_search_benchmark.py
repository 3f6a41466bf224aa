from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # at the end: nothing of the tests' own is hidden


def test_search_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    from embed_search import main

    main(["--rows", "2000", "--queries", "20", "--embed", "64", "--no-write"])
    last = capsys.readouterr().out.splitlines()[-1]
    rows = {row["what"]: row for row in json.loads(last.removeprefix("RESULT "))["rows"]}
    assert set(rows) == {"embed image", "embed text", "multicl exact", "multicl IVF", "faiss exact", "faiss IVF"}
    assert rows["multicl exact"]["recall@10"] == rows["faiss exact"]["recall@10"] == 1
    assert min(rows["multicl IVF"]["recall@10"], rows["faiss IVF"]["recall@10"]) > 0.8
