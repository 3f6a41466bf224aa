from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from multicl import CoSENT, Head, InfoNCE, Matryoshka, Momentum, Optim, Pair, Predicted, Train
from multicl.choices import check_choices
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


def test_words_are_looked_at_and_nothing_else() -> None:
    check_choices(Paint("blue", "red", 7, "green"))
    with pytest.raises(InputError, match="Paint: colour must be 'red' or 'blue', got 'green'"):
        check_choices(Paint("green"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="wall 3: second must be 'red' or 'blue' or None, got 'Red'"):
        check_choices(Paint(second="Red"), "wall 3: ")  # type: ignore[arg-type]


def test_what_is_known_to_type_checkers_alone_is_no_obstacle() -> None:
    with pytest.raises(InputError, match="colour"):
        check_choices(Priced("green"))  # type: ignore[arg-type]


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
    with pytest.raises(InputError, match=r"own_negative=4\.0 weighs a row's explicit negatives"):
        Pair("a", "b", Matryoshka(inner, dims=(2,)))
    with pytest.raises(InputError, match="a predictor stands before momentum keys"):
        Pair("a", "b", Matryoshka(Predicted(InfoNCE()), dims=(2,)))
    with pytest.raises(InputError, match="Predicted takes no CoSENT, which has a target"):
        Predicted(CoSENT())
