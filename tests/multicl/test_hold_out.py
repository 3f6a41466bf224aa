"""A held-out share of data without a split of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicl import HoldOut, InputError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "words.csv"
    path.write_text("word\n" + "".join(f"w{i}\n" for i in range(50)))
    return path


@given(share=st.floats(0.001, 0.999), seed=st.integers(0, 9))
def test_every_row_is_on_one_side(table: Path, share: float, seed: int) -> None:
    data = HoldOut(path=str(table), hold_out=share, hold_out_seed=seed)
    train, held = data.open().column("word"), data.open("held-out").column("word")
    assert sorted(train + held) == sorted(f"w{i}" for i in range(50))
    assert len(held) == min(max(1, round(50 * share)), 49)
    assert data.open("held-out").column("word") == held


def test_rows_are_drawn_by_chance_and_by_the_seed(table: Path) -> None:
    held = [HoldOut(path=str(table), hold_out_seed=seed).open("held-out").column("word") for seed in (0, 1)]
    assert held[0] != held[1]
    assert held[0] not in ([f"w{i}" for i in range(5)], [f"w{i}" for i in range(45, 50)])


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="share in"):
        HoldOut(hold_out=1.0)
    with pytest.raises(InputError, match="stream"):
        HoldOut(streaming=True)


def test_a_single_row_cannot_be_kept_back(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("word\nw\n")
    with pytest.raises(InputError, match="1 rows"):
        HoldOut(path=str(tmp_path / "one.csv")).open()
