from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
from toys import Vectors, rows

from multicl import InfoNCE, InputError, Pair, Train, Trainer
from multicl.running.trackers import PROJECT, check_trackers, flat

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def trainer(run: Path | None, trackers: tuple[str, ...] = ("tensorboard",), steps: int = 4, **options: Any) -> Trainer:
    train = Train(batch_size=16, steps=steps, lr=1e-2, log_every=1, checkpoint_every=3, trackers=trackers)
    nodes = {"a": Vectors(), "b": Vectors(width=5)}
    return Trainer(nodes, [Pair("a", "b", InfoNCE(learnable=True))], rows(64), train=train, run=run, **options)


def events(run: Path) -> Any:
    found = event_accumulator.EventAccumulator(str(run / PROJECT))
    found.Reload()
    return found


def test_tensorboard_reads_back_what_metrics_hold(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run).fit()
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = events(run)
    assert set(found.Tags()["scalars"]) == metrics[0].keys() - {"step"}
    for name in metrics[0].keys() - {"step"}:
        written = [(event.step, event.value) for event in found.Scalars(name)]
        assert written == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in metrics], name


def test_what_metrics_hold_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run, trackers=()).fit()
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    pair = ("loss", "temperature", "confidence", "accuracy", "accuracy_ab", "accuracy_ba", "alignment")
    node = ("uniformity", "effective_rank", "dead_dimensions")
    assert row.keys() == {
        "step", "loss", "lr", "grad_norm", "rows_per_second", "data_wait",
        *(f"a-b/{name}" for name in pair), *(f"{n}.joint/{name}" for n in "ab" for name in node),
    }  # fmt: skip


def test_trackers_are_given_the_settings(tmp_path: Path) -> None:
    trainer(tmp_path / "run", steps=1).fit()
    (file,) = (tmp_path / "run").rglob("hparams.yml")
    text = file.read_text()
    assert "train.lr: 0.01" in text
    assert "modalities.b.width: 5" in text
    assert "learnable" in text
    trainer(tmp_path / "other", steps=1, config={"recipe": "mine", "image": {"size": 32}}).fit()
    (file,) = (tmp_path / "other").rglob("hparams.yml")
    assert file.read_text() == "image.size: 32\nrecipe: mine\n"


def test_what_a_broken_run_wrote_beyond_its_checkpoint_is_forgotten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    broken = trainer(run, steps=8)
    step, calls = broken._step, []

    def dies(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(*args)

    broken._step = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    trainer(run, steps=8, resume=True).fit()
    assert [event.step for event in events(run).Scalars("loss")] == list(range(1, 9))


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("trackio", "trackio"), ("comet_ml", "comet-ml")])
def test_a_tracker_that_is_not_installed_says_how_to_get_it(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    with pytest.raises(InputError, match=f"'{name}' is not installed: pip install {package}, or leave it out"):
        trainer(tmp_path / "run", trackers=(name,))
    assert not (tmp_path / "run").exists()


def test_unknown_trackers_and_files_without_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no 'tensorbord'; Accelerate knows \['aim'"):
        check_trackers(["tensorbord"], tmp_path)
    with pytest.raises(InputError, match="'tensorboard' writes files, and the run has no folder: give run=FOLDER"):
        trainer(None)
    check_trackers(["tensorboard"], tmp_path)


def test_settings_become_flat() -> None:
    nested = {"train": {"lr": 0.1, "steps": None}, "terms": [{"a": "x"}], "on": True, "name": "n"}
    assert flat(nested) == {"train.lr": 0.1, "terms": "[{'a': 'x'}]", "on": True, "name": "n"}
