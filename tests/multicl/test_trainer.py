from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from toys import Vectors, rows

import multicl
from multicl import Data, Head, InfoNCE, InputError, Optim, Pair, Train, Trainer
from multicl.distributed import World
from multicl.training.norms import refuse_synced


def trainer(data: Any = None, terms: list[Pair] | None = None, **options: Any) -> Trainer:
    options.setdefault("train", Train(batch_size=16, steps=8, lr=1e-2, checkpoint_every=3, log_every=1))
    modalities = {"a": Vectors(dropout=0.1), "b": Vectors(width=5)}
    return Trainer(modalities, terms or [Pair("a", "b"), Pair("a", "a")], rows(64) if data is None else data, **options)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def break_at(number: int, t: Trainer) -> None:
    """Train until the step of that number, which does not end."""
    step, calls = t._step, []

    def dies(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return step(*args)

    t._step = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        t.fit()


def retrieval(model: multicl.Model, data: list[dict[str, Any]]) -> float:
    a, b = model.embed(a=[r["a"] for r in data]), model.embed(b=[r["b"] for r in data])
    return ((a @ b.T).argmax(1) == torch.arange(len(data))).float().mean().item()


def test_training_teaches_unseen_rows_to_find_each_other() -> None:
    data, held_out = rows(512, seed=0), rows(64, seed=1)
    t = trainer(data, train=Train(batch_size=64, steps=150, lr=1e-2))
    before = retrieval(t.model, held_out)
    after = retrieval(t.fit(), held_out)
    assert before < 0.2
    assert after > 0.6


def test_metrics_have_a_row_a_step_at_full_precision(tmp_path: Path) -> None:
    trainer(run=tmp_path / "run").fit()
    found = metrics(tmp_path / "run")
    assert [row["step"] for row in found] == list(range(1, 9))
    assert all({"loss", "lr", "grad_norm", "a-b/temperature", "rows_per_second"} <= row.keys() for row in found)
    parts = [row["a-b/loss"] + row["a-a/loss"] for row in found]
    assert [row["loss"] for row in found] == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "chunk"), [("adamw", None), ("sgd", None), ("lars", None), ("adamw", 3), ("adamw", "auto")]
)
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(
    tmp_path: Path, name: str, chunk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multicl.training.chunk_size.free_memory", lambda: 15_000)
    train = Train(batch_size=16, steps=8, lr=1e-2, checkpoint_every=3, log_every=1, chunk_size=chunk)
    options: dict[str, Any] = {"optim": Optim(name=name), "head": Head(norm="batch"), "train": train}  # type: ignore[arg-type]
    whole = trainer(run=tmp_path / "whole", **options).fit()
    break_at(6, trainer(run=tmp_path / "broken", **options))
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a row that the kill cut short
    monkeypatch.setattr("multicl.training.chunk_size.free_memory", lambda: 1e9)  # what "auto" found then is kept
    resumed = trainer(run=tmp_path / "broken", resume=True, **options).fit()
    for (key, p), q in zip(whole.towers.state_dict().items(), resumed.towers.state_dict().values(), strict=True):
        assert torch.equal(p, q), key
    if chunk == "auto":
        state = json.loads((tmp_path / "broken" / "checkpoints" / "step-8" / "state.json").read_text())
        assert state["chunk_size"] < 16
    losses = [[row["loss"] for row in metrics(tmp_path / run)] for run in ("whole", "broken")]
    assert losses[0] == losses[1]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
@pytest.mark.parametrize("chunk", [None, 24])
def test_a_gpu_trains_breaks_off_and_goes_on(tmp_path: Path, precision: Any, chunk: int | None) -> None:
    data, held_out = rows(512, seed=0), rows(64, seed=1)
    train = Train(
        batch_size=64, steps=150, lr=1e-2, checkpoint_every=40, mixed_precision=precision, chunk_size=chunk
    )  # fmt: skip
    terms = [Pair("a", "b"), Pair("a", "a", keys="momentum", queue=256)]
    break_at(100, trainer(data, terms, train=train, run=tmp_path / "run"))
    t = trainer(data, terms, train=train, run=tmp_path / "run", resume=True)
    model = t.fit()
    assert t.towers.device.type == "cuda"
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, *range(10, 151, 10)]
    assert retrieval(model, held_out) > 0.6


def test_chunks_train_to_the_weights_of_the_whole_batch() -> None:
    weights = []
    for chunk in (None, 16, 5):
        modalities = {"a": Vectors(), "b": Vectors(width=5)}
        train = Train(batch_size=16, steps=6, lr=1e-2, chunk_size=chunk)
        optim = Optim(name="sgd", clip=0.1)
        t = Trainer(
            modalities, [Pair("a", "b", InfoNCE(learnable=True)), Pair("a", "a")], rows(64), train=train, optim=optim
        )
        t.fit()
        weights.append(t.towers.state_dict())
    for other in weights[1:]:
        for name, p in weights[0].items():
            torch.testing.assert_close(other[name], p, rtol=1e-4, atol=1e-6, msg=name)


