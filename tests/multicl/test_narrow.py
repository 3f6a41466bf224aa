from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Vectors, rows

from multicl import Head, InputError, Optim, Pair, Train, Trainer, load
from multicl.narrow import as_wide_as

DATA = rows(64)
CELLS = [row["a"] for row in DATA]


def trainer(run: Path | None = None, resume: bool = False, **train: Any) -> Trainer:
    options: dict[str, Any] = {"batch_size": 16, "steps": 6, "lr": 1e-2, "checkpoint_every": 4, **train}
    return Trainer(
        {"a": Vectors(), "b": Vectors(width=5)},
        [Pair("a", "b"), Pair("a", "a")],
        DATA,
        train=Train(**options),
        optim=Optim(tower_lr={"a": 0.0}),
        head=Head(dim=4),
        run=run,
        resume=resume,
    )


def frozen(dtype: torch.dtype, *args: Any, **options: Any) -> Trainer:
    """Its frozen encoder is of this type."""
    t = trainer(*args, **options)
    t.towers.encoders["a"].to(dtype)
    return t


def nearest(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.dtype == other.dtype == torch.float32
    assert 0 < (one - other).abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("part", ["encoders.b", "heads.a/joint", ""])
def test_parameters_of_16_bits_do_not_train(dtype: torch.dtype, part: str) -> None:
    """AdamW's steps of 1e-3 of a weight are below half of bfloat16's last bit, 1/256 of it: nothing would move."""
    t = trainer()
    t.towers.get_submodule(part).to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        InputError, match=rf"^{part or 'encoders.b'}.*weight is {name}, .* call \.float\(\) .* or freeze"
    ):
        t.fit()


@pytest.mark.parametrize("options", [{}, {"chunk_size": 5}, {"mixed_precision": "bf16"}])
def test_a_frozen_encoder_of_16_bits_gives_its_heads_what_they_take(options: dict[str, Any]) -> None:
    t = frozen(torch.bfloat16, **options)
    before = {name: p.clone() for name, p in t.towers.encoders["a"].named_parameters()}
    narrow, wide = t.fit(), frozen(torch.float32, **options).fit()
    for name, p in narrow.towers.encoders["a"].named_parameters():
        assert p.dtype == torch.bfloat16
        assert torch.equal(p, before[name])
    assert narrow.towers.heads["a/joint"][0].weight.dtype == torch.float32
    nearest(narrow.embed(a=CELLS, normalize=False), wide.embed(a=CELLS, normalize=False))


def test_it_is_resumed_saved_and_loaded_as_it_was(tmp_path: Path) -> None:
    whole = frozen(torch.bfloat16, tmp_path / "whole").fit()
    frozen(torch.bfloat16, tmp_path / "broken", steps=4).fit()
    resumed = frozen(torch.bfloat16, tmp_path / "broken", resume=True).fit()
    assert resumed.towers.encoders["a"].net[0].weight.dtype == torch.bfloat16  # type: ignore[union-attr,index]
    again = load(tmp_path / "whole")
    assert {p.dtype for p in again.towers.encoders["a"].parameters()} == {torch.bfloat16}
    assert {p.dtype for p in again.towers.heads.parameters()} == {torch.float32}
    for space in ("joint", None):
        assert torch.equal(again.embed(a=CELLS, space=space), whole.embed(a=CELLS, space=space))


@pytest.mark.parametrize("part", ["", "encoders", "heads"])
def test_a_model_that_was_made_narrow_embeds(tmp_path: Path, part: str) -> None:
    model = trainer().model
    before = model.embed(a=CELLS)
    model.towers.get_submodule(part).bfloat16()
    nearest(model.embed(a=CELLS), before)
    again = load(model.save(tmp_path / "model"))
    assert torch.equal(again.embed(a=CELLS), model.embed(a=CELLS))


@pytest.mark.parametrize("part", ["", "encoders", "heads"])
def test_one_of_64_bits_is_refused_with_the_way_out(part: str) -> None:
    model = trainer().model
    model.towers.get_submodule(part).double()
    with pytest.raises(InputError, match=r"float64 parameters cannot take float32 input: call \.float\(\)"):
        model.embed(a=CELLS)


def test_one_of_64_bits_that_runs_out_of_memory_says_so() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no room"), as_wide_as(torch.nn.Linear(2, 2).double()):
        raise torch.OutOfMemoryError("no room")
