"""Hard negatives from all rows: which they are, how batches bring them, and that a resumed run has the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from toys import Vectors, rows
from watched import Watched

import multicl
from multicl import CoSENT, Data, Head, InfoNCE, InputError, Mine, Optim, Pair, Sigmoid, Train, Trainer
from multicl.training.mining import Miner, highest, mean_similarity, near_negatives


def trainer(terms: list[Pair], data: Any = None, **options: Any) -> Trainer:
    options.setdefault("train", Train(batch_size=16, steps=8, lr=1e-2, checkpoint_every=3, log_every=1))
    modalities = {"a": Vectors(dropout=0.1), "b": Vectors(width=5)}
    if all(pair.symmetric for pair in terms):
        del modalities["b"]
    return Trainer(modalities, terms, rows(40) if data is None else data, **options)


def mined_pair(mine: Mine, **options: Any) -> Pair:
    return Pair("a", "b", options.pop("objective", InfoNCE(0.3)), mine=mine, **options)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows in several blocks and tiles."""
    monkeypatch.setattr("multicl.training.mining.BLOCK", 7)
    monkeypatch.setattr("multicl.ops.nearest.tile_size", lambda device: 4)


def slow(similarity: Tensor, ids: Tensor, there: Tensor, limit: Tensor, mine: Mine) -> list[list[int]]:
    """Candidates of each row after what is left out, nearest first, a pair at a time."""
    found = []
    for i, line in enumerate(similarity.tolist()):
        order = sorted(range(len(line)), key=lambda j, line=line: -line[j])  # type: ignore[misc]
        kept = [j for j in order if ids[i] != ids[j] and there[j] and line[j] <= limit[i]]
        found.append(kept[mine.skip :])
    return found


@pytest.mark.parametrize("mine", [Mine(negatives=3), Mine(negatives=2, skip=2), Mine(negatives=12)])
def test_the_nearest_of_other_ids_within_the_limit(mine: Mine) -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(11, 3, generator=g), torch.randn(11, 3, generator=g)
    ids, there = torch.arange(11) % 4, torch.arange(11) != 5
    limit = torch.linspace(-1, 3, 11)
    found = near_negatives(x, ids, limit, y, ids, there, mine, torch.Generator())
    assert found.shape == (11, mine.negatives)
    wanted = slow(x @ y.T, ids, there, limit, mine)
    assert [[j for j in line if j >= 0] for line in found.tolist()] == [w[: mine.negatives] for w in wanted]
    assert (found == -1).any()
    assert (found >= 0).any()


def test_negatives_drawn_from_the_nearest() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(9, 3, generator=g)
    ids, mine = torch.arange(9), Mine(negatives=2, skip=1, among=4)
    free = torch.full((9,), torch.inf)
    wanted = slow(x @ x.T, ids, ids >= 0, free, mine)
    seen: list[set[int]] = [set() for _ in wanted]
    for seed in range(40):
        found = near_negatives(x, ids, free, x, ids, ids >= 0, mine, torch.Generator().manual_seed(seed))
        for line, of_row, right in zip(found.tolist(), seen, wanted, strict=True):
            assert len(set(line)) == 2
            assert set(line) <= set(right[:4])
            of_row.update(line)
    assert [s == set(w[:4]) for s, w in zip(seen, wanted, strict=True)] == [True] * 9
    few = near_negatives(x, ids, (x @ x.T).amax(1) - 1e9, x, ids, ids >= 0, mine, torch.Generator())
    assert (few == -1).all()


def test_limits_by_the_positives_similarity() -> None:
    positive = torch.tensor([0.8, -0.4])
    assert highest(Mine(), positive).tolist() == [torch.inf] * 2
    torch.testing.assert_close(highest(Mine(absolute_margin=0.1), positive), torch.tensor([0.7, -0.5]))
    torch.testing.assert_close(highest(Mine(relative_margin=0.05), positive), torch.tensor([0.76, -0.42]))
    both = Mine(absolute_margin=0.0, relative_margin=0.05, max_similarity=0.5)
    torch.testing.assert_close(highest(both, positive), torch.tensor([0.5, -0.42]))


