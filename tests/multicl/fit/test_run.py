"""Data of one's own, from the path to the figures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import media
import pytest

from multicl import InputError, Train
from multicl.cli import main
from multicl.commands.report import report
from multicl.config import read_yaml
from multicl.evaluation import held_out
from multicl.fit.run import fit, seconds_a_step
from multicl.launcher import recipe_class


def test_a_folder_with_a_split_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.report.plane.find_spec", lambda name: None)  # UMAP compiles for 10 s
    data = media.folder(tmp_path / "things")
    run = tmp_path / "runs" / "a"
    main(["fit", str(data), "--run", str(run), "--minutes", "0.001", "--train.lr", "1e-4"])
    said = capsys.readouterr().out
    assert "32 rows to train on, 12 held out, the split 'test'" in said
    result = json.loads(said.splitlines()[-1].removeprefix("RESULT "))
    assert result["steps"] == 10
    assert "data:image/png" in (run / "report.html").read_text(encoding="utf-8")
    assert {"image_to_text_recall@1", "audio_to_text_recall@1", "text_to_audio_recall@10"} <= set(result)
    assert read_yaml(run / "recipe.yaml")["train"]["lr"] == 1e-4
    with pytest.raises(InputError, match="exists"):
        fit(str(data), run)
    with pytest.raises(InputError, match=r"cannot be written.* or give another --run"):
        fit(str(data), run / "recipe.yaml" / "b")
    with pytest.raises(InputError, match=r"cannot be written.* or give another --out"):
        report(run, run)


def test_a_split_without_classes_measures_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """ImageNet's folder of classes, beside a test split of files alone."""
    for i in range(26):
        place = tmp_path / "imagenet" / ("test" if i < 4 else f"train/n0{i % 2}/images")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(media.png(i % 2, seed=i))
    file = fit(str(tmp_path / "imagenet"), tmp_path / "run", minutes=0.001, dry_run=True)
    assert "20 rows to train on, 2 held out, a random tenth" in capsys.readouterr().out
    assert any("(test) has no label: rows of 'train' are held out instead" in line for line in caplog.messages)
    recipe = recipe_class(str(file))()
    assert set(recipe.measure(recipe.trainer().model)) == {"image_knn_1"}


def test_a_folder_of_pictures_by_class_and_no_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(24):
        place = tmp_path / "pets" / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(media.png(i % 2, seed=i))
    file = fit(str(tmp_path / "pets"), tmp_path / "run", minutes=0.001, dry_run=True)
    said = capsys.readouterr().out
    assert "22 rows to train on, 2 held out, a random tenth" in said
    recipe = recipe_class(str(file))()
    assert recipe.data.test == "held-out"
    assert [(pair.a, pair.b) for pair in recipe.terms()] == [("image", "image")]
    assert set(recipe.measure(recipe.trainer().model)) == set(recipe.baseline()) == {"image_knn_1"}
    assert not (tmp_path / "run").exists()


def test_a_run_on_rows_held_back_ends_with_its_page_and_is_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(24):
        place = tmp_path / "pets" / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(media.png(i % 2, seed=i))
    (tmp_path / "pets" / "cat" / "broken.png").write_bytes(b"no picture")
    run = tmp_path / "run"
    main(["fit", str(tmp_path / "pets"), "--run", str(run), "--minutes", "0.001"])
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if line.startswith("left out: ")]
    assert str(Path("cat") / "broken.png: not a picture") in line
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page
    assert "<title>run: image" in page
    assert re.search(r'"groups": ?\["(cat|dog)"', page)
    main(["eval", str(run)])
    again = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert again["image_knn_1"] == json.loads((run / "result.json").read_text(encoding="utf-8"))["image_knn_1"]
    (run / "result.json").unlink()  # as of a run that is killed in its last evaluation
    report(run)
    lacks = f"{run} has no figures yet: finish it with --run {run} --resume auto"
    assert lacks in capsys.readouterr().out
    assert lacks in (run / "report.html").read_text(encoding="utf-8")


