from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
import torch
from toys import Vectors, rows

import multicl
from multicl import Head, InfoNCE, Pair, Train, Trainer
from multicl.data.rows import open_rows
from multicl.evaluation.own_views import MOST, of_model, of_raw, own_views
from multicl.types import Batch, InputError, Kind, Modality


class Noisy:
    """Numbers; a view adds noise of a seed's own."""

    column = tower = None
    files = False

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def load(self, raw: object, rng: object = None) -> float:
        if raw == "broken":
            raise multicl.BadSample("broken")
        return float(str(raw))

    def collate(self, samples: Sequence[float]) -> Batch:
        return Batch({"x": torch.tensor(samples)[:, None]})

    def view(self, batch: Batch, seeds: torch.Tensor, kind: Kind) -> Batch:
        assert kind == "strong"
        noise = torch.stack([torch.randn(1, generator=torch.Generator().manual_seed(int(s))) for s in seeds])
        return batch.replace(x=batch.get("x") + self.noise * noise)


def angle(node: str, batch: Batch) -> torch.Tensor:
    """Numbers as places on a circle, so that the cosine knows which are near."""
    x = batch.get("x") * 0.01
    return torch.cat((x.cos(), x.sin()), 1)


def test_views_find_each_other_the_less_the_more_they_differ() -> None:
    data = open_rows([{"x": i} for i in range(200)])
    found = {noise: own_views(angle, {"x": Noisy(noise)}, "x", data) for noise in (0.01, 1.0, 50.0)}
    recall = {noise: figures["x_view_recall@1"] for noise, figures in found.items()}
    assert recall[0.01] == 1
    assert 0.05 < recall[1.0] < 0.6
    assert recall[50.0] < 0.05
    assert found[1.0]["x_view_recall@10"] > recall[1.0]
    assert own_views(angle, {"x": Noisy(1.0)}, "x", data, batch_size=7) == found[1.0]  # nothing depends on the batch


def test_the_reference() -> None:
    data, noisy = open_rows([{"x": i} for i in range(30)]), Noisy(2.0)
    seen: list[torch.Tensor] = []

    def kept(node: str, batch: Batch) -> torch.Tensor:
        seen.append(batch.get("x"))
        return angle(node, batch)

    found = own_views(kept, {"x": noisy}, "x", data)
    first, second = seen
    hits = [int((first[i] - second).abs().argmin()) == i for i in range(30)]
    assert found["x_view_recall@1"] == pytest.approx(sum(hits) / 30)


def test_equal_content_is_right_and_what_cannot_be_read_is_left_out() -> None:
    cells = ["1", "1", "90", "90", "broken", None, "180", "180"]
    data = open_rows([{"x": cell} for cell in cells])
    found = own_views(angle, {"x": Noisy(1.0)}, "x", data)
    assert found["x_view_recall@1"] == 1
    with pytest.raises(InputError, match="fewer than two cells of 'x' can be read"):
        own_views(angle, {"x": Noisy(1.0)}, "x", open_rows([{"x": "1"}, {"x": "broken"}]))


def test_threads_decode_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    class Slow(Noisy):
        def load(self, raw: object, rng: object = None) -> float:
            time.sleep(0.001)
            names.append(threading.current_thread().name)
            return super().load(raw, rng)

    data = open_rows([{"x": cell} for cell in ["broken", None, *map(str, range(60)), "broken"]])
    found = {}
    for count in (1, 3):
        monkeypatch.setattr("multicl.data.ahead.cores", lambda count=count: count)
        names.clear()
        found[count] = own_views(angle, {"x": Slow(1.0)}, "x", data)
        assert len(set(names)) == (1 if count == 1 else 4)
    assert found[1] == found[3] == own_views(angle, {"x": Noisy(1.0)}, "x", data)


def test_only_the_first_rows_are_looked_at() -> None:
    data = open_rows([{"x": i % 600} for i in range(MOST + 50)])
    count = 0

    def counted(node: str, batch: Batch) -> torch.Tensor:
        nonlocal count
        count += len(batch)
        return angle(node, batch)

    own_views(counted, {"x": Noisy(0.1)}, "x", data)
    assert count == 2 * MOST


def test_of_a_model_and_of_the_views_themselves() -> None:
    nodes: dict[str, Modality] = {"a": Vectors(width=4)}
    trainer = Trainer(
        nodes, [Pair("a", "a", InfoNCE(0.5))], rows(20), head=Head(dim=3, layers=1), train=Train(batch_size=8)
    )
    model, data = trainer.model, open_rows(rows(20))
    assert set(own_views(of_model(model), nodes, "a", data)) == {"a_view_recall@1", "a_view_recall@10"}
    raw = own_views(of_raw(), nodes, "a", data)
    assert 0 <= raw["a_view_recall@1"] <= 1
    batch = nodes["a"].collate([nodes["a"].load(data.row(i)["a"], None) for i in range(3)])
    shown = nodes["a"].view(batch, None, "weak")
    torch.testing.assert_close(
        torch.nn.functional.normalize(model.embed_batch("a", shown), dim=1),
        model.embed_node("a", [data.row(i)["a"] for i in range(3)]),
    )
