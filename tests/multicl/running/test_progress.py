from __future__ import annotations

import re
import sys

import pytest
import torch

from multicl.running import progress
from multicl.running.progress import Progress


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
    assert re.fullmatch(r"step 26/40  loss 1\.2500, 8 rows/s, \d+\.\d GiB( GPU)?, 00:14 left", line)


def test_the_line_is_of_the_time_since_the_last_rates(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=10_000, start=0, batch_size=8, shown=True)
    for _ in range(10):
        clock.now += 1.0
        p.advance(torch.tensor(1.25), waited=0.0)
    p.rates()
    for _ in range(6):
        clock.now += 2.0
        p.advance(torch.tensor(1.25), waited=0.5)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 13/10000  loss 1.2500, 4 rows/s, 25% waiting for data, ")
    assert line.endswith(", 3:24:51 left")  # 16 s for 13 steps


def test_waiting_for_data_is_pointed_out_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=1000, start=0, batch_size=8, shown=True)
    for step in range(60):
        clock.now += 1.0
        p.advance(torch.tensor(1.25) if step % 5 == 0 else None, waited=0.4)
    hints = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("step")]
    assert hints == [
        "waiting for data 40% of the time: raise data.workers, or data.cache_gb to keep decoded data in memory"
    ]


def test_loaders_that_start_are_not_data_that_are_slow(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=1000, start=0, batch_size=8, shown=True)
    for step in range(20):
        waited = 0.1 if step else 12.0
        clock.now += waited + 0.5
        p.advance(torch.tensor(1.25), waited)
    assert all(line.startswith("step") for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(("share", "seconds"), [(0.25, 1.0), (0.9, 0.1)])
def test_waiting_a_little_is_not(
    share: float, seconds: float, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    p = Progress(total=1000, start=0, batch_size=8, shown=True)
    for _ in range(100):
        clock.now += seconds
        p.advance(torch.tensor(1.25), waited=share * seconds)
    assert "raise data.workers" not in capsys.readouterr().err


def test_only_the_first_process_speaks(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    p = Progress(total=40, start=0, batch_size=8, shown=False)
    clock.now += 100
    p.advance(torch.tensor(1.0), waited=90.0)
    p.say("a warning")
    p.close()
    assert capsys.readouterr() == ("", "")


def test_a_bar_where_somebody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    p = Progress(total=4, start=2, batch_size=8, shown=True)
    p.advance(torch.tensor(0.5), waited=0.0)
    p.say("a warning")
    p.advance(None, waited=0.0)
    p.close()
    err = capsys.readouterr().err
    assert "loss 0.5000, " in err
    assert "rows/s" in err
    assert re.search(r"\r *\ra warning\n\r.*3/4 ", err)  # the bar makes room, and is drawn anew below
    assert "4/4" in err
