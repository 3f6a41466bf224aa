from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.config import from_plain, parse_arguments, read_yaml, to_plain, write_yaml
from multicl.types import InputError


@dataclass(frozen=True)
class Inner:
    rate: float = 1e-3
    steps: int | None = None
    kind: Literal["cosine", "constant", 3] = "cosine"


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Settings of every sort that a recipe may have."""

    inner: Inner = Inner()
    maybe: Inner | None = None
    flag: bool = False
    name: str = "x"
    path: Path | None = None
    range: tuple[float, float] = (0.0, 1.0)
    words: tuple[str, ...] = ()
    grid: tuple[tuple[int, int], ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    encoder: Any = "small"
    computed: int = field(default=7, init=False)

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise InputError("name must not be 'forbidden'")


@dataclass(frozen=True)
class Needy:
    must: int


numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
inners = st.builds(
    Inner, rate=numbers, steps=st.none() | st.integers(), kind=st.sampled_from(["cosine", "constant", 3])
)
outers = st.builds(
    Outer,
    inner=inners,
    maybe=st.none() | inners,
    flag=st.booleans(),
    name=texts.filter(lambda s: s != "forbidden"),
    path=st.none() | st.sampled_from([Path("a/b.jsonl"), Path("/tmp/x y"), Path()]),
    range=st.tuples(numbers, numbers),
    words=st.lists(texts, max_size=3).map(tuple),
    grid=st.lists(st.tuples(st.integers(), st.integers()), max_size=2).map(tuple),
    columns=st.dictionaries(texts, texts, max_size=2),
    factors=st.dictionaries(texts, numbers, max_size=2),
    encoder=texts | st.tuples(texts, st.integers()),
)


@settings(deadline=None, max_examples=25)
@given(outers)
def test_settings_survive_yaml_and_json(outer: Outer) -> None:
    plain = to_plain(outer)
    assert from_plain(Outer, yaml.safe_load(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))) == outer
    assert from_plain(Outer, json.loads(json.dumps(plain))) == outer


def test_a_file_of_settings_has_a_header_and_reads_back(tmp_path: Path) -> None:
    outer = Outer(inner=Inner(rate=1e-4), words=("ä", "b"), path=Path("data"))
    write_yaml(tmp_path / "r.yaml", outer, "how to\nlaunch")
    assert (tmp_path / "r.yaml").read_text(encoding="utf-8").startswith("# how to\n# launch\n")
    assert from_plain(Outer, read_yaml(tmp_path / "r.yaml")) == outer


def test_numbers_are_read_as_people_write_them_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("inner: {rate: 1e-4}\nrange: [1e-1, 2]\nfactors: {image: 3}\n")
    found = from_plain(Outer, read_yaml(tmp_path / "r.yaml"))
    assert (found.inner.rate, found.range, found.factors) == (1e-4, (0.1, 2.0), {"image": 3.0})
    assert all(isinstance(x, float) for x in (found.inner.rate, *found.range, *found.factors.values()))


def test_numpy_scalars_are_plain_numbers() -> None:
    import numpy as np

    plain = to_plain(Inner(rate=np.float64(0.5)))
    assert yaml.safe_load(yaml.safe_dump(plain)) == {"rate": 0.5, "steps": None, "kind": "cosine"}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"inner": {"raet": 1.0}}, r"unknown key 'inner\.raet'; did you mean 'inner\.rate'\?"),
        ({"zzz": 1}, r"unknown key 'zzz'; there are \['inner', 'maybe'"),
        ({"maybe": {"rat": 1.0}}, r"unknown key 'maybe\.rat'; did you mean 'maybe\.rate'"),
        ({3: 1}, r"unknown key '3'"),
        ({"inner": {"rate": "fast"}}, r"inner\.rate: expected a number, got 'fast'"),
        ({"inner": {"rate": True}}, r"inner\.rate: expected a number, got True"),
        ({"inner": {"rate": None}}, r"inner\.rate: expected a number, got None"),
        ({"inner": {"steps": 1.5}}, r"inner\.steps: expected int, got 1\.5"),
        ({"inner": {"steps": True}}, r"inner\.steps: expected int, got True"),
        ({"inner": {"kind": "cosin"}}, r"inner\.kind: 'cosin' is not one of"),
        ({"inner": [1]}, r"inner: expected keys and values, got \[1\]"),
        ({"flag": "yes"}, r"flag: expected bool, got 'yes'"),
        ({"name": 3}, r"name: expected str, got 3"),
        ({"path": 3}, r"path: expected Path, got 3"),
        ({"range": [1.0]}, r"range: expected 2 values, got \[1\.0\]"),
        ({"range": [1.0, "x"]}, r"range\[1\]: expected a number, got 'x'"),
        ({"words": "abc"}, r"words: expected a list, got 'abc'"),
        ({"grid": [[1, 2], [3, "4"]]}, r"grid\[1\]\[1\]: expected int, got '4'"),
        ({"columns": ["a"]}, r"columns: expected keys and values"),
        ({"factors": {"image": "x"}}, r"factors\.image: expected a number"),
        ({"computed": 3}, r"unknown key 'computed'"),
        ({"name": "forbidden"}, "name must not be 'forbidden'"),
        ([1], r"Outer: expected keys and values, got \[1\]"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_full_key(plain: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_plain(Outer, plain)


def test_a_missing_key_without_default_is_named() -> None:
    with pytest.raises(InputError, match=r"missing key 'a\.b\.must'"):
        from_plain(Needy, {}, "a.b")


def test_an_object_is_recorded_by_its_class_and_refused_on_rebuild() -> None:
    from torch import nn

    plain = to_plain(Outer(encoder=nn.Linear(2, 2)))
    assert plain["encoder"] == {"object": "torch.nn.modules.linear.Linear"}
    with pytest.raises(InputError, match=r"encoder: torch\.nn\.modules\.linear\.Linear is a Python object"):
        from_plain(Outer, plain)
    assert from_plain(Outer, {"columns": {"object": "thing"}}).columns == {"object": "thing"}


@dataclass(frozen=True)
class Finer(Inner):
    grain: int = 1


@dataclass(frozen=True)
class Narrow:
    one: Inner = Finer()
    other: Inner = field(default_factory=lambda: Finer(grain=2))


def test_a_default_of_a_subclass_says_what_a_file_may_hold(tmp_path: Path) -> None:
    given = Narrow(one=Finer(rate=0.5, grain=3))
    assert from_plain(Narrow, to_plain(given)) == given
    write_yaml(tmp_path / "a.yaml", given)
    words = ["--config", str(tmp_path / "a.yaml"), "--other.grain", "4"]
    assert parse_arguments(Narrow, words) == Narrow(given.one, Finer(grain=4))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "", b"\xff\xfe\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"r\.yaml"):
        read_yaml(path)
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_a_command_line_overrides_a_file(tmp_path: Path) -> None:
    write_yaml(tmp_path / "r.yaml", {"recipe": "r", **to_plain(Outer(inner=Inner(rate=0.5, steps=3), name="file"))})
    for argv in (
        ["--config", str(tmp_path / "r.yaml"), "--inner.steps", "9"],
        ["--inner.steps", "9", f"--config={tmp_path / 'r.yaml'}"],
    ):
        found = parse_arguments(Outer, argv, skip=["recipe"])
        assert found == Outer(inner=Inner(rate=0.5, steps=9), name="file")


@pytest.mark.parametrize("argv", [["--config"], ["--config="]])
def test_config_needs_a_file(argv: list[str]) -> None:
    with pytest.raises(InputError, match="--config needs a file"):
        parse_arguments(Outer, argv)


def test_a_refused_setting_is_one_error_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^name must not be 'forbidden'$"):
        parse_arguments(Outer, ["--name", "forbidden"])
    assert capsys.readouterr() == ("", "")


def test_a_quiet_process_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["--nme", "x"]):
        with pytest.raises(SystemExit):
            parse_arguments(Outer, argv, header="Header.", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_help_whose_reader_leaves_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `--help | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as stopped:
            parse_arguments(Inner, ["--help"], header="a line\n" * 20_000)
    assert stopped.value.code == 0