def test_pictures_without_labels_are_measured_by_their_views(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(40):
        (tmp_path / "photos" / f"{i}.png").write_bytes(media.png(i, seed=i))
    main(["fit", str(tmp_path / "photos"), "--run", str(tmp_path / "run"), "--minutes", "0.001"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    named = {"image_view_recall@1", "image_view_recall@10"}
    assert named == set(result["untrained"]) == set(result["baseline"])
    assert all(0 <= result[name] <= 1 for name in named)
    assert result["image_view_recall@10"] == 1  # of 4


def test_a_try_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(recipe: object) -> float:
        raise InputError("no such weights")

    monkeypatch.setattr("multicl.fit.run.seconds_a_step", fails)
    data = tmp_path / "a.csv"
    data.write_text("text\n" + "".join(f"the words of row {i}\n" for i in range(40)))
    for _ in range(2):
        with pytest.raises(InputError, match="no such weights"):
            fit(str(data), tmp_path / "run")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}


@pytest.mark.parametrize("flags", [["--train.stpes", "3"], ["--train.lr", "-1"], ["--train.seed", "1,1"]])
def test_a_wrong_flag_is_told_before_steps_are_timed_and_leaves_nothing_behind(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: pytest.fail("a step is timed"))
    data = tmp_path / "a.csv"
    data.write_text("text\n" + "".join(f"the words of row {i}\n" for i in range(40)))
    with pytest.raises((InputError, SystemExit)):
        fit(str(data), tmp_path / "run", flags=flags)
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert ("a.csv --dry-run, then python RECIPE.py --help" in said) == (flags[0] == "--train.stpes")


def test_texts_alone_are_said_to_have_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: 1.0)
    (tmp_path / "a.txt").write_text("".join(f"the words of row {i}\n" for i in range(40)))
    (tmp_path / "b.csv").write_text("text,more\n" + "".join(f"the words of row {i},and {i} more\n" for i in range(40)))
    for name, unmeasured in (("a.txt", True), ("b.csv", False)):
        fit(str(tmp_path / name), tmp_path / name[0], dry_run=True)
        assert ("nothing is measured: that needs a second column to find" in capsys.readouterr().out) == unmeasured


def test_a_steps_time_is_that_of_a_process_that_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("multicl.fit.run.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    @dataclass(frozen=True)
    class Timed:
        """Three seconds to begin, 0.5 a step; the first call of all takes 1.5 more."""

        train: Train
        run: Path | None = None

        def trainer(self) -> Any:
            return SimpleNamespace(fit=self._fit)

        def _fit(self) -> None:
            assert self.train.steps is not None
            clock[0] += 3.0 + 0.5 * self.train.steps + (0.0 if clock[0] else 1.5)

    assert seconds_a_step(Timed(Train())) == pytest.approx(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", ["--minuts", "--minutess=3", "--dryrun", "--pre-trained"])
def test_a_misspelt_flag_of_the_command_is_told_the_right_one(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = {"--dryrun": "--dry-run", "--pre-trained": "--pretrained"}.get(flag, "--minutes")
    with pytest.raises(SystemExit):
        main(["fit", "nowhere.csv", flag])
    assert f"did you mean {name}?" in capsys.readouterr().err


def test_steps_are_timed_with_the_flags_and_a_dry_run_tells_how_to_train_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: list[Any] = []
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: timed.append(recipe) or 3.0)
    data, run = tmp_path / "a b.csv", tmp_path / "my run"
    data.write_text("text\n" + "".join(f"the words of row {i}\n" for i in range(80)))
    fit(str(data), run, minutes=1, dry_run=True, flags=["--train.batch-size", "2"])
    assert [recipe.train.batch_size for recipe in timed] == [2]
    said = capsys.readouterr().out.splitlines()
    assert said[-3] == "  20 steps (0.6 epochs), 3 s each: about 1.0 minutes"
    assert f"`accelerate launch '{run}.py'`" in said[-2]
    assert f"\naccelerate launch '{run}.py' --run runs/NAME\n" in run.with_name("my run.py").read_text()
    assert said[-1] == f"to train: python '{run}.py' --run '{run}' --train.batch-size 2"
    with pytest.raises(InputError, match=f"python '{run}.py' --run '{run}' --resume auto"):
        fit(str(data), run, dry_run=True)
    fit(str(data), tmp_path / "other", dry_run=True, flags=["--train.epochs", "3"])
    assert "minutes; your flags set other steps" in capsys.readouterr().out
    fit(str(data), tmp_path / "long", minutes=600, dry_run=True)
    assert "minutes; more would show each row over 100 times\n" in capsys.readouterr().out


def test_any_name_of_a_column_gives_a_recipe_that_python_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: 3.0)
    names = ['a """b', "c\\x\nd", 'e"']
    rows = [{names[0]: f"text {i}", names[1]: i % 2, names[2]: f"another text {i}"} for i in range(40)]
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_class(str(fit(str(data), tmp_path / "run", dry_run=True)))()
    assert {node.column for node in recipe.modalities().values()} == {names[0], names[2]}
    assert "text_1_knn_1" in recipe.measure(recipe.trainer().model)


def test_two_rows_are_held_back_where_a_tenth_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(8):
        (tmp_path / "photos" / f"{i}.png").write_bytes(media.png(i))
    run = tmp_path / "run"
    main(["fit", str(tmp_path / "photos"), "--run", str(run), "--minutes", "0.001"])
    said = capsys.readouterr().out
    assert "6 rows to train on, 2 held out, drawn at random" in said
    assert "  2 held-out rows are few: figures are rough, and recall@10 is 100% by chance" in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULT "))["steps"] > 0
    for i in range(3, 8):
        (tmp_path / "photos" / f"{i}.png").unlink()
    with pytest.raises(InputError, match="2 rows to train on and 1 held out"):
        fit(str(tmp_path / "photos"), tmp_path / "other")


def test_held_out_rows_that_are_trained_on_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: 3.0)
    (tmp_path / "set" / "pictures").mkdir(parents=True)
    for i in range(30):
        (tmp_path / "set" / "pictures" / f"{i}.png").write_bytes(media.png(i % 25, seed=i % 25))  # 25 .. 29 are copies
    for split, numbers, word in (("train", range(20), "one"), ("test", range(15, 30), "another")):
        lines = [f"pictures/{i}.png,{word if i == 16 else 'a'} picture of {i % 25}\n" for i in numbers]
        (tmp_path / "set" / f"{split}.csv").write_text("image,caption\n" + "".join(lines))
    fit(str(tmp_path / "set"), tmp_path / "run", dry_run=True)
    said = capsys.readouterr().out  # of 15 .. 19 and copies of 0 .. 4 all but 16, whose words are others
    assert "  9 of 15 held-out rows are copies of training rows" in said
    assert "9 of 15 held-out rows" in (tmp_path / "run.py").read_text(encoding="utf-8")
    fit(str(tmp_path / "set"), tmp_path / "trained", minutes=0.001)
    assert capsys.readouterr().out.count("9 of 15 held-out rows are copies") == 1
    assert "9 of 15 held-out rows" in (tmp_path / "trained.py").read_text(encoding="utf-8")
    monkeypatch.setattr("multicl.copies.MOST", 34)
    fit(str(tmp_path / "set"), tmp_path / "other", dry_run=True)
    assert "copies of training rows" not in capsys.readouterr().out


def test_captions_of_one_picture_are_held_out_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: 3.0)
    for i in range(30):
        (tmp_path / f"{i}.png").write_bytes(media.png(i, seed=i))
    lines = [f"{i % 30}.png,caption {i} of picture {i % 30}\n" for i in range(90)]
    (tmp_path / "pairs.csv").write_text("image,caption\n" + "".join(lines))
    file = fit(str(tmp_path / "pairs.csv"), tmp_path / "run", dry_run=True)
    said = capsys.readouterr().out
    assert "81 rows to train on, 9 held out, a random tenth, with all rows of one image on one side" in said
    data = recipe_class(str(file))().data
    kept, back = (set(rows.column("image")) for rows in (data.open(), data.open(data.test)))
    assert len(back) == 3
    assert not kept & back
    (tmp_path / "once.csv").write_text("image,caption\n" + "".join(lines[:30]))
    fit(str(tmp_path / "once.csv"), tmp_path / "other", dry_run=True)
    assert "together" not in capsys.readouterr().out + (tmp_path / "other.py").read_text(encoding="utf-8")


