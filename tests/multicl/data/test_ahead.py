from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import torch

from multicl.data.ahead import ahead, cores


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.data.ahead.cores", lambda: 4)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def slow(item: int) -> tuple[int, str]:
    time.sleep(0.001 * (1 + item % 3))
    return item, threading.current_thread().name


def test_slow_work_is_done_by_threads_in_order() -> None:
    found = list(ahead(slow, iter(range(60)), most=10))
    assert [item for item, _ in found] == list(range(60))
    assert len({name for _, name in found if name.startswith("ahead")}) == 4
    assert threads() == []


@pytest.mark.parametrize("why", ["quick", "one core", "few"])
def test_work_that_threads_would_not_help_is_done_in_place(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "one core":
        monkeypatch.setattr("multicl.data.ahead.cores", lambda: 1)
    if why == "quick":
        monkeypatch.setattr("multicl.data.ahead.SLOW", 1.0)
    found = list(ahead(slow, range(7 if why == "few" else 20), most=10))
    assert {name for _, name in found} == {threading.current_thread().name}


def test_no_more_is_done_ahead_than_asked_for_and_nothing_after_the_end() -> None:
    begun: list[int] = []

    def noted(item: int) -> int:
        begun.append(item)
        return slow(item)[0]

    with closing(ahead(noted, range(1000), most=10)) as found:
        for want in range(30):
            assert next(found) == want
            time.sleep(0.005)
            assert len(begun) <= want + 1 + 10
        assert len(begun) == 40  # as much as is allowed
        assert len(threads()) == 4
    assert threads() == []
    assert len(begun) == 40


@pytest.mark.parametrize("at", [3, 20])
def test_an_error_comes_in_its_turn_and_ends_the_threads(at: int) -> None:
    def breaks(item: int) -> int:
        if item == at:
            raise ZeroDivisionError(item)
        return slow(item)[0]

    parts = ahead(breaks, range(99), most=10)
    assert [next(parts) for _ in range(at)] == list(range(at))
    with pytest.raises(ZeroDivisionError):
        next(parts)
    assert threads() == []


@pytest.mark.parametrize("mode", [True, False])
def test_gradients_are_on_where_they_are_for_the_caller(mode: bool) -> None:
    def graded(item: int) -> bool:
        slow(item)
        return torch.is_grad_enabled()

    with torch.set_grad_enabled(mode):
        assert set(ahead(graded, range(30), most=10)) == {mode}


def test_ranks_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    found = []
    for ranks in ("1", "4", "8"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        found.append(cores())
    assert found == [6, 1, 1]