def test_the_mean_similarity_of_negatives_takes_no_matrix_of_all_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.ops.hardest.PAIRS", 16)
    g = torch.Generator().manual_seed(0)
    za, zb = torch.randn(20, 8, generator=g), torch.randn(20, 8, generator=g)
    table = torch.randint(-1, 20, (20, 6), generator=g)
    each = [float(za[i] @ zb[j]) for i, line in enumerate(table.tolist()) for j in line if j >= 0]
    with Watched() as watch:
        assert float(mean_similarity(za, zb, table)) == pytest.approx(sum(each) / len(each), rel=1e-5)
    assert watch.elements < 20 * 6 * 8 / 4
    assert mean_similarity(za, zb, torch.full((20, 6), -1)) == 0


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_table_is_that_of_a_search_by_hand(similarity: Any) -> None:
    data = rows(25)
    data[2]["b"], data[9]["a"], data[4]["b"] = None, None, [1.0]  # absent, absent, not to be read
    mine = Mine(negatives=3, relative_margin=0.1)
    t = trainer([mined_pair(mine, objective=InfoNCE(0.3, similarity=similarity), ids="label")], data)
    t.miner.refresh(0)
    table = t.miner.tables["a-b"]
    good_a = [i for i in range(25) if i != 9]
    good_b = [i for i in range(25) if i not in (2, 4)]
    a, b = torch.zeros(25, 128), torch.zeros(25, 128)
    a[good_a] = t.model.embed(a=[data[i]["a"] for i in good_a], normalize=similarity == "cosine")
    b[good_b] = t.model.embed(b=[data[i]["b"] for i in good_b], normalize=similarity == "cosine")
    there = torch.isin(torch.arange(25), torch.tensor(good_b))
    logits = a @ b.T
    limit = logits.diagonal() - 0.1 * logits.diagonal().abs()
    wanted = slow(logits, torch.arange(25) % 5, there, limit, mine)
    for i in range(25):
        both = i in good_a and i in good_b
        assert [j for j in table[i].tolist() if j >= 0] == (wanted[i][:3] if both else []), i
    assert (table >= 0).any()
    assert t.towers.training


def test_a_batch_brings_the_rows_that_the_table_names() -> None:
    t = trainer([mined_pair(Mine(negatives=2), ids="label"), Pair("a", "a")])
    part = t.reader.slice([5, 30, 7], 0)
    assert t.miner.bring(part) is part  # nothing was searched yet
    table = torch.full((40, 2), -1)
    table[5], table[7] = torch.tensor([7, 21]), torch.tensor([21, -1])
    t.miner.tables["a-b"] = table
    brought = t.miner.bring(part)
    batch = brought.mined["a-b"]
    assert batch is not None
    assert batch.row.tolist() == [7, 21, 21]
    torch.testing.assert_close(batch.get("x"), torch.tensor([rows(40)[i]["b"] for i in (7, 21, 21)]))
    pairs = t.towers.pairs
    for pair in pairs:
        ids = torch.from_numpy(t.reader.ids[pair.name])
        asked = torch.tensor([21, 30, 7])
        assert torch.equal(brought.ids_of(pair, asked), ids[asked])
    assert brought.batches is part.batches


