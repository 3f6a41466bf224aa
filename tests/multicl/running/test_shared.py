"""The first of several processes measures, and all embed for it: the figures of one process, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranked_shared import BAD, asked, breaks, keeps, model, shares, trained
from ranks import run_ranks

from multicl.distributed import World
from multicl.running import shared
from multicl.running.shared import measured


@pytest.mark.parametrize(("world", "round_size"), [(2, 4), (3, 2048)])
def test_all_ranks_embed_and_the_first_has_what_one_process_would_have(world: int, round_size: int) -> None:
    first, *others = run_ranks(shares, world, round_size)
    expected = asked(model())
    counts = [first.pop("embedded"), *(other.pop("embedded") for other in others)]
    assert others == [{}] * (world - 1)
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            found = torch.tensor(first[name]).reshape(value.shape)
            torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)
        else:
            assert first[name] == value, name
    assert list(first["why"]) == [BAD]
    assert first["skipped"][BAD] == [0.0] * 4
    assert first["bad cell"].startswith(f"a[{BAD}]: expected 6 numbers")
    for count in counts[1:]:
        assert count >= 4 * 44 // world - 16


def test_what_fails_on_any_rank_is_raised_on_the_first_and_the_others_go_on() -> None:
    first, other = run_ranks(breaks, 2)
    assert first[0] == "ValueError while 20 cells of 'b' were embedded: the roof fell in"
    assert first[1:] == ["division by zero", "{'x': 2.0}"]
    assert other == ["{}"] * 3


def test_a_model_that_is_kept_embeds_alone_afterwards() -> None:
    assert run_ranks(keeps, 2) == [[0.0], []]


def test_a_signal_is_not_lost_where_the_others_have_left_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that nothing more is asked for, they would answer with a broken connection."""

    def gone(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    def asked_to_stop(given: object) -> dict[str, float]:
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr(World, "as_first", lambda *_: None)
    monkeypatch.setattr(World, "deal", gone)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        measured(asked_to_stop, model(), World(0, 2))


def test_one_process_measures_as_it_is() -> None:
    m = model()
    assert measured(lambda given: {"same": float(given is m)}, m, World()) == {"same": 1.0}


def test_a_run_of_two_measures_on_the_way_and_agrees_on_the_best(tmp_path: Path) -> None:
    first, other = run_ranks(trained, 2, str(tmp_path / "run"))
    assert first["best"] == other["best"]
    assert set(first["last"]) == {"spread"}
    assert other["last"] == {}


def test_rounds_are_of_few_cells_where_these_are_great(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "BYTES", 100)
    cells = ["a" * 40, {"bytes": b"b" * 40, "path": None}, torch.zeros(5), b"c" * 300, 1.0, None, "", ""]
    rounds = list(shared._rounds(cells, 3))
    assert [begin for begin, _ in rounds] == [0, 3, 4, 7]
    assert [cell for _, some in rounds for cell in some] == cells
    assert list(shared._rounds([], 3)) == []
