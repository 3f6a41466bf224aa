from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import multicl
from multicl import cli
from multicl.commands.arguments import build_parser


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recipes and what is no recipe, in place of the shipped ones."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Not a recipe."""')
    (folder / "alpha.py").write_text('"""Alpha (arXiv:1): the first.\n\nMore.\n"""\nX = "ä"\n', encoding="utf-8")
    (folder / "much_longer_name.py").write_text("X = 2\n")
    monkeypatch.setattr(cli, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(folder)]))
    return folder


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_help_says_of_every_argument_of_every_command_what_it_is() -> None:
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    told = {(name, a.dest): a.help for name, command in commands.choices.items() for a in command._actions}
    assert ("export", "imports") in told
    assert [where for where, text in told.items() if not text] == []


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom multicl.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'numpy', 'transformers', 'datasets', 'tyro', 'yaml'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "multicl demo" in done.stdout


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in ("demo", "eval", "embed", "export", "recipes", "info"))


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "multicl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{multicl.__version__}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{multicl.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["evil"], "evil"),
        (["eval"], "RUN"),
        (["embed", "run"], "--data"),
        (["embed", "run", "--data", "x", "--out", "y.parquet", "--batch-size", "many"], "many"),
    ],
)
def test_a_bad_command_line_ends_with_2(argv: list[str], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert names in refused(argv, capsys)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["eval", "R", "--batch-size", "8"], "multicl: --batch-size works only with --measure"),
        (["eval", "R", "--pairs", "a-b", "--measure", "knn"], "multicl: --pairs cannot be combined with --measure"),
        (["eval", "no-such-run"], "multicl: no-such-run is not a run: there is no such folder\n"),
        (["embed", "./none", "--data", "x.csv", "--out", "y.parquet"], "multicl: no such folder: ./none\n"),
        (["embed", "r", "--data", "x", "--out", "y.csv"], "multicl: --out must end in .parquet, got y.csv\n"),
        (
            ["embed", "r", "--data", "x", "--out", "y.parquet", "--columns", "ab"],
            "--columns takes NODE=COLUMN, got 'ab'",
        ),
        (["embed", "r", "--data", "x", "--out", "y.parquet", "--import", "z.py"], "z.py: no such file"),
    ],
)
def test_a_mistake_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(argv, capsys)
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["demo", "--train.step", "3"], "multicl demo"),
        (["views", "simclr", "--train.step", "3"], "python -m multicl.recipes.simclr"),
    ],
)
def test_a_wrong_flag_of_a_recipe_names_the_command_whose_help_has_the_right_ones(
    argv: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = " ".join(refused(argv, capsys).replace("│", " ").split())
    assert f"For full helptext, run {command} --help" in said


def test_help_may_be_read_in_part() -> None:
    line = [sys.executable, "-m", "multicl", "demo", "--help"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as helping:
        assert helping.stdout is not None
        assert helping.stderr is not None
        assert helping.stdout.readline().startswith("Spoken codes")
        helping.stdout.close()
        assert helping.stderr.read() == ""
    assert helping.returncode == 0


def test_recipes_are_listed_by_the_first_lines_of_their_headers(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["recipes"])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["alpha", "Alpha (arXiv:1): the first."]
    assert second.strip() == "much_longer_name"
    assert first.index("Alpha") > len("much_longer_name")  # a column


def test_a_recipe_is_shown_as_it_is(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["recipes", "alpha"])
    assert capsys.readouterr().out == (shelf / "alpha.py").read_text(encoding="utf-8")


def test_a_recipe_is_copied_but_never_over_a_file(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["recipes", "alpha", "--copy"])
    assert (tmp_path / "alpha.py").read_bytes() == (shelf / "alpha.py").read_bytes()
    assert "accelerate launch alpha.py" in capsys.readouterr().out
    (tmp_path / "alpha.py").write_text("edited")
    assert "alpha.py exists already: give --copy another name" in refused(["recipes", "alpha", "--copy"], capsys)
    assert (tmp_path / "alpha.py").read_text() == "edited"
    cli.main(["recipes", "alpha", "--copy", "my own.py"])
    assert "accelerate launch 'my own.py'" in capsys.readouterr().out
    cli.main(["recipes", "alpha", "--copy", "mine.py"])
    assert (tmp_path / "mine.py").read_bytes() == (shelf / "alpha.py").read_bytes()
    assert "no such folder: nowhere" in refused(["recipes", "alpha", "--copy", "nowhere/mine.py"], capsys)
    assert "a FILE.py, got mine\n" in refused(["recipes", "alpha", "--copy", "mine/"], capsys)  # a folder not yet there
    assert not (tmp_path / "mine").exists()
    monkeypatch.setattr("shutil.copyfile", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "cannot be written: [Errno 13]" in refused(["recipes", "alpha", "--copy", "other.py"], capsys)


def test_an_unknown_recipe_is_refused_with_the_nearest(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no recipe is named 'alhpa'; did you mean 'alpha'?" in refused(["recipes", "alhpa"], capsys)
    assert "there are ['alpha', 'much_longer_name']" in refused(["recipes", "zzzz"], capsys)
    assert "--copy needs the recipe's name: multicl recipes NAME --copy" in refused(["recipes", "--copy"], capsys)


def test_the_shipped_recipes_have_headers(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["recipes"])
    listed = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith("Launch")]
    assert all(len(line.split()) > 2 for line in listed)


def test_info_runs(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["info"])
    assert f"multicl {multicl.__version__}" in capsys.readouterr().out


def test_flags_reach_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("multicl.commands.model.embed", lambda *args, **options: calls.append((args, options)))
    monkeypatch.setattr("multicl.commands.model.evaluate", lambda *args: calls.append(args))
    file = tmp_path / "my_cli_adapter.py"
    file.write_text("")
    line = "embed R --data D --out V.parquet --split s --nodes a b --columns a=x b=y=z --space features --batch-size 9"
    cli.main([*line.split(), "--on-error", "raise", "--import", str(file)])
    cli.main(["eval", "R", "--data", "D", "--test", "T", "--columns", "image=picture"])
    options = {"split": "s", "nodes": ["a", "b"], "columns": {"a": "x", "b": "y=z"}, "space": "features"}
    assert calls == [
        (("R", "D", Path("V.parquet")), {**options, "batch_size": 9, "on_error": "raise"}),
        (Path("R"), "D", "T", [], None, {"image": "picture"}),
    ]
    assert "my_cli_adapter" in sys.modules