def test_beside_them_rows_keep_the_scores_of_another_pair() -> None:
    """A mined row may be one of the batch, too, which has its score once."""
    data: list[dict[str, Any]] = [{**row, "score": i / 40} for i, row in enumerate(rows(40))]
    graded = Pair("a", "b", CoSENT(), target="score", name="graded")
    made = trainer([mined_pair(Mine(negatives=5)), graded], data)
    made.miner.refresh(0)
    part = made.miner.bring(made.reader.slice(list(range(30, 10, -1)), 0))
    assert set(part.row[20:].tolist()) & set(range(11, 31))
    asked = torch.tensor([12, 30, 21])
    torch.testing.assert_close(part.scores_of(graded, asked), asked / 40)
    made.fit()


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_loss_of_a_step_has_them_as_keys_of_every_row_but_their_own(chunk: int | None, tmp_path: Path) -> None:
    data = rows(24)
    modalities = {"a": Vectors(noise=0.0), "b": Vectors(width=5, noise=0.0)}
    terms = [Pair("a", "b", InfoNCE(0.3), mine=Mine(negatives=2))]
    train = Train(batch_size=8, steps=1, chunk_size=chunk, lr=1e-9)
    t = Trainer(modalities, terms, data, train=train, optim=Optim(name="sgd"), run=tmp_path / "run")
    row = t.reader.slice(t._slices(0).__next__().row.tolist(), 0).row
    before = t.model
    a, b = before.embed(a=[r["a"] for r in data]), before.embed(b=[r["b"] for r in data])
    nearest = (a @ b.T).masked_fill(torch.eye(24, dtype=torch.bool), -9).topk(2, dim=1).indices
    extra = nearest[row].flatten()
    own = row[:, None] == extra
    forth = torch.cat([a[row] @ b[row].T, (a[row] @ b[extra].T).masked_fill(own, -torch.inf)], 1) / 0.3
    back = b[row] @ a[row].T / 0.3
    wanted = (cross_entropy(forth, torch.arange(8)) + cross_entropy(back, torch.arange(8))) / 2
    t.fit()
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_every_so_many_steps_from_the_first_on(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = Miner._search
    monkeypatch.setattr(Miner, "_search", lambda self, *given: searched.append(given[-1]) or search(self, *given))
    trainer([mined_pair(Mine(every=3, start=2)), Pair("a", "a", mine=Mine(every=100))]).fit()
    assert searched == [0, 2, 5]


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("cache", [True, False])
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one_and_searches_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int | None, cache: bool
) -> None:
    searched: list[int] = []
    search = Miner._search
    monkeypatch.setattr(Miner, "_search", lambda self, *given: searched.append(given[-1]) or search(self, *given))
    terms = [mined_pair(Mine(negatives=2, every=2, start=1, among=5)), Pair("a", "a", mine=Mine(every=5))]
    train = Train(batch_size=16, steps=8, lr=1e-2, checkpoint_every=3, log_every=1, chunk_size=chunk)
    options: dict[str, Any] = {"train": train, "head": Head(norm="batch")}
    whole = trainer(terms, run=tmp_path / "whole", **options).fit()
    assert searched == [0, 1, 3, 5, 5, 7]
    broken = trainer(terms, run=tmp_path / "broken", **options)
    step, calls = broken._step, []

    def dies(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:  # at step 5, after the search before it; the checkpoint is of step 3
            raise KeyboardInterrupt
        return step(*args)

    broken._step = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    searched.clear()
    if not cache:
        for path in (tmp_path / "broken" / "mined").iterdir():
            path.unlink()
    resumed = trainer(terms, run=tmp_path / "broken", resume=True, **options).fit()
    assert searched == ([7] if cache else [3, 5, 5, 7])  # the table of step 0 is in the checkpoint
    for (key, p), q in zip(whole.towers.state_dict().items(), resumed.towers.state_dict().values(), strict=True):
        assert torch.equal(p, q), key


def test_the_folder_keeps_the_last_tables_and_a_damaged_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multicl.training.mining.KEPT", 2)
    terms = [mined_pair(Mine())]
    t = trainer(terms, run=tmp_path / "run")
    names = []
    for number in range(3):
        with torch.no_grad():
            t.towers.encoders["a"].net[0].bias.fill_(float(number))  # type: ignore[union-attr,index]
        t.miner.refresh(0)
        names.append({path.name for path in (tmp_path / "run" / "mined").iterdir()})
    assert [len(n) for n in names] == [1, 2, 2]
    assert not names[0] & names[2]
    table = t.miner.tables["a-b"].clone()
    for path in (tmp_path / "run" / "mined").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    t.miner.refresh(0)
    assert torch.equal(t.miner.tables["a-b"], table)


def test_a_checkpoint_of_another_number_of_negatives_is_refused(tmp_path: Path) -> None:
    trainer([mined_pair(Mine())], run=tmp_path / "run").fit()
    with pytest.raises(InputError, match=r"mined negatives of pair 'a-b' are \[40, 1\], but this run needs \[40, 2\]"):
        trainer([mined_pair(Mine(negatives=2))], run=tmp_path / "run", resume=True).fit()


def test_a_stream_is_refused() -> None:
    data = type("Stream", (), {"__iter__": lambda self: iter(rows(40))})()
    with pytest.raises(InputError, match="pair 'a-b': mine= searches all rows, and a stream cannot be searched"):
        trainer([mined_pair(Mine())], data)


def test_an_objective_that_takes_no_more_keys_says_so() -> None:
    with pytest.raises(InputError, match="Sigmoid takes no queue and no explicit negatives"):
        trainer([mined_pair(Mine(), objective=Sigmoid())]).fit()


def test_a_saved_model_remembers_the_setting(tmp_path: Path) -> None:
    pair = mined_pair(Mine(negatives=3, among=9))
    trainer([pair], run=tmp_path / "run", train=Train(batch_size=16, steps=1)).fit()
    assert multicl.load(tmp_path / "run").towers.terms == [pair]


def test_mining_teaches_rows_to_find_theirs_among_many_that_are_alike() -> None:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(8, 6, generator=g).repeat_interleave(16, 0) + 0.15 * torch.randn(128, 6, generator=g)
    data = [{"a": z.tolist(), "b": (z.flip(0) * 2).tolist()} for z in hidden]  # 8 crowds of 16 rows that are alike
    found = []
    for mine in (None, Mine(negatives=2, every=10, start=200)):
        train = Train(batch_size=16, steps=400, lr=3e-3)
        modalities = {node: Vectors(noise=0.0, width=32) for node in "ab"}
        terms = [Pair("a", "b", InfoNCE(0.05), mine=mine)]
        model = Trainer(modalities, terms, data, train=train).fit()
        a, b = model.embed(a=[r["a"] for r in data]), model.embed(b=[r["b"] for r in data])
        found.append(((a @ b.T).argmax(1) == torch.arange(128)).float().mean().item())
    assert found[1] > found[0] + 0.03, found  # measured 0.84 and 0.90


def test_settings_that_cannot_work() -> None:
    for wrong, words in (
        ({"negatives": 0}, "mine.negatives must be 1 or more, got 0"),
        ({"every": 0}, "mine.every must be 1 or more, got 0"),
        ({"start": -1}, "mine.start must be 0 or more, got -1"),
        ({"skip": -1}, "mine.skip must be 0 or more, got -1"),
        ({"absolute_margin": -0.1}, "mine.absolute_margin must be 0 or more, got -0.1"),
        ({"negatives": 3, "among": 2}, r"mine.among must be negatives \(3\) or more, got 2"),
    ):
        with pytest.raises(InputError, match=words):
            Mine(**wrong)  # type: ignore[arg-type]


def test_images_and_texts_are_mined_by_the_paths_of_their_table(tmp_path: Path) -> None:
    import media

    from multicl.modalities.image import Image
    from multicl.modalities.text import Text

    table = [{"text": r["text"], "image": f"{i}.png"} for i, r in enumerate(media.rows(20))]
    for i, r in enumerate(media.rows(20)):
        (tmp_path / f"{i}.png").write_bytes(r["image"])
    media.write(tmp_path / "train.parquet", table)
    modalities = {"image": Image("small", size=16), "text": Text("words", width=16)}
    terms = [Pair("text", "image", mine=Mine())]
    train = Train(batch_size=10, steps=2)
    t = Trainer(modalities, terms, Data(path=str(tmp_path / "train.parquet")), train=train)
    t.fit()
    assert (t.miner.tables["text-image"] >= 0).all()
