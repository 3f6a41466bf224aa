from __future__ import annotations

from dataclasses import dataclass

import pytest

from multicl.config import parse_arguments
from multicl.recipes import clap, clip, moco, pairs
from multicl.synonyms import ELSEWHERE, NAMES, hints


@dataclass(frozen=True)
class Train:
    lr: float = 1.0
    batch_size: int = 1


@dataclass(frozen=True)
class Eye:
    encoder: str = "small"


@dataclass(frozen=True)
class Settings:
    """As of a recipe."""

    train: Train = Train()
    image: Eye = Eye()
    text: Eye = Eye()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--learning_rate", "0.1"], ["--learning-rate is called --train.lr here"]),
        (["--learning-rate=0.1", "--train.lr", "2"], ["--learning-rate is called --train.lr here"]),
        (["--backbone", "resnet50"], ["--backbone is called --image.encoder, --text.encoder here"]),
        (["--warmup-steps", "9"], []),  # a setting that this class has not got
        (["--train.lr", "learning-rate", "--foo"], []),
    ],
)
def test_names_of_others_lead_on_to_ours(words: list[str], lines: list[str]) -> None:
    assert hints(Settings, words) == lines


def test_numbers_of_processes_are_the_launchers() -> None:
    (line,) = hints(Settings, ["--gpus", "2"])
    assert "accelerate launch --num_processes 2" in line


def test_what_is_no_flag_of_ours_says_what_is_done_instead() -> None:
    (line,) = hints(Settings, ["--gather-with-grad"])
    assert line == "--gather-with-grad is not needed: the loss is exact over all processes"


def test_every_flag_that_we_lead_on_to_is_some_recipes() -> None:
    for ours, theirs in NAMES.items():
        found = [hints(recipe.Recipe, [f"--{name}"]) for recipe in (moco, clip, clap, pairs) for name in theirs.split()]
        assert any(f"--{ours}" in line or f".{ours}" in line for lines in found for line in lines), ours
    names = [name for names in (*NAMES.values(), *ELSEWHERE.values()) for name in names.split()]
    assert len(names) == len(set(names))


def test_a_wrong_flag_prints_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(Settings, ["--learning_rate", "0.1"])
    assert capsys.readouterr().err.endswith("\n--learning-rate is called --train.lr here\n")
    with pytest.raises(SystemExit):
        parse_arguments(Settings, ["--learning_rate", "0.1"], quiet=True)
    assert capsys.readouterr().err == ""


def test_underscores_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_arguments(Settings, ["--image.encoder=a_b", "--train.batch_size", "3"]) == Settings(
        train=Train(batch_size=3), image=Eye("a_b")
    )
    with pytest.raises(SystemExit):
        parse_arguments(Settings, ["--batch_size", "3"])
    assert "--train.batch-size" in capsys.readouterr().err
