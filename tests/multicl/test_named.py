from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from multicl.config import from_plain, parse_arguments
from multicl.modalities.image import BYOL_SECOND, MOCO, SIMCLR, Augment, Image
from multicl.types import InputError


@dataclass(frozen=True)
class Colours:
    named: ClassVar[Mapping[str, Colours]] = {}
    red_share: float = 0.0
    span: tuple[float, float] = (0.0, 1.0)
    levels: int = 3
    how: str = "even"


Colours.named = {"dusk": Colours(0.5, (0.1, 0.2), 7, "steep"), "noon": Colours(levels=9)}


@dataclass(frozen=True)
class Lamp:
    upper: Colours = Colours(red_share=0.25)
    lower: Colours = Colours()
    name: str = "x"


@dataclass(frozen=True)
class Room:
    lamp: Lamp = Lamp()
    size: int = 1
    image: Image = field(default_factory=Image)


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["--lamp.upper", "dusk"], Lamp(upper=Colours.named["dusk"])),
        (["--lamp.upper=noon"], Lamp(upper=Colours.named["noon"])),  # nothing of the default stays
        (["--lamp.upper", "dusk", "--lamp.upper.levels", "2"], Lamp(upper=replace(Colours.named["dusk"], levels=2))),
        (
            ["--lamp.lower", "noon", "--lamp.upper", "dusk", "--lamp.name", "a=b"],
            Lamp(upper=Colours.named["dusk"], lower=Colours.named["noon"], name="a=b"),
        ),
        (["--lamp.upper.levels", "5"], Lamp(upper=Colours(red_share=0.25, levels=5))),
    ],
)
def test_a_name_stands_for_all_that_settings_are(words: list[str], want: Lamp) -> None:
    assert parse_arguments(Room, words).lamp == want


def test_in_a_file_too() -> None:
    assert from_plain(Room, {"lamp": {"upper": "dusk"}}).lamp == Lamp(upper=Colours.named["dusk"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            lambda: parse_arguments(Room, ["--lamp.upper", "dawn"]),
            "lamp.upper: expected one of dusk, noon, or settings as keys",
        ),
        (
            lambda: from_plain(Room, {"lamp": {"upper": "dawn"}}),
            "lamp.upper: expected one of dusk, noon, or settings as keys",
        ),
        (lambda: from_plain(Room, {"lamp": "dusk"}), "lamp: expected keys and values, got 'dusk'"),
    ],
)
def test_a_name_that_is_not_known(how: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        how()


def test_a_group_without_a_name_is_an_unknown_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--lamp.upper"], ["--lamp.upper", "--size", "3"], ["--lamp", "dusk"]):
        with pytest.raises(SystemExit):
            parse_arguments(Room, words)
        assert "--lamp" in capsys.readouterr().err


def test_the_papers_views_of_pictures() -> None:
    found = parse_arguments(Room, ["--image.strong", "simclr", "--image.weak", "byol-second"]).image
    assert (found.strong, found.weak) == (SIMCLR, BYOL_SECOND)
    assert from_plain(Image, {"strong": "moco"}).strong == MOCO
    assert set(Augment.named) == {"small", "simclr", "moco", "byol-first", "byol-second"}
