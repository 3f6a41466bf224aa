"""Mining over two real ranks against one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranked_mining import mined
from ranks import run_ranks
from toys import rows


@pytest.mark.parametrize("chunk", [None, 4])
def test_tables_and_training_do_not_depend_on_the_number_of_ranks(tmp_path: Path, chunk: int | None) -> None:
    data = rows(23)
    data[3]["a"], data[7]["b"] = None, None
    alone = mined(data, str(tmp_path / "alone"), chunk)
    both = run_ranks(mined, 2, data, str(tmp_path / "both"), chunk)
    for found in both:
        assert found["first"] == alone["first"]  # bit for bit: a near tie would show
        assert found["searched"] == alone["searched"] == ["own", "a-b"]  # the first table of a-b was there already
        for name, p in alone["weights"].items():
            wanted, got = torch.tensor(p), torch.tensor(found["weights"][name])
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6, msg=name)
    names = [sorted(path.name for path in (tmp_path / run / "mined").iterdir()) for run in ("alone", "both")]
    assert names[0][0].split("-")[:2] == names[1][0].split("-")[:2] == ["a", "b"]
