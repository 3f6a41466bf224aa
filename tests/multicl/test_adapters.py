from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys import Vectors

from multicl import adapters
from multicl.types import InputError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registrations, modules and paths as they were."""
    monkeypatch.setattr(adapters, "_registered", dict(adapters._registered))
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    adapters._installed.cache_clear()
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def point(name: str, value: str, distribution: str) -> EntryPoint:
    made = EntryPoint(name, value, adapters.GROUP)
    vars(made)["dist"] = SimpleNamespace(name=distribution, version="1.0")
    return made


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    adapters._installed.cache_clear()
    monkeypatch.setattr(adapters, "entry_points", lambda group: [p for p in points if p.group == group])


def test_the_shipped_adapters_are_found_unloaded() -> None:
    points = adapters.entry_point_names()
    assert {n: points[n].value for n in ("image", "text", "audio")} == {
        "image": "multicl.modalities.image:Image",
        "text": "multicl.modalities.text:Text",
        "audio": "multicl.modalities.audio:Audio",
    }


def test_two_adapters_of_one_name_are_refused_and_both_distributions_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, point("video", "one.video:Video", "video-one"), point("video", "two:Video", "video-two"))
    with pytest.raises(InputError, match=r"'video': one\.video:Video of video-one and two:Video of video-two"):
        adapters.adapter("video")


def test_the_same_adapter_listed_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, *(point("toy", "toys:Vectors", dist) for dist in ("toys", "toys-again")))
    assert adapters.adapter("toy") is Vectors


def test_distributions_are_read_once_and_again_when_one_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[str] = []
    packages = tmp_path / "packages"
    monkeypatch.setattr(sys, "path", [str(packages), str(tmp_path)])  # the first is not there yet
    monkeypatch.setattr(adapters, "entry_points", lambda group: read.append(group) or entry_points(group=group))
    adapters._installed.cache_clear()
    assert [adapters.entry_point_names() for _ in range(3)] == [{}] * 3
    assert read == [adapters.GROUP]
    info = packages / "video-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: video\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{adapters.GROUP}]\nvideo = toys:Vectors\n")
    assert adapters.adapter("video") is Vectors
    assert len(read) == 2


def test_an_unknown_adapter_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"no adapter named 'vido'.*'audio'.*'vectors'.*--import"):
        adapters.adapter("vido")


def test_a_broken_plug_in_is_named_with_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, point("a", "no_such_module:A", "broken-a"), point("b", "toys:Nothing", "broken-b"))
    with pytest.raises(InputError, match=r"adapter 'a' of broken-a cannot be imported.*no_such_module"):
        adapters.adapter("a")
    with pytest.raises(InputError, match="adapter 'b' of broken-b"):
        adapters.adapter("b")


def test_a_registered_name_must_not_hide_an_installed_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, point("toy", "toys:Net", "toys"))
    adapters.register("toy")(Vectors)
    with pytest.raises(InputError, match=r"two adapters are named 'toy': toys:Net of toys and toys\.Vectors"):
        adapters.adapter("toy")
    install(monkeypatch, point("toy", "toys:Vectors", "toys"))
    assert adapters.adapter("toy") is Vectors


def test_registering_twice_is_for_one_class_alone() -> None:
    class Other:
        pass

    assert adapters.register("vectors")(Vectors) is Vectors
    with pytest.raises(InputError, match=r"'vectors': toys\.Vectors and .*Other"):
        adapters.register("vectors")(Other)
    assert adapters.adapter("vectors") is Vectors


def test_a_modality_knows_the_name_that_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert adapters.adapter_name(Vectors()) == "vectors"
    adapters._registered.clear()
    install(monkeypatch, point("toy", "toys:Vectors", "toys"), point("broken", "no_such_module:X", "other"))
    assert adapters.adapter_name(Vectors()) == "toy"

    class Child(Vectors):
        pass

    with pytest.raises(InputError, match=r"Child is not a registered adapter.*@multicl\.register"):
        adapters.adapter_name(Child())


ADAPTER = """
from dataclasses import dataclass
import multicl
from {sibling} import WIDTH
from toys import Vectors

@multicl.register("{name}")
@dataclass(frozen=True)
class Mine(Vectors):
    width: int = WIDTH
"""


def write(folder: Path, stem: str, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"beside_{stem}.py").write_text("WIDTH = 11")
    path = folder / f"{stem}.py"
    path.write_text(ADAPTER.format(sibling=f"beside_{stem}", name=name))
    return path


def test_a_file_registers_its_adapters_once(tmp_path: Path) -> None:
    path = write(tmp_path, "my_adapter", "mine")
    module = adapters.import_file(path)
    cls: Any = adapters.adapter("mine")
    assert (cls.__name__, cls().width, cls.__module__) == ("Mine", 11, "my_adapter")
    assert adapters.import_file(path) is module


def test_a_file_hides_no_module_of_its_name(tmp_path: Path) -> None:
    import json

    module = adapters.import_file(write(tmp_path, "json", "mine"))
    assert module.Mine().width == 11
    assert sys.modules["json"] is json
    dotted = adapters.import_file(write(tmp_path / "sub", "json", "mine2"))
    assert dotted is not module


def test_a_file_that_is_missing_or_no_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.py: no such file"):
        adapters.import_file(tmp_path / "none.py")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt: not a Python file"):
        adapters.import_file(tmp_path / "a.txt")


def test_a_file_that_fails_can_be_mended_and_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "mended_adapter.py"
    path.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        adapters.import_file(path)
    path.write_text("VALUE = 1  # mended")
    assert adapters.import_file(path).VALUE == 1
