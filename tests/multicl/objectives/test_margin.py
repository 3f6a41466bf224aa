from __future__ import annotations

import pytest
import slow
import torch
from torch import Tensor

from multicl import InputError, Margin
from multicl.distributed import World
from multicl.types import Context, Embedded


def view(rows: list[int], ids: list[int], seed: int) -> Embedded:
    z = torch.randn(len(rows), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Embedded(z, torch.tensor(rows), torch.tensor(ids))


def pairs(a: Embedded, b: Embedded, chosen: list[tuple[int, int, bool]]) -> Tensor:
    """The paper's loss over (row of a, row of b, similar)."""
    i, j, similar = (list(x) for x in zip(*chosen, strict=True))
    return slow.margin_contrastive(a.z[i], b.z[j], similar, 3.0)


def check(a: Embedded, b: Embedded, equal_ids: str, chosen: list[tuple[int, int, bool]]) -> dict[str, Tensor]:
    values = Margin(3.0).build((4, 4))(a, b, Context(World(), equal_ids=equal_ids))  # type: ignore[arg-type]
    wanted = pairs(a, b, chosen)
    torch.testing.assert_close(values["loss"], wanted)
    grads = (torch.autograd.grad(loss, [a.z, b.z]) for loss in (values["loss"], wanted))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right)
    return values


def test_own_rows_are_similar_and_next_rows_are_not() -> None:
    a, b = view([3, 1, 2], [3, 1, 2], 0), view([3, 1, 2], [3, 1, 2], 1)
    own, following = [(0, 0, True), (1, 1, True), (2, 2, True)], [(0, 1, False), (1, 2, False), (2, 0, False)]
    values = check(a, b, "positive", own + following)
    apart = [(a.z[i] - b.z[j]).norm().item() for i, j, _ in following]
    assert values["other_distance"].item() == pytest.approx(sum(apart) / 3)


@pytest.mark.parametrize(("equal_ids", "more"), [("positive", [(0, 1, True)]), ("ignore", [])])
def test_next_rows_of_equal_id(equal_ids: str, more: list[tuple[int, int, bool]]) -> None:
    a, b = view([3, 1, 2], [7, 7, 2], 0), view([3, 1, 2], [7, 7, 2], 1)
    own, following = [(0, 0, True), (1, 1, True), (2, 2, True)], [(1, 2, False), (2, 0, False)]
    check(a, b, equal_ids, own + more + following)


def test_rows_that_one_side_lacks_are_left_out_and_order_does_not_matter() -> None:
    a, b = view([3, 9, 1, 2], [3, 9, 1, 2], 0), view([2, 1, 8, 3], [2, 1, 8, 3], 1)
    own, following = [(0, 3, True), (2, 1, True), (3, 0, True)], [(0, 1, False), (2, 0, False), (3, 3, False)]
    check(a, b, "positive", own + following)


def test_a_lone_row_has_no_other() -> None:
    a, b = view([3], [3], 0), view([3], [3], 1)
    check(a, b, "positive", [(0, 0, True)])
    nobody = a[torch.zeros(1, dtype=torch.bool)]
    assert Margin().build((4, 4))(nobody, nobody, Context(World()))["loss"].item() == 0


def test_settings_that_cannot_work() -> None:
    with pytest.raises(InputError, match="margin must be above 0, got -1"):
        Margin(-1)
    with pytest.raises(InputError, match="Margin compares vectors of one width, got 4 and 5"):
        Margin().build((4, 5))
