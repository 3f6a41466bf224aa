from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "embed_search.py"


def test_search_is_measured() -> None:
    pytest.importorskip("faiss")
    command = [sys.executable, SCRIPT, "--rows", "2000", "--queries", "20", "--embed", "64", "--no-write"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["what"]: row for row in json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))["rows"]}
    assert set(rows) == {"embed image", "embed text", "multicl exact", "multicl IVF", "faiss exact", "faiss IVF"}
    assert rows["multicl exact"]["recall@10"] == rows["faiss exact"]["recall@10"] == 1
    assert min(rows["multicl IVF"]["recall@10"], rows["faiss IVF"]["recall@10"]) > 0.8
