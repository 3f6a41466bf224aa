"""The examples run and print what they promise."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from notebook import INSTALL, NOTEBOOK, SCRIPT, written

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "ten_lines.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for colour in ("red", "green", "blue", "yellow"):
        assert f"a {colour} picture finds: a {colour} square" in printed


def test_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_loop.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[3]) for line in lines if line.startswith("step")]
    assert losses[-1] < losses[0] / 2
    moco, chance = map(float, re.findall(r"MoCo (\S+) .* chance is (\S+)", "\n".join(lines))[0])
    assert moco < chance / 2
    assert int(lines[-2].split()[-1]) > 20  # prototypes of 32
    assert int(next(line for line in lines if "recall@1" in line).split()[-1].rstrip("%")) > 80
    assert float(re.search(r"differs by (\S+)", lines[-1])[1]) < 1e-5  # type: ignore[index]


def test_own_images(capsys: pytest.CaptureFixture[str]) -> None:
    said = re.search(r"the same pattern: (\d+) of 120", printed("own_images.py", capsys))
    assert said
    assert int(said[1]) > 110  # 100 after one step


def test_own_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed("own_sentences.py", capsys)
    assert re.findall(r"\((\w+)\)", said) == ["boats"] * 2 + ["food"] * 2 + ["weather"] * 2


def test_own_sounds(capsys: pytest.CaptureFixture[str]) -> None:
    label, speaker = map(int, re.findall(r"same \w+: (\d+)%", printed("own_sounds.py", capsys)))
    assert label > 60
    assert speaker > 40


def test_own_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed("own_pairs.py", capsys)
    assert "baby cat: an animal that is young and a kind of feline" in said
    assert int(said.split()[-1].rstrip("%")) > 80


def test_own_modality(capsys: pytest.CaptureFixture[str]) -> None:
    right = [int(n) for n in re.findall(r": (\d+) of 10", printed("own_modality.py", capsys))]
    assert len(right) == 4
    assert sum(right) > 30


def test_own_search(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed("own_search.py", capsys)
    assert "100 rows added\n60 more" in said
    assert re.findall(r"row \d+, (\w+),", said) == ["blue"] * 3 + ["green"] * 3 + ["yellow"] * 3
    assert said.count("green, shelf 3") == 3


def test_seven_steps_as_its_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """The cells are all of seven_steps.py, so that the script need not be run as well."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text == written(SCRIPT.read_text(encoding="utf-8")), "run python tests/support/notebook.py"
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert cells[0] == INSTALL
    names: dict[str, object] = {}
    for cell in cells[1:]:
        exec(cell, names)
    said = capsys.readouterr().out
    by_hand, ours = map(float, re.findall(r"([\d.]+) by", said))
    assert by_hand == pytest.approx(ours, abs=2e-4)
    right = [float(x) for x in re.findall(r"right ([\d.]+)%", said)]
    assert right[-1] > right[0] + 15


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text()
    assert all(path.name in tested for path in EXAMPLES.glob("*.py"))