def test_the_chunk_size_that_was_found_is_in_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(run=tmp_path / "run", train=Train(batch_size=16, steps=2, chunk_size="auto")).fit()
    assert "chunk size: 16 of the 16 rows of each process fit into memory" in capsys.readouterr().out
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-2" / "state.json").read_text())
    assert state["chunk_size"] == 16


def test_out_of_memory_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for chunk, smaller in ((None, 8), (12, 6), (1, 1)):
        t = trainer(train=Train(batch_size=16, steps=2, chunk_size=chunk))
        t.towers.encoders["b"].register_forward_hook(full)
        with pytest.raises(InputError, match=f"out of memory at step 1: give --train.chunk-size {smaller} or less"):
            t.fit()


def test_sync_batch_norm_in_chunks_is_refused_on_several_ranks() -> None:
    t = trainer(head=Head(norm="batch"))
    towers = torch.nn.SyncBatchNorm.convert_sync_batchnorm(t.towers)
    refuse_synced(towers, World())
    with pytest.raises(InputError, match="SyncBatchNorm cannot be computed in chunks on several processes"):
        refuse_synced(towers, World(1, 2))


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_sharded_towers_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(InputError, match=f"the launcher asks for {name}; multicl trains on one process or with plain"):
        trainer()


def test_a_launchers_gradient_accumulation_divides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, steps in (("without", "1"), ("with", "4")):
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", steps)
        trainer(run=tmp_path / name).fit()
    norms = [[row["grad_norm"] for row in metrics(tmp_path / name)] for name in ("without", "with")]
    assert norms[0] == norms[1]


def test_resuming_a_folder_without_checkpoint_starts_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    trainer(run=run, resume=True).fit()
    assert [row["step"] for row in metrics(run)] == list(range(1, 9))
    assert metrics(run)[0]["loss"] != 9


def test_data_that_have_changed_are_told_when_a_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count, said in ((64, ""), (48, "the data have 48 rows now, not 64 as before: their order changes")):
        options = {"train": Train(batch_size=16, steps=4 if count == 64 else 6, lr=1e-2)}
        trainer(rows(count), run=tmp_path / "run", resume=count != 64, **options).fit()
        assert said in capsys.readouterr().out


def test_a_run_folder_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match=re.escape(f"the run folder {tmp_path} exists")):
        trainer(run=tmp_path)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(InputError, match=r"the batch \(65\) is larger than the data \(64 rows"):
        trainer(train=Train(batch_size=65))


def test_cells_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows(64)
    data[3]["a"] = [1.0]
    data[9]["b"] = "three"
    t = trainer(data, run=tmp_path / "run")
    t.fit()
    assert sorted((s.row, s.column) for s in t.skipped) == [(3, "a"), (9, "b")]
    assert "row 3, column 'a': expected 6 numbers" in capsys.readouterr().out
    named = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {row["row"] for row in named} == {3, 9}


def test_or_stop_the_run_with_their_row() -> None:
    data = rows(16)
    data[3]["a"] = [1.0]
    t = trainer(data, train=Train(batch_size=16, steps=1))
    t.settings = Data(on_error="raise")
    with pytest.raises(InputError, match="row 3, column 'a': expected 6 numbers"):
        t.fit()


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    data = rows(16)
    data[0]["a"] = [float("nan")] * 6
    with pytest.raises(InputError, match="the loss is nan at step 1"):
        trainer(data, train=Train(batch_size=16, steps=2)).fit()


def test_where_no_scaler_is_at_work_accelerates_optimiser_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AcceleratedOptimizer, "step", None)  # which looks for a package on the disk, at each step
    t = trainer()
    before = [p.detach().clone() for p in t.towers.parameters()]
    t.fit()
    assert any(not torch.equal(p, old) for p, old in zip(t.towers.parameters(), before, strict=True))
    assert all(p.grad is None for p in t.towers.parameters())


def test_the_gradient_is_clipped_and_its_norm_before_is_told(tmp_path: Path) -> None:
    t, seen = trainer(run=tmp_path / "run", optim=Optim(clip=0.01)), list[float]()
    move = t._move

    def look(*given: Any) -> None:
        seen.append(
            sum(float((p.grad.double() ** 2).sum()) for p in t.towers.parameters() if p.grad is not None) ** 0.5
        )
        move(*given)

    t._move = look  # type: ignore[method-assign]
    t.fit()
    assert seen == pytest.approx([0.01] * 8, rel=1e-3)
    assert all(row["grad_norm"] > 0.1 for row in metrics(tmp_path / "run") if "grad_norm" in row)