def test_neighbours_are_rows_of_all_classes_of_a_table_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"text {i},{'a' if i < 24_000 else '' if i < 26_000 else 'b'}\n" for i in range(30_000)]
    (tmp_path / "words.csv").write_text("text,label\n" + "".join(lines))
    seen: list[Any] = []
    monkeypatch.setattr(
        held_out, "knn", lambda _, __, ___, bank, test, label, k: seen.extend(bank.column(label)) or {"knn": k}
    )
    file = fit(str(tmp_path / "words.csv"), tmp_path / "run", minutes=0.001, dry_run=True)
    recipe: Any = recipe_class(str(file))()
    assert recipe.probe(None, "text") == {"text_knn": 200}
    assert len(seen) <= 20_000
    assert set(seen) == {"a", "b", None}


def test_captions_beside_pictures_that_nothing_reads_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "more").mkdir()
    for i in range(24):
        (folder / ("more" * (i % 2)) / f"{i}.png").write_bytes(media.png(i % 2, seed=i))
    (folder / "captions.csv").write_text("image,caption\n" + "".join(f"{i}.png,a pet, {i}\n" for i in range(24)))
    (folder / "more.heic").write_bytes(b"a picture")
    fit(str(folder), tmp_path / "run", minutes=0.001, dry_run=True)
    said = capsys.readouterr().out
    assert f"  1 .heic are left out ({folder / 'more.heic'} ...): write them as .png" in said
    assert "no classes are read: they would be the folders that hold the files" in said
    assert (
        f"captions.csv beside them is not read: to read it, and the files that it names, give its path ({folder}"
        in said
    )


def test_several_processes_are_told_that_the_recipe_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"one process.*--dry-run"):
        fit("x.csv", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="--minutes"):
        fit("nowhere", minutes=0)


def test_a_recipe_has_explicit_negatives(tmp_path: Path) -> None:
    rows = [{name: f"{name} {i}" for name in ("query", "positive", "negative")} for i in range(24)]
    (tmp_path / "triplets.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = fit(str(tmp_path / "triplets.jsonl"), tmp_path / "run", dry_run=True, minutes=0.01)
    (pair,) = recipe_class(str(file))().terms()
    assert (pair.a, pair.b, pair.negatives) == ("query", "positive", "negative")
