from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from multicl import (
    Bilinear,
    CoSENT,
    CrossEntropy,
    Decoupled,
    HardestNegatives,
    HardNegative,
    Head,
    InfoNCE,
    InstanceNCE,
    Margin,
    Matryoshka,
    Mine,
    Momentum,
    NTXent,
    Optim,
    Pair,
    Predicted,
    Sigmoid,
    SupCon,
    SwAV,
    Target,
    Train,
)  # fmt: skip
from multicl.choices import check_settings
from multicl.data.loading import Data
from multicl.types import InputError

if TYPE_CHECKING:
    from decimal import Decimal

Colour = Literal["red", "blue"]


@dataclass
class Paint:
    colour: Colour = "red"
    second: Colour | None = None
    count: int | Literal["all"] = 1
    name: str = "any"


@dataclass
class Priced(Paint):
    price: Decimal | None = None
    coats: Literal[1, 2] = 1


def test_words_are_looked_at() -> None:
    check_settings(Paint("blue", "red", 7, "green"))
    check_settings(Paint(count="all"))
    with pytest.raises(InputError, match="Paint: colour must be 'red' or 'blue', got 'green'"):
        check_settings(Paint("green"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="wall 3: second must be 'red' or 'blue' or None, got 'Red'"):
        check_settings(Paint(second="Red"), "wall 3: ")  # type: ignore[arg-type]


@dataclass
class Wall:
    height: float = 2.5
    doors: int | Literal["many"] | None = 1
    wet: bool = False
    colours: tuple[int, ...] = ()
    near: tuple[str, int] | None = ("door", 1)
    prices: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize("height", [3, 2.5, math.nan, np.float32(2.5), np.int64(3), Fraction(5, 2)])
@pytest.mark.parametrize("doors", [2, np.int8(2), "many", None])
def test_numbers_are_those_of_any_library(height: Any, doors: Any) -> None:
    check_settings(Wall(height, doors, True, (1, 2)))
    check_settings(Wall(height, doors, colours=[1, 2]))  # type: ignore[arg-type]  # as files of settings have them


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"height": "2.5"}, "Wall: height must be a number, got '2.5'"),
        ({"height": None}, "height must be a number, got None"),
        ({"height": True}, "height must be a number, got True"),
        ({"height": torch.tensor(2.5)}, r"height must be a number, got tensor\(2.5000\)"),
        ({"height": 1j}, "height must be a number, got 1j"),
        ({"doors": 2.0}, "doors must be a whole number or 'many' or None, got 2.0"),
        ({"doors": "few"}, "doors must be a whole number or 'many' or None, got 'few'"),
        ({"doors": torch.ones(2)}, "doors must be a whole number or 'many' or None"),
        ({"doors": True}, "doors must be a whole number or 'many' or None, got True"),
        ({"wet": "no"}, "wet must be True or False, got 'no'"),
        ({"wet": 1}, "wet must be True or False, got 1"),
        ({"colours": "red"}, r"Wall: colours must be a tuple\[int, ...\], got 'red'"),
        ({"colours": (1, "red")}, r"colours must be a tuple\[int, ...\], got \(1, 'red'\)"),
        ({"near": "red"}, r"near must be a tuple\[str, int\] or None, got 'red'"),
        ({"prices": "red"}, r"prices must be a dict\[str, float\], got 'red'"),
        ({"prices": {"red": "1"}}, r"prices must be a dict\[str, float\], got {'red': '1'}"),
    ],
)
def test_what_is_no_number_or_no_bool_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_settings(Wall(**given))


