from __future__ import annotations

import re
import sys

import pytest
import torch

from multicl import progress
from multicl.progress import Progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_rates_are_of_the_time_since_they_were_last_asked_for(clock: Clock) -> None:
    p = Progress(total=100, start=10, batch_size=32, shown=False)
    for _ in range(4):
        clock.now += 0.5
        p.advance(None, waited=0.125)
    assert p.rates() == {"rows_per_second": 64.0, "data_wait": 0.25}
    clock.now += 2.0
    p.advance(None, waited=3.0)  # prefetching may wait longer than the step took
    assert p.rates() == {"rows_per_second": 16.0, "data_wait": 1.0}
    assert p.step == 15


def test_a_line_now_and_then_where_nobody_watches(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=40, start=10, batch_size=8, shown=True)
    for _ in range(20):
        clock.now += 1.0
        p.advance(torch.tensor(1.25), waited=0.0)
    p.close()
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert re.fullmatch(r"step 26/40  loss 1\.2500  8 rows/s  14 s left  \d+\.\d GiB( GPU)?", line)


def test_only_the_first_process_speaks(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=40, start=0, batch_size=8, shown=False)
    clock.now += 100
    p.advance(torch.tensor(1.0), waited=0.0)
    p.close()
    assert capsys.readouterr() == ("", "")


def test_a_bar_where_somebody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    p = Progress(total=4, start=2, batch_size=8, shown=True)
    p.advance(torch.tensor(0.5), waited=0.0)
    p.advance(None, waited=0.0)
    p.close()
    err = capsys.readouterr().err
    assert "loss 0.5000" in err
    assert "4/4" in err
