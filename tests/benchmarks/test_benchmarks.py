from __future__ import annotations

import importlib
import json
import math
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # at the end: nothing of the tests' own is hidden

from losses.floor import full_walk, half_walk  # noqa: E402
from losses.implementations import LOSSES  # noqa: E402
from losses.inputs import BIAS, SCALE, TEMPERATURE, Inputs, make_inputs  # noqa: E402
from losses.memory import extra_peak  # noqa: E402
from losses.reference import differences, reference  # noqa: E402
from losses.targets import targets  # noqa: E402


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """run(script, *flags): its result; the processes that it starts find what this one does."""

    def start(script: str, *flags: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        importlib.import_module(script).main()
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("RESULT ")
        result: dict[str, Any] = json.loads(last.removeprefix("RESULT "))
        return result

    return start


def test_losses_are_measured_and_a_missing_peer_is_named(
    run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lightly.py").write_text("raise ImportError('no lightly here')")
    monkeypatch.syspath_prepend(tmp_path)
    result = run(
        "loss", "--only", "nt_xent", "--batch", 32, "--dim", 8, "--implementations", "multicl", "lightly",
        "floor-half", "--seconds", 0.01, "--threads", 1, "--results", tmp_path,
    )  # fmt: skip
    rows = {row["implementation"]: row for row in result["rows"]}
    assert "missing: no lightly here" in rows.pop("lightly")["note"]
    assert set(rows) == {"multicl", "floor-half"}
    assert all(row["ms"] > 0 and row["time / ours"] > 0 and row["rounds"] >= 3 for row in rows.values())
    assert max(rows["multicl"][what] for what in ("loss off", "gradient off")) < 1e-5
    assert json.loads((tmp_path / "loss.json").read_text()) == result


def test_recipes_without_a_budget_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["recipes.py", "clip", "clipp"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / "recipes.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "no budget is named clipp; there are codes, simclr, " in capsys.readouterr().err


def test_bytes_over_ranks_are_counted(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    batch, dim, world = 16, 8, 2
    sizes = ("--ranks", world, "--batch", batch, "--dim", dim, "--rounds", 2)
    result = run("loss_ranks", *sizes, "--results", tmp_path)
    assert {(row["loss"], row["form"]) for row in result["rows"]} == {
        (loss, form) for loss in ("nt_xent", "info_nce") for form in ("multicl", "gather both sides")
    }
    own = batch // world * dim * 4
    for row in result["rows"]:
        assert row["gradient off"] < 1e-5
        if row["form"] == "gather both sides":  # both sides go out to each other rank, and gradients come home
            assert row["sent MB"] * 2**20 == pytest.approx(2 * 2 * own * (world - 1))
        else:
            assert row["sent MB"] > 0


def test_gpu_script_runs_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["--device", "cpu", "--batch", "32", "--dim", "16", "--square", "32"]
    words = [*sizes, "--implementations", "multicl", "plain", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["loss_gpu.py", *words])
    runpy.run_path(str(BENCHMARKS / "loss_gpu.py"), run_name="__main__")
    rows = json.loads((tmp_path / "loss_gpu.json").read_text())["rows"]
    assert [row["implementation"] for row in rows] == ["multicl", "plain"]
    assert all(row["of floor"] > 0 and row["gradient off"] < 2e-2 for row in rows)


@pytest.mark.parametrize("passing", [False, True])
def test_extra_peak_tells_a_known_allocation(passing: bool) -> None:
    size = 2**26

    def call() -> torch.Tensor:
        x = torch.ones(size, dtype=torch.uint8)
        return x[:1].clone() if passing else x  # memory that is gone before the call ends counts as well

    peak = extra_peak(call)
    if peak is None:
        pytest.skip("this kernel has no high-water mark to reset")
    assert peak == pytest.approx(size, rel=0.03)


def cosine(x: list[float], y: list[float]) -> float:
    return sum(p * q for p, q in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def slow(loss: str, x: Inputs) -> float:
    a, b, labels = x.a.tolist(), x.b.tolist(), x.labels.tolist()
    n = len(a)
    if loss == "sigmoid":
        total = 0.0
        for i in range(n):
            for j in range(n):
                y = 1 if i == j else -1
                total += math.log(1 + math.exp(-y * (SCALE * cosine(a[i], b[j]) + BIAS)))
        return total / n

    def rows(queries: Any, keys: Any, positives: Any, itself: bool) -> float:
        total = 0.0
        for i, q in enumerate(queries):
            logits = {
                j: cosine(q, k) / TEMPERATURE[loss] for j, k in enumerate(keys) if not (itself and i == j)
            }  # fmt: skip
            mine = positives(i)
            total += math.log(sum(map(math.exp, logits.values()))) - sum(logits[j] for j in mine) / len(mine)
        return total / len(queries)

    if loss == "nt_xent":
        return rows(a + b, a + b, lambda i: [(i + n) % (2 * n)], True)
    if loss == "sup_con":
        return rows(a + b, a + b, lambda i: [j for j in range(2 * n) if labels[j] == labels[i] and j != i], True)
    one = rows(a, b, lambda i: [i], False)
    return one if loss == "info_nce_one" else (one + rows(b, a, lambda i: [i], False)) / 2


@pytest.mark.parametrize("loss", LOSSES)
def test_reference_is_the_slow_loop_and_all_agree(loss: str) -> None:
    right = reference(loss, make_inputs(loss, 9, 5, torch.float64), block=4)
    assert right[0] == pytest.approx(slow(loss, make_inputs(loss, 9, 5, torch.float64)), rel=1e-6)  # T is a float32
    x = make_inputs(loss, 9, 5)
    for name in ("multicl", "plain"):
        value = LOSSES[loss][name].make()(x)
        far = differences(value.item(), torch.autograd.grad(value, x.learnt), *right)
        assert max(far) < 1e-5, name
    wrong = [1.1 * g for g in right[1]]
    assert differences(right[0], wrong, *right)[1] == pytest.approx(0.1)


@pytest.mark.parametrize("loss", ["nt_xent", "info_nce"])
def test_floor_makes_the_products_it_says(loss: str) -> None:
    x = make_inputs(loss, 21, 6)
    a, b = (torch.nn.functional.normalize(z.detach(), dim=1) for z in (x.a, x.b))
    left, right = (torch.cat([a, b]), torch.cat([a, b])) if loss == "nt_xent" else (a, b)
    s = left @ right.T
    walks = [full_walk] + [half_walk] * (loss == "nt_xent")
    for walk in walks:
        d_left, d_right = walk(loss, x, tile=8)()
        torch.testing.assert_close(d_left, s @ right)
        torch.testing.assert_close(d_right, s.T @ left)


def test_targets_say_what_was_not_met() -> None:
    size = {"cpu": "one", "loss": "nt_xent", "B": 1024, "D": 128}
    rows = [
        {**size, "implementation": "multicl", "ms": 2.0, "time / ours": 1.0},
        {**size, "implementation": "lightly", "ms": 1.0, "time / ours": 0.5},
        {**size, "implementation": "plain", "ms": 4.0, "time / ours": 2.0},
    ]
    of_another = [{**row, "cpu": "another", "time / ours": 1.0} for row in rows]
    found = [(t["cpu"], t["met"]) for t in targets(rows + of_another)]
    assert found == [("one", "NO"), ("one", "yes"), ("another", "yes"), ("another", "yes")]
