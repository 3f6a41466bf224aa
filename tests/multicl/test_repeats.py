from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from multicl import cli, load
from multicl.repeats import averaged, no_run, several_seeds
from multicl.types import InputError


@pytest.mark.parametrize("words", [["--train.seed", "0,1, 7"], ["--train.seed=0,1,7"]])
def test_seeds_are_taken_out_of_the_command_line(words: list[str]) -> None:
    assert several_seeds(["--a", "1", *words, "--b"]) == ([0, 1, 7], ["--a", "1", "--b"])


@pytest.mark.parametrize("argv", [[], ["--train.seed", "3"], ["--train.seed=3", "--other", "0,1"], ["--train.seed"]])
def test_one_seed_is_left_where_it_is(argv: list[str]) -> None:
    assert several_seeds(argv) == ([], argv)


@pytest.mark.parametrize("value", ["0,one", "0,,1", "1,01", "-1,2"])
def test_what_is_no_seed_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="whole number"):
        several_seeds(["--train.seed", value])


def result(seed: int, **figures: float) -> dict[str, Any]:
    before = dict.fromkeys(figures, 0.1)
    return {"recipe": "r", **figures, "untrained": before, "baseline": {}, "steps": 5, "skipped": seed, "seconds": 1.5}


def test_figures_are_averaged() -> None:
    found = averaged({1: result(1, knn=0.5), 2: result(2, knn=0.7), 4: result(4, knn=0.9)})
    assert found["knn"] == pytest.approx(0.7)
    assert found["deviation"]["knn"] == pytest.approx(0.2)
    assert found["untrained"]["knn"] == pytest.approx(0.1)
    assert (found["steps"], found["skipped"], found["seconds"], found["seeds"]) == (5, 7, 4.5, [1, 2, 4])


def test_a_figure_that_only_the_trained_model_has_is_averaged_too() -> None:
    runs = {seed: {**result(seed, knn=0.5), "classifier": 0.2 * seed} for seed in (1, 2)}
    found = averaged(runs)
    assert found["classifier"] == pytest.approx(0.3)
    assert set(found["deviation"]) == {"knn", "classifier"}


def test_a_folder_of_several_seeds_is_no_run_and_the_refusal_names_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (10, 2):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "recipe.yaml").touch()
    told = f"{tmp_path} holds runs of several seeds: name one of them, such as {tmp_path / 'seed-2'}"
    with pytest.raises(InputError, match=re.escape(told)):
        load(tmp_path)
    for words in (["report"], ["export", "--to", "onnx"], ["embed", "--data", "x.csv", "--out", "x.parquet"]):
        with pytest.raises(SystemExit):
            cli.main([words[0], str(tmp_path), *words[1:]])
        assert capsys.readouterr().err == f"multicl: {told}\n"


def test_a_model_saved_without_its_run_is_told_what_takes_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert no_run(tmp_path).startswith(f"{tmp_path} is not a run but only a model, for embed, index and export")


def test_a_folder_of_runs_names_the_latest(tmp_path: Path) -> None:
    assert no_run(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} is not a run: there is no such folder"
    assert no_run(tmp_path) == f"{tmp_path} is not a run: it has no recipe.yaml"
    for at, name in enumerate(["old", "c", "b", "a"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").touch()
        os.utime(tmp_path / name / "recipe.yaml", (at, at))
    assert no_run(tmp_path).endswith(f"; name one of the runs in it: {tmp_path}/a, {tmp_path}/b, {tmp_path}/c, ...")