def test_unseen_settings_that_cannot_work() -> None:
    for wrong, words in (
        ({"batch_size": 0}, "train.batch_size must be 1 or more, got 0"),
        ({"chunk_size": 0}, "train.chunk_size must be 1 or more, auto or none, got 0"),
        ({"epochs": 0}, "train.epochs must be above 0"),
        ({"lr": 0.0}, "train.lr must be above 0"),
        ({"steps": -1}, "train.steps must be above 0"),
    ):
        with pytest.raises(InputError, match=words):
            Train(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("train", {"steps": 3}, "Train"),
        ("optim", "adamw", "Optim"),
        ("momentum", 0.99, "Momentum"),
        ("head", 64, "Head"),
    ],
)
def test_settings_of_another_kind_are_refused(name: str, given: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} must be {wanted}\(...\), got {re.escape(repr(given))}$"):
        trainer(**{name: given})


def test_what_measures_and_would_never_be_called_is_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate= is never called, as train.evaluate_every is 0"):
        trainer(evaluate=lambda model: {"score": 1.0})


def test_epochs_count_whole_batches() -> None:
    assert trainer(train=Train(batch_size=20, epochs=2)).total == 6  # 64 rows: 3 batches an epoch
    assert trainer(train=Train(batch_size=64)).total == 10
    assert trainer(train=Train(batch_size=64, epochs=3, steps=2)).total == 2  # steps win


def test_a_frozen_norm_in_evaluation_keeps_its_statistics() -> None:
    t = trainer()
    encoder = t.towers.encoders["a"]
    encoder.norm, encoder.other = torch.nn.BatchNorm1d(8), torch.nn.BatchNorm1d(8)
    forward = encoder.forward
    encoder.forward = lambda batch: encoder.other(encoder.norm(forward(batch)))
    encoder.norm.requires_grad_(False).eval()
    t.fit()
    assert encoder.norm.running_mean.eq(0).all()
    assert encoder.norm.num_batches_tracked == 0
    assert encoder.other.num_batches_tracked > 0


def test_a_frozen_tower_keeps_its_weights_and_its_dropout_is_off() -> None:
    t = trainer(optim=Optim(tower_lr={"a": 0.0}))
    before = {name: p.detach().clone() for name, p in t.towers.encoders["a"].named_parameters()}
    modes: list[dict[str, bool]] = []
    t.towers.register_forward_hook(lambda *_: modes.append({k: e.training for k, e in t.towers.encoders.items()}))
    t.fit()
    assert modes == [{"a": False, "b": True}] * t.total
    for name, p in t.towers.encoders["a"].named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.parametrize("chunk", [None, 4])
def test_what_is_unfrozen_meanwhile_is_named_once_and_frozen_again(
    capsys: pytest.CaptureFixture[str], chunk: int | None
) -> None:
    train = Train(batch_size=16, steps=8, lr=1e-2, evaluate_every=2, chunk_size=chunk)

    def look(model: multicl.Model) -> None:
        if not seen:
            model.towers.encoders["a"].requires_grad_(True)
        seen.append([p.requires_grad for p in model.towers.encoders["a"].parameters()])

    seen: list[list[bool]] = []
    t = trainer(train=train, optim=Optim(tower_lr={"a": 0.0}), evaluate=look)
    before = [p.detach().clone() for p in t.towers.encoders["a"].parameters()]
    t.fit()
    told = (
        "encoders.a.net.0.weight and 1 more: unfrozen after training began, so not in the optimiser; it is frozen again"
    )
    assert capsys.readouterr().out.count(told) == 1
    assert seen == [[True, True], *[[False, False]] * 3]
    for p, was in zip(t.towers.encoders["a"].parameters(), before, strict=True):
        assert torch.equal(p, was)
        assert p.grad is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 1}, "was trained with train.seed 0, not 1"),
        ({"batch_size": 8}, "was trained with train.batch_size 16, not 8"),
        ({"steps": 2}, "is beyond the 2 steps asked for"),
    ],
)
def test_what_would_change_the_order_of_rows_is_refused_on_resume(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    train = Train(batch_size=16, steps=3, log_every=1)
    trainer(run=tmp_path / "run", train=train).fit()
    with pytest.raises(InputError, match=words):
        trainer(run=tmp_path / "run", train=dataclasses.replace(train, **changed), resume=True).fit()


def test_bf16_trains_and_losses_stay_float32(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run=run, train=Train(batch_size=16, steps=4, mixed_precision="bf16", log_every=1)).fit()
    exact = tmp_path / "exact"
    trainer(run=exact, train=Train(batch_size=16, steps=4, mixed_precision="no", log_every=1)).fit()
    for a, b in zip(metrics(run), metrics(exact), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-2)
    assert metrics(run)[0]["loss"] != metrics(exact)[0]["loss"]


def test_repeated_contents_are_counted_and_never_negatives(capsys: pytest.CaptureFixture[str]) -> None:
    data = [{"a": r["a"], "b": r["b"], "caption": f"caption {i // 2}"} for i, r in enumerate(rows(16))]
    terms = [Pair("a", "b", InfoNCE(), ids="caption")]
    t = trainer(data, terms, train=Train(batch_size=16, steps=1))
    ids = t.reader.ids["a-b"]
    assert (ids[0::2] == ids[1::2]).all()
    assert len(set(ids.tolist())) == 8
