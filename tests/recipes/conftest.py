"""What the tests of recipes share: a tiny data set, the smallest encoders, and a launch within this process."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import media
import pytest
import torch

from multicl.evaluation import held_out
from multicl.evaluation.figure import Figure
from multicl.launcher import launch
from multicl.run import Run

BYTES = "--text.encoder small --text.width 16 --text.heads 2 --text.layers 1"
TINY = {
    "simclr": "--image.encoder small --image.stem default --image.size 16 --bank 32",
    "moco": "--image.encoder small --image.stem default --image.size 16 --bank 32 --queue 20",
    "instdisc": "--image.encoder small --image.stem default --image.size 16 --bank 32 --objective.negatives 64",
    "supcon": "--image.encoder small --image.stem default --image.size 16 --bank 32",
    "simclr_audio": "--audio.rate 8000",
    "cola": "--audio.rate 8000 --head.dim 16",
    "cmc_audio": "--wave.rate 8000 --mel.rate 8000",
    "siglip": f"--image.size 16 {BYTES}",
    "swav": "--image.encoder small --image.stem default --image.size 16 --bank 32 --objective.prototypes 12 "
    "--objective.frozen-steps 1 --local-draws 1 --queue 8",
    "semi": "--image.encoder small --image.stem default --image.size 16 --data.labels 0.5",
    "cmc": "--image.encoder small --image.stem default --image.size 16 --bank 32",
    "cross_view": "--data.columns a image b image --image.size 16",
    "simcse": "--text.encoder small --text.width 16 --text.heads 2 --text.layers 1 --head.dim 8",
    "simcse_nli": f"--data.columns anchor text positive text --head.dim 8 {BYTES}",
    "lit": f"--image.encoder small --image.size 16 {BYTES}",
    "bind": f"--core text --image.size 16 16 {BYTES}",
    "scored_pairs": f"--data.columns sentence1 text sentence2 text score label {BYTES}",
    "clip": f"--image.size 16 {BYTES}",
    "pairs": f"--data.columns query text document text --mine.start 1 --mine.every 2 {BYTES}",
    "clap": f"--audio.rate 8000 {BYTES}",
}


@dataclass(frozen=True)
class Launched:
    """What a user sees of a launch."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The content of the only line RESULT, which is the last one."""
        last = self.out.splitlines()[-1]
        assert last.startswith("RESULT "), self.out + self.err
        assert self.out.count("RESULT ") == 1
        found: dict[str, Any] = json.loads(last.removeprefix("RESULT "), parse_constant=lambda c: pytest.fail(c))
        return found

    @property
    def refusal(self) -> str:
        """The one-line answer to a user's mistake, with exit code 2."""
        assert self.code == 2, self.out + self.err
        assert "RESULT" not in self.out
        said = [line for line in self.err.splitlines() if line.startswith("multicl: ")]
        assert len(said) == 1, self.err
        assert self.err.endswith(f"{said[0]}\n")
        assert "Traceback" not in self.err
        return said[0].removeprefix("multicl: ")


@pytest.fixture(scope="session")
def tiny() -> dict[str, list[str]]:
    """Recipe -> flags that make it small."""
    return {name: flags.split() for name, flags in TINY.items()}


@pytest.fixture(scope="session")
def recipe_of() -> Callable[[str], type[Run]]:
    """Name -> the shipped recipe's class."""
    return lambda name: importlib.import_module(f"multicl.recipes.{name}").Recipe  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 32 rows to train on and 12 held out, with scored sentences in sts/ beside it; read-only."""
    folder = media.folder(tmp_path_factory.mktemp("tiny") / "data")
    media.write(folder.parent / "sts" / "test.parquet", media.scored())
    return folder


@pytest.fixture(scope="session")
def launched(recipe_of: Callable[[str], type[Run]], tiny: dict[str, list[str]], data: Path) -> Callable[..., Launched]:
    """launched(name, *flags): a recipe with the smallest encoders, four steps of eight rows, on `data`."""

    def start(name: str, *flags: str, path: str | Path | None = data) -> Launched:
        sts = ["--sts", str(data.parent / "sts")] if name.startswith(("simcse", "scored")) else []
        where = [] if path is None else ["--data.path", str(path)]
        steps = ["--train.steps", "4", "--train.batch-size", "8", "--train.lr", "3e-3"]
        return called(lambda: launch(recipe_of(name), [*where, *sts, *tiny[name], *steps, *flags]))

    return start


def called(command: Callable[[], Any]) -> Launched:
    """Call it and capture output and exit code; exceptions other than SystemExit pass through."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Launched(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def call() -> Callable[[Callable[[], Any]], Launched]:
    """See `called`."""
    return called


@pytest.fixture(autouse=True, scope="module")
def rough_figures() -> Iterator[None]:
    """Probes of few iterations, intervals of few draws: tests here compare only figures made in the same way."""
    probe, interval = held_out.linear_probe, Figure.interval

    def rough(figure: Figure, *args: Any, **options: Any) -> tuple[float, float]:
        figure.draws = 50
        return interval(figure, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "linear_probe", lambda *sides, **how: probe(*sides, **{**how, "max_iter": 5}))
        patch.setattr(Figure, "interval", rough)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One thread, as in the processes that tests start, so that sums are the same bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
