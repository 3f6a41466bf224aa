from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from toys import rows

from multicl import cli, launcher
from multicl.adapters import import_file
from multicl.commands.compare import compare
from multicl.files import write_whole
from multicl.launcher import launch, parse, recipe_class
from multicl.model import Model
from multicl.recipe_names import name_of
from multicl.run import Run, execute
from multicl.running.finished import lacks_figures
from multicl.signals import SIGNALS
from multicl.types import InputError

RECIPE = '''"""Toy (arXiv:0000.00000): two looks at one vector.

    python toy_recipe.py --data.path rows.jsonl \\\\
        --train.steps 20
Expected: recall of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from toys import Vectors

import multicl
from multicl import Head, InfoNCE, InputError, Optim, Pair, Train


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    train: Train = Train(batch_size=16, steps=20, lr=1e-2, log_every=1)
    optim: Optim = Optim(warmup=2)
    head: Head = Head(dim=6, norm="batch")
    a: Vectors = Vectors(dropout=0.2)
    b: Vectors = Vectors(width=5)
    objective: InfoNCE = InfoNCE(temperature=0.1, learnable=True)

    def __post_init__(self):
        if self.b.width == 13:
            raise InputError("b.width must not be 13")

    def modalities(self):
        return {"a": self.a, "b": self.b}

    def terms(self):
        return [Pair("a", "b", self.objective), Pair("a", "a", self.objective)]

    def measure(self, model):
        held_out = list(self.data.open(self.data.test))
        a, b = (model.embed(**{node: [row[node] for row in held_out]}) for node in "ab")
        return {"recall": ((a @ b.T).argmax(1) == torch.arange(len(a))).float().mean(), "cosine": (a * b).sum(1).mean()}

    def baseline(self):
        return {"recall": 1 / 3}


if __name__ == "__main__":
    multicl.launch(Recipe)
'''
COUNTED = ("step", "loss", "lr", "grad_norm", "a-b/loss", "a-b/temperature", "a-a/loss")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's recipe and data, where the user is."""
    (tmp_path / "toy_recipe.py").write_text(RECIPE)
    for name, seed in (("rows", 0), ("test", 1)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows(64, seed=seed)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys, "path", list(sys.path))
    registered = dict(sys.modules)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that are started: sums are the same bit for bit
    yield tmp_path
    torch.set_num_threads(threads)
    for name in set(sys.modules) - set(registered):
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def recipe(home: Path) -> type[Run]:
    cls: type[Run] = import_file(home / "toy_recipe.py").Recipe
    return cls


DATA = ["--data.path", "rows.jsonl", "--data.test", "test.jsonl"]