ALL = [
    Bilinear, CoSENT, CrossEntropy, Data, Decoupled, HardNegative, HardestNegatives, Head, InfoNCE, InstanceNCE, Margin,
    Mine, Momentum, NTXent, Optim, Sigmoid, SupCon, SwAV, Train,
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_every_setting_that_is_a_number_is_asked(kind: Any) -> None:
    hints = {declared.name: str(declared.type).split(" ")[0] for declared in fields(kind)}
    numbers = [name for name, hint in hints.items() if hint in ("float", "int", "bool")]
    assert numbers
    for name in numbers:
        with pytest.raises(InputError, match=rf"{name} must be .*, got '0\.1'"):
            kind(**{name: "0.1"})


def test_what_is_known_to_type_checkers_alone_is_no_obstacle() -> None:
    with pytest.raises(InputError, match="colour"):
        check_settings(Priced("green"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoNCE(similarity="cos"), "InfoNCE: similarity must be 'cosine' or 'dot', got 'cos'"),  # type: ignore[arg-type]
        (lambda: Pair("a", "b", equal_ids="negative"), "pair 'a-b': equal_ids must be"),  # type: ignore[arg-type]
        (lambda: Pair("a", "b", keys="Momentum"), "pair 'a-b': keys must be"),  # type: ignore[arg-type]
        (lambda: Pair("a", "b", keys_from="al"), "pair 'a-b': keys_from must be"),  # type: ignore[arg-type]
        (lambda: Head(norm="bach"), "head.norm must be"),  # type: ignore[arg-type]
        (lambda: Predicted(InfoNCE(), norm="bach"), "Predicted: norm must be"),  # type: ignore[arg-type]
        (lambda: Momentum(schedule="cos"), "momentum.schedule must be"),  # type: ignore[arg-type]
        (lambda: Train(mixed_precision="bf-16"), "train.mixed_precision must be 'no' or 'bf16' or 'fp16' or None"),  # type: ignore[arg-type]
        (lambda: Optim(name="adam"), "optim.name must be"),  # type: ignore[arg-type]
        (lambda: Optim(tower_lr="text"), r"optim.tower_lr must be a dict\[str, float\], got 'text'"),  # type: ignore[arg-type]
        (lambda: Train(trackers="wandb"), r"train.trackers must be a tuple\[str, ...\], got 'wandb'"),  # type: ignore[arg-type]
        (lambda: Data(mix={"a": "1"}), r"data.mix must be a dict\[str, float\], got {'a': '1'}"),  # type: ignore[dict-item]
        (lambda: Pair("a", "b", weight="1"), "pair 'a-b': weight must be a number, got '1'"),  # type: ignore[arg-type]
        (lambda: Target("a", "b", weight="1"), "target 'a-b': weight must be a number"),  # type: ignore[arg-type]
        (lambda: Train(steps=1e4), "train.steps must be a whole number or None, got 10000.0"),  # type: ignore[arg-type]
        (lambda: Train(epochs=math.inf), "train.epochs must be above 0, got inf"),
        (lambda: Predicted(InfoNCE), "Predicted: objective must be settings with `build`, .* got InfoNCE"),  # type: ignore[arg-type]
        (lambda: Matryoshka("InfoNCE", dims=(2,)), "Matryoshka: objective must be settings .* got 'InfoNCE'"),  # type: ignore[arg-type]
        (lambda: Matryoshka(InfoNCE(), dims=64), "dims must be different widths, 1 or more, got 64"),  # type: ignore[arg-type]
        (lambda: Matryoshka(InfoNCE(), dims=(64, "8")), "dims must be different widths"),  # type: ignore[arg-type]
        (lambda: Data(on_error="ignore"), "data.on_error must be"),  # type: ignore[arg-type]
        (lambda: Data(batches="two"), "data.batches must be 'mixed' or 'one', got 'two'"),  # type: ignore[arg-type]
    ],
)
def test_a_misspelt_setting_is_refused_where_it_is_given(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_what_an_objective_holds_is_asked_too() -> None:
    inner = InfoNCE(similarity="dot", own_negative=4.0, both_directions=False)
    for outer in (Matryoshka(inner, dims=(2,)), Predicted(inner), Matryoshka(Predicted(inner), dims=(2,))):
        assert (outer.similarity, outer.own_negative, outer.both_directions) == ("dot", 4.0, False)
    with pytest.raises(InputError, match=r"own_negative=4\.0 weights a row's explicit negatives"):
        Pair("a", "b", Matryoshka(inner, dims=(2,)))
    with pytest.raises(InputError, match="a predictor needs momentum keys"):
        Pair("a", "b", Matryoshka(Predicted(InfoNCE()), dims=(2,)))
    with pytest.raises(InputError, match="Predicted cannot wrap CoSENT: it needs momentum keys"):
        Predicted(CoSENT())
