from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from multicl.running import checkpoint
from multicl.running.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from multicl.training.lars import LARS
from multicl.types import InputError

KINDS = {
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=1e-2),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=1e-2, momentum=0.9),
    "lars": lambda ps: LARS(ps, lr=1e-2),
}


class Net(nn.Module):
    """Weights, buffers, and two names for one tensor."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        self.b = nn.Linear(width, width, bias=False)
        self.c = nn.Linear(width, width, bias=False)
        self.c.weight = self.b.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x)))


def make(kind: str = "adamw", seed: int = 0, width: int = 5) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    net = Net(width)
    return net, KINDS[kind](net.parameters())


def train(net: nn.Module, optimizer: torch.optim.Optimizer, start: int, end: int) -> None:
    for step in range(start, end):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(t, other[name]) for name, t in a.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    whole = make(kind)
    train(*whole, 0, 6)
    first = make(kind)
    train(*first, 0, 3)
    path = save_checkpoint(tmp_path, 3, *first, {"seed": 7}, kept={"queue:z": torch.arange(3.0)})
    again = make(kind, seed=1)
    train(*again, 10, 11)  # a state of its own, which loading replaces
    state = load_checkpoint(path, *again)
    assert torch.equal(state["kept"]["queue:z"], torch.arange(3.0))
    assert (state["step"], state["seed"]) == (3, 7)
    assert same(first[0], again[0])
    train(*again, 3, 6)
    assert same(whole[0], again[0])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_who_may_read_the_state_may_read_the_weights(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = save_checkpoint(tmp_path, 1, *make(next(iter(KINDS))), {"seed": 7})
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in path.iterdir()} == {"0o640"}


def test_the_last_ones_are_kept_in_the_order_of_their_steps(tmp_path: Path) -> None:
    net = make()
    for step in (2, 9, 10, 100):
        save_checkpoint(tmp_path, step, *net, {}, keep=2)
    assert [step for step, _ in checkpoints(tmp_path)] == [10, 100]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-100"]
    save_checkpoint(tmp_path, 100, *net, {"again": True}, keep=2)
    assert json.loads((tmp_path / "step-100" / "state.json").read_text())["again"] is True


@pytest.mark.parametrize("dies_in", ["save_file", "to_disk"])
def test_a_death_while_writing_leaves_the_checkpoints_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    net = make()
    save_checkpoint(tmp_path, 1, *net, {})

    def dies(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, dies_in, dies)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, *net, {})
    assert [step for step, _ in checkpoints(tmp_path)] == [1]
    assert [p.name for p in tmp_path.glob("step-*")] == ["step-1"]
    save_checkpoint(tmp_path, 3, *net, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-3"]  # what was torn is swept away


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: cut(p / "state.safetensors"),
        lambda p: (p / "state.safetensors").write_bytes(b""),
        lambda p: (p / "state.safetensors").unlink(),
        lambda p: cut(p / "state.json"),
        lambda p: (p / "state.json").write_text('{"format": 99}'),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    net = make()
    save_checkpoint(tmp_path, 1, *net, {})
    damage(save_checkpoint(tmp_path, 2, *net, {}))
    assert [step for step, _ in checkpoints(tmp_path)] == [1]
    assert f"{tmp_path / 'step-2'} is damaged and skipped" in capsys.readouterr().err
    with pytest.raises(InputError, match="step-2"):
        load_checkpoint(tmp_path / "step-2", *net)


def test_another_architecture_is_refused_by_name_and_nothing_is_touched(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, *make(), {})
    wide = make(width=6)
    before = {name: t.clone() for name, t in wide[0].state_dict().items()}
    with pytest.raises(
        InputError, match=r"another recipe: 'a\.0\.bias' is \[5\] in the checkpoint and \[6\] in this run"
    ):
        load_checkpoint(path, *wide)
    assert all(torch.equal(t, before[name]) for name, t in wide[0].state_dict().items())


def test_another_optimiser_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, *make("sgd"), {})
    with pytest.raises(InputError, match="trained with SGD, not AdamW"):
        load_checkpoint(path, *make("adamw"))


def test_what_is_no_checkpoint_is_not_listed(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "none") == []
    for name in ("step-x", "step-", "other", "step-3.old"):
        (tmp_path / name).mkdir()
    assert checkpoints(tmp_path) == []
    shutil.rmtree(tmp_path / "other")