def start(*argv: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-W", "error::DeprecationWarning:multicl", "toy_recipe.py", *DATA, *argv],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests' / 'support'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def metrics(run: str) -> list[dict[str, Any]]:
    lines = Path(run, "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k in COUNTED} for line in lines]


def result_of(out: str) -> dict[str, Any]:
    last = out.splitlines()[-1]
    assert last.startswith("RESULT ")
    return json.loads(last.removeprefix("RESULT "), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))  # type: ignore[no-any-return]


def test_every_recipe_understands_these_flags(recipe: type[Run]) -> None:
    line = (
        "--run DIR --resume auto --data.path X --data.columns a x b y --train.steps 3 --train.batch-size 8 "
        "--train.lr 1e-3 --train.checkpoint-every 7 --train.seed 5 --train.mixed-precision bf16"
    )
    found = parse(recipe, line.split())
    assert (found.run, found.resume) == (Path("DIR"), "auto")
    assert (found.data.path, found.data.columns) == ("X", {"a": "x", "b": "y"})
    train = found.train
    assert (train.steps, train.batch_size, train.lr, train.checkpoint_every) == (3, 8, 1e-3, 7)
    assert (train.seed, train.mixed_precision) == (5, "bf16")
    assert parse(recipe, ["--train.steps", "None", "--train.epochs", "1.5"]).train.epochs == 1.5
    assert parse(recipe, []) == recipe()


@pytest.mark.parametrize(
    "argv", ["--resume --run r", "--run r --resume", "--run r --resume auto", "--run=r --resume=auto"]
)
def test_resume_alone_is_auto(recipe: type[Run], argv: str) -> None:
    found = parse(recipe, argv.split())
    assert (found.run, found.resume) == (Path("r"), "auto")


def test_resume_needs_a_run_and_takes_no_folder(recipe: type[Run], capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--resume"], ["--resume", "auto"]):
        with pytest.raises(SystemExit, match="2"):
            launch(recipe, argv)
        assert "--resume needs the folder of the run to continue: add --run DIR" in capsys.readouterr().err
    assert not Path("runs").exists()
    Path("old run").mkdir()
    with pytest.raises(InputError, match="as in --run 'old run' --resume"):
        parse(recipe, ["--resume", "old run"])
    with pytest.raises(SystemExit, match="2"):
        parse(recipe, ["--resume", "atuo"])


def test_help_shows_the_header_line_for_line(recipe: type[Run], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(recipe, ["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    header, _, options = out.partition("usage:")
    assert header.startswith(
        "Toy (arXiv:0000.00000): two looks at one vector.\n\n"
        "    python toy_recipe.py --data.path rows.jsonl \\\n        --train.steps 20\nExpected: recall of 1.\n"
    )
    assert "--config FILE.yaml" in header
    assert "Rows in each step's loss, over all ranks together." in " ".join(options.replace("│", " ").split())


def test_a_near_miss_is_hinted_at(recipe: type[Run], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(recipe, ["--train.batchsize", "3"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "--train.batchsize" in err
    assert "--train.batch-size" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.batch-size", "0"], "train.batch_size must be 1 or more, got 0"),
        (["--b.width", "13"], "b.width must not be 13"),
        (["--objective.temperature", "0"], "InfoNCE: temperature must be above 0, got 0.0"),
        (["--config", "none.yaml"], "cannot read none.yaml: [Errno 2] No such file or directory: 'none.yaml'"),
        (["--config", "bad.yaml"], "unknown key 'train.stesp'; did you mean 'train.steps'?"),
        ([], "no data: give --data.path with a file, a folder or a hub name"),
        (["--data.path", "no.jsonl"], "no such file or folder: no.jsonl"),
        (
            ["--run", "taken", *DATA],
            "the run folder taken exists: give another --run, or --resume auto (in Python resume=True) to continue it",
        ),
        (
            ["--run", "r", *DATA, "--train.batch-size", "99"],
            "the batch (99) is larger than the data (64 rows of rows.jsonl)",
        ),
        (["--run", "r", *DATA, "--data.columns", "a", "x", "b", "b"], "has no column"),
        (["--run", "r", *DATA, "--a.encoder", "resnet"], "unknown encoder 'resnet'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    recipe: type[Run], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    Path("taken/file").write_text("")
    Path("bad.yaml").write_text("recipe: x\nrun: old\ntrain: {stesp: 3}\n")
    if message == "has no column":  # a mapped name that is not there falls back to the node's own
        Path("rows.jsonl").write_text(Path("rows.jsonl").read_text().replace('"a"', '"aa"'))
    with pytest.raises(SystemExit) as stop:
        launch(recipe, argv)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    last = err.splitlines()[-1]
    assert last.startswith("multicl: ")
    assert message in last
    assert "Traceback" not in err


def test_only_the_first_process_says_what_is_wrong(
    recipe: type[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    for argv in (["--train.batch-size", "0"], ["--train.batchsize", "3"], ["--help"]):
        with pytest.raises(SystemExit):
            launch(recipe, argv)
    assert capsys.readouterr() == ("", "")


def test_a_run_end_to_end_then_measured_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start("--run", "runs/one", "--train.checkpoint-every", "8")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    result = result_of(out)
    assert json.loads((home / "runs/one/result.json").read_text()) == result
    assert result["recipe"] == str(home / "toy_recipe.py")
    assert (result["steps"], result["skipped"], result["baseline"]) == (20, 0, {"recall": 0.333333})
    assert result["untrained"]["recall"] < 0.3
    assert result["recall"] > 3 * result["untrained"]["recall"]
    assert [row["step"] for row in metrics("runs/one")] == list(range(1, 21))
    kept = yaml.safe_load((home / "runs/one/recipe.yaml").read_text())
    assert (kept["recipe"], kept["resume"], kept["train"]["steps"]) == (str(home / "toy_recipe.py"), "never", 20)
    assert f"| recall | {result['recall']:.4g} |" in (home / "runs/one/model/README.md").read_text()
    table = [line.split() for line in out.splitlines() if line.startswith("recall")]
    before, after = f"{result['untrained']['recall']:.4f}", f"{result['recall']:.4f}"
    assert table == [["recall", before], ["recall", "0.3333", before, after]]  # before the first step; at the end

    figures = {"recall": result["recall"], "cosine": result["cosine"]}
    cli.main(["eval", "runs/one"])
    assert result_of(capsys.readouterr().out) == {"run": "runs/one", "space": "joint", **figures, "intervals": {}}
    (home / "elsewhere").mkdir()  # a user's recipe file is found from there as well
    monkeypatch.chdir(home / "elsewhere")
    cli.main(["eval", "../runs/one", "--data", "../rows.jsonl", "--test", str(home / "test.jsonl")])
    assert result_of(capsys.readouterr().out) == {"run": "../runs/one", "space": "joint", **figures, "intervals": {}}


def test_a_killed_run_goes_on_to_the_figures_of_an_unbroken_one(home: Path, recipe: type[Run]) -> None:
    argv = ["--train.steps", "100", "--train.checkpoint-every", "10"]
    launch(recipe, [*DATA, *argv, "--run", "whole"])
    process = start(*argv, "--run", "broken")
    began = time.monotonic()
    while not Path("broken/checkpoints/step-10").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 60
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("broken/model").exists()
    with Path("broken/metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')  # a row that the kill cut short
    launch(recipe, [*DATA, *argv, "--run", "broken", "--resume", "auto"])
    assert metrics("broken") == metrics("whole")
    whole, broken = (json.loads(Path(run, "result.json").read_text()) for run in ("whole", "broken"))
    assert whole.pop("seconds") > 0
    assert broken.pop("seconds") > 0
    assert whole == broken
    weights = [Path(run, "model", "model.safetensors").read_bytes() for run in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_a_finished_run_that_is_resumed_is_only_measured(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    first = result_of(capsys.readouterr().out)
    before = {p: p.stat().st_mtime_ns for p in sorted(Path("r").rglob("*"))}
    launch(recipe, [*DATA, "--run", "r", "--resume", "auto"])
    said = capsys.readouterr().out
    second = result_of(said)
    assert f"r was finished at step {first['steps']}: it is only measured again\n" in said
    assert {p: p.stat().st_mtime_ns for p in sorted(Path("r").rglob("*"))} == before
    assert first == second


def test_a_finished_run_may_go_on_for_longer_and_says_what_changed(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    launch(recipe, [*DATA, "--run", "r", "--resume", "auto", "--train.steps", "24"])
    assert "resumed with a different train.steps: 20 -> 24" in capsys.readouterr().out
    assert [row["step"] for row in metrics("r")] == list(range(1, 25))
    assert yaml.safe_load(Path("r/recipe.yaml").read_text())["train"]["steps"] == 24
    with pytest.raises(InputError, match="r has trained for 24 steps already, more than the 20 asked for"):
        execute(parse(recipe, [*DATA, "--run", "r", "--resume", "auto"]))


def test_a_longer_run_that_is_killed_before_its_model_is_saved_is_not_finished(
    home: Path, recipe: type[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Model, *args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    launch(recipe, [*DATA, "--run", "r"])
    longer = [*DATA, "--run", "r", "--resume", "auto", "--train.steps", "24"]
    with monkeypatch.context() as patch:
        patch.setattr(Model, "save", killed)
        with pytest.raises(SystemExit):
            launch(recipe, longer)
    short = Path("r/model/model.safetensors").read_bytes()
    launch(recipe, longer)
    assert json.loads(Path("r/result.json").read_text())["steps"] == 24
    assert Path("r/model/model.safetensors").read_bytes() != short


class Killed(BaseException):
    """As SIGKILL: the run itself sees nothing of it."""


def end_in_its_last_evaluation(recipe: type[Run], argv: list[str], error: BaseException) -> None:
    looks, measure = [], recipe.measure

    def ends(self: Run, model: Any) -> Any:
        looks.append(1)
        if len(looks) == 2:
            raise error
        return measure(self, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "measure", ends)
        with pytest.raises(type(error)):
            launch(recipe, argv)


def test_a_run_that_is_killed_in_its_last_evaluation_is_not_finished(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*DATA, "--run", "r", "--resume", "auto"]
    launch(recipe, [*DATA, "--run", "whole"])
    end_in_its_last_evaluation(recipe, argv, Killed())
    status = json.loads(Path("r/status.json").read_text())
    assert (status["state"], status["step"], status["total"]) == ("running", 20, 20)
    way_out = "finish it with --run r --resume auto"
    with pytest.raises(InputError, match=f"r has no figures yet: {way_out}"):
        compare([Path("r"), Path("whole")])
    launch(recipe, argv)
    assert json.loads(Path("r/status.json").read_text())["state"] == "finished"
    assert capsys.readouterr().out.count("resumed at step 20 of 20") == 1
    results = [json.loads(Path(run, "result.json").read_text()) for run in ("r", "whole")]
    for result in results:
        result.pop("seconds")
    assert results[0] == results[1]

    end_in_its_last_evaluation(recipe, [*argv, "--train.steps", "24"], Killed())
    with pytest.raises(InputError, match=f"r has figures of step 20, but not yet of its last step, 24: {way_out}"):
        compare([Path("r"), Path("whole")])
    launch(recipe, [*argv, "--train.steps", "24"])
    assert lacks_figures(Path("r")) is None


def test_a_run_whose_last_evaluation_fails_is_not_finished(home: Path, recipe: type[Run]) -> None:
    end_in_its_last_evaluation(recipe, [*DATA, "--run", "r"], ArithmeticError("no mean of nothing"))
    status = json.loads(Path("r/status.json").read_text())
    assert (status["state"], status["step"], status["reason"]) == ("failed", 20, "no mean of nothing")


@pytest.mark.parametrize("text", ["[1]", '{"recall": 1'])
def test_a_result_that_cannot_be_read_is_measured_anew(home: Path, recipe: type[Run], text: str) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    result = json.loads(Path("r/result.json").read_text())
    Path("r/result.json").write_text(text)
    with pytest.raises(InputError, match="r has no figures yet"):
        compare([Path("r"), Path("other")])
    launch(recipe, [*DATA, "--run", "r", "--resume", "auto"])
    again = json.loads(Path("r/result.json").read_text())
    assert result.pop("seconds") <= again.pop("seconds")
    assert result == again


def test_a_run_that_was_killed_when_it_had_its_figures_is_finished_once_it_is_resumed(
    home: Path, recipe: type[Run]
) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    status = json.loads(Path("r/status.json").read_text())
    Path("r/status.json").write_text(json.dumps({**status, "state": "running"}))
    launch(recipe, [*DATA, "--run", "r", "--resume", "auto"])
    assert json.loads(Path("r/status.json").read_text()) == status


def test_more_patience_lets_a_run_that_ended_early_go_on(
    home: Path, recipe: type[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[float] = []

    def worse_and_worse(self: Run, model: Any) -> dict[str, float]:
        measured.append(1 / (1 + len(measured)))
        return {"score": measured[-1]}

    monkeypatch.setattr(recipe, "measure", worse_and_worse)
    argv = [*DATA, "--run", "r", "--train.evaluate-every", "2", "--train.best", "score"]

    def ended(*more: str) -> tuple[int, str]:
        launch(recipe, [*argv, *more])
        out = capsys.readouterr().out
        return result_of(out)["steps"], out

    spent = "evaluations without a better score: patience (2) has run out; to train longer, raise --train.patience"
    assert ended("--train.patience", "2")[0] == 6
    weights = Path("r/model/model.safetensors").stat().st_mtime_ns
    for more in ([], ["--train.steps", "40"]):
        steps, out = ended("--train.patience", "2", "--resume", "auto", *more)
        assert steps == 6
        assert f"2 {spent}" in out
    assert Path("r/model/model.safetensors").stat().st_mtime_ns == weights
    steps, out = ended("--train.patience", "4", "--resume", "auto")
    assert steps == 10
    assert spent not in out
    assert ended("--resume", "auto")[0] == 20


def test_resuming_with_another_architecture_is_refused_and_keeps_recipe_yaml(home: Path, recipe: type[Run]) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    before = Path("r/recipe.yaml").read_text()
    with pytest.raises(InputError, match="is from another recipe"):
        execute(parse(recipe, [*DATA, "--run", "r", "--resume", "auto", "--train.steps", "24", "--b.width", "9"]))
    assert Path("r/recipe.yaml").read_text() == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--b.width", "9"], "step-20 is from another recipe: '.*' is .* in the checkpoint and .* in this run"),
        (["--head.dim", "9"], "step-20 is from another recipe: 'heads.*' is .* in the checkpoint and .* in this run"),
        (["--train.seed", "1"], "step-20 was trained with train.seed 0, not 1"),
    ],
)
def test_a_finished_run_is_not_measured_beside_another_untrained_model(
    home: Path, recipe: type[Run], other: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(recipe, [*DATA, "--run", "r"])
    capsys.readouterr()
    with pytest.raises(InputError, match=message):
        execute(parse(recipe, [*DATA, "--run", "r", "--resume", "auto", *other]))
    assert "recall" not in capsys.readouterr().out


def test_a_run_is_launched_again_from_its_recipe_yaml(home: Path, recipe: type[Run]) -> None:
    launch(recipe, [*DATA, "--run", "one", "--train.seed", "3"])
    launch(recipe, ["--config", "one/recipe.yaml", "--run", "two"])
    assert metrics("one") == metrics("two")
    assert parse(recipe, ["--config", "one/recipe.yaml"]).run is None


def test_several_seeds_are_a_run_each_and_their_mean(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    finished = []
    argv = [*DATA, "--train.steps", "2", "--run", "r", "--train.seed", "0,5"]
    launch(recipe, argv, lambda settings, result: finished.append(settings.run))
    last = result_of(capsys.readouterr().out)
    assert finished == [Path("r/seed-0"), Path("r/seed-5")]
    each = [json.loads((folder / "result.json").read_text()) for folder in finished]
    assert each[0]["recall"] != each[1]["recall"] or each[0]["cosine"] != each[1]["cosine"]
    for name in ("recall", "cosine"):
        assert last[name] == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-6)
        assert last["untrained"][name] == pytest.approx(sum(one["untrained"][name] for one in each) / 2, abs=1e-6)
    assert last["seeds"] == [0, 5]
    assert json.loads(Path("r/result.json").read_text()) == last
    assert "deviation" in last
    launch(recipe, [*argv, "--resume", "auto"])
    assert result_of(capsys.readouterr().out) == last  # seconds, too


def test_several_seeds_are_no_single_run(home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]) -> None:
    launch(recipe, [*DATA, "--train.steps", "1", "--run", "r"])
    with pytest.raises(SystemExit):
        launch(recipe, [*DATA, "--train.steps", "1", "--run", "r", "--train.seed", "0,5"])
    assert "r holds a run of a single seed: give another --run for several seeds" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["recipe.yaml", "result.json", "README.md"])
def test_no_room_for_what_a_run_writes(
    home: Path, recipe: type[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def full(path: Path, text: str, **options: Any) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device", str(path))
        write_whole(path, text, **options)

    argv = [*DATA, "--run", "r", "--train.steps", "3"]
    with monkeypatch.context() as patched:
        for module in ("run", "config", "model"):
            patched.setattr(f"multicl.{module}.write_whole", full)
        with pytest.raises(SystemExit):
            launch(recipe, argv)
    err = capsys.readouterr().err
    assert "multicl: the disk of r is full: [Errno 28] No space left on device: 'r/" in err
    assert f"{name}'. Free some space, and continue with --resume auto" in err
    launch(recipe, [*argv, "--resume", "auto"])
    assert json.loads(Path("r/result.json").read_text())["steps"] == 3


def test_epochs_that_are_asked_for_count(recipe: type[Run]) -> None:
    assert parse(recipe, []).train.steps is not None
    asked = parse(recipe, ["--train.epochs", "2"]).train
    assert (asked.steps, asked.epochs) == (None, 2)
    assert parse(recipe, ["--train.epochs=2", "--train.steps=7"]).train.steps == 7


def test_a_misspelt_best_is_refused_before_the_first_step(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        launch(recipe, [*DATA, "--run", "r", "--train.evaluate-every", "2", "--train.best", "recal"])
    assert "train.best is 'recal', but the figures are ['cosine', 'recall']" in capsys.readouterr().err
    assert not Path("r/metrics.jsonl").exists()


def test_a_run_that_could_not_be_measured_may_be_tried_again_under_its_name(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["--run", "r", "--train.steps", "1"]
    with pytest.raises(SystemExit):
        launch(recipe, [*DATA[:2], *again])
    said = capsys.readouterr().err
    assert "no split 'test'" in said
    assert "--data.split 'train[:90%]' --data.test 'train[90%:]'" in said
    launch(recipe, [*DATA[:2], *again, "--data.split", "train[:90%]", "--data.test", "train[90%:]"])
    assert json.loads(Path("r/result.json").read_text())["steps"] == 1
    with pytest.raises(SystemExit):
        launch(recipe, [*DATA, *again])
    assert "the run folder r exists" in capsys.readouterr().err


def test_of_two_runs_that_measure_at_once_one_gets_the_folder(home: Path, recipe: type[Run]) -> None:
    class Other(recipe):  # type: ignore[misc]
        def baseline(self) -> dict[str, float]:
            Path("r/recipe.yaml").write_text("recipe: another\n")
            return {}

    with pytest.raises(InputError, match="another process has begun a run in r in the meantime: give another --run"):
        execute(Other(run=Path("r"), data=parse(recipe, DATA).data))
    assert Path("r/recipe.yaml").read_text() == "recipe: another\n"
    assert not Path("r/metrics.jsonl").exists()


def test_a_run_without_a_name_gets_one_under_runs(home: Path, recipe: type[Run]) -> None:
    launch(recipe, [*DATA, "--train.steps", "1"])
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("toy_recipe-20")
    assert (folder / "result.json").exists()


def test_without_a_folder_nothing_is_written(home: Path, recipe: type[Run]) -> None:
    before = {p for p in home.rglob("*") if "cache" not in p.parts}
    result = execute(parse(recipe, [*DATA, "--train.steps", "2"]))
    assert result["steps"] == 2
    assert {p for p in home.rglob("*") if "cache" not in p.parts} - before == set()


def test_an_interrupted_run_says_how_to_go_on(
    recipe: type[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(recipe: Run) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "execute", stop)
    with pytest.raises(SystemExit) as stopped:
        launch(recipe, ["--run", "r"])
    assert stopped.value.code == 75
    assert "SIGINT: stopped; to continue: --run r --resume auto" in capsys.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(("look", "step", "told"), [(1, 0, "before the first step"), (2, 20, "saved at step 20")])
def test_a_signal_while_the_model_is_measured(
    home: Path, recipe: type[Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    number: signal.Signals, look: int, step: int, told: str,
) -> None:  # fmt: skip
    """Before training and after it, where nothing is to be saved."""
    launch(recipe, [*DATA, "--run", "whole"])
    argv, looks, measure = [*DATA, "--run", "r", "--resume", "auto"], [], recipe.measure

    def asked(self: Run, model: Any) -> Any:
        looks.append(1)
        if len(looks) == look:
            signal.raise_signal(number)
        return measure(self, model)

    before = signal.signal(number, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    try:
        with monkeypatch.context() as patch:
            patch.setattr(recipe, "measure", asked)
            with pytest.raises(SystemExit) as stopped:
                launch(recipe, argv)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert stopped.value.code == 75
    err = capsys.readouterr().err
    assert f"{number.name}: {told}; to continue: --run r --resume auto" in err
    assert "Trainer(" not in err
    status = json.loads(Path("r/status.json").read_text())
    assert (status["state"], status["step"], status["total"], status["reason"]) == ("stopped", step, 20, number.name)
    assert not Path("r/result.json").exists()
    launch(recipe, argv)
    assert metrics("r") == metrics("whole")
    assert json.loads(Path("r/status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize("training", [True, False])
def test_ctrl_c_that_ends_tee_as_well(home: Path, training: bool) -> None:
    """The run saves and leaves with its code, though nobody reads what it says: `2>&1 | tee log`."""
    slow = 'import time; print("up", flush=True); time.sleep(60)'
    (home / "toy_recipe.py").write_text(RECIPE if training else RECIPE.replace('return {"recall": 1 / 3}', slow))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        process = start("--run", "r", "--train.steps", "100000")
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if training:
                while not Path("r/metrics.jsonl").exists():
                    time.sleep(0.01)
                    assert process.poll() is None
            else:
                assert process.stdout.readline() == "up\n"
            process.stdout.close()
            process.stderr.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 75
        finally:
            process.kill()
    if training:
        status = json.loads(Path("r/status.json").read_text())
        assert status["state"] == "stopped"
        assert Path(f"r/checkpoints/step-{status['step']}").is_dir()


def test_a_signal_before_a_resumed_run_trains_leaves_its_status_as_it_was(
    home: Path, recipe: type[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a finished run that is measured again stays finished."""
    argv = [*DATA, "--run", "r", "--resume", "auto"]

    def asked(self: Run, model: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)

    launch(recipe, [*argv, "--train.steps", "4"])
    before = json.loads(Path("r/status.json").read_text())
    monkeypatch.setattr(recipe, "measure", asked)
    for steps, state in (("4", "finished"), ("20", "stopped")):
        with pytest.raises(SystemExit, match="75"):
            launch(recipe, [*argv, "--train.steps", steps])
        after = json.loads(Path("r/status.json").read_text())
        assert {**after, "state": "", "reason": None} == {**before, "state": ""}
        assert after["state"] == state


def test_a_recipe_may_finish_with_a_result_of_its_own(
    home: Path, recipe: type[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(settings: Run, result: dict[str, Any]) -> dict[str, Any]:
        return {"run": str(settings.run), "recall": math.nan, "deep": {"x": math.inf}, "list": [math.nan, 1]}

    launch(recipe, [*DATA, "--run", "r", "--train.steps", "1"], finish)
    assert result_of(capsys.readouterr().out) == {"run": "r", "recall": None, "deep": {"x": None}, "list": [None, 1]}


def test_recipes_are_found_by_name_or_file(home: Path, recipe: type[Run]) -> None:
    assert recipe_class(str(home / "toy_recipe.py")) is recipe
    other = home / "other.py"
    other.write_text(RECIPE.replace("class Recipe", "class Mine").replace("launch(Recipe)", "launch(Mine)"))
    mine = recipe_class(f"{other}:Mine")
    assert mine.__name__ == "Mine"
    assert name_of(mine) == f"{other}:Mine"
    odd = home / "my.pytorch" / "x.py.d"  # folders with ".py" in their names
    odd.mkdir(parents=True)
    (odd / "third.py").write_text(other.read_text())
    assert name_of(recipe_class(f"{odd / 'third.py'}:Mine")) == f"{odd / 'third.py'}:Mine"
    for name, message in (
        ("simclrr", "no recipe is named 'simclrr'"),
        (str(home / "none.py"), r"none\.py: no such file"),
        (str(other), r"other\.py has no class Recipe\(multicl\.Run\)"),
    ):
        with pytest.raises(InputError, match=message):
            recipe_class(name)


def test_an_unfinished_recipe_class_is_a_programmers_error() -> None:
    with pytest.raises(NotImplementedError, match=r"Run must define modalities\(\)"):
        Run().modalities()
    with pytest.raises(NotImplementedError, match=r"Run must define terms\(\)"):
        Run().terms()
