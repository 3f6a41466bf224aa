"""A user's own net of 64 bits gets pictures and sounds of as many, and its heads what they take."""

from __future__ import annotations

import media
import pytest
import torch
from torch import nn

from multicl import Head, Pair, Train, Trainer
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.wide import as_wide
from multicl.types import Modality


class Net(nn.Module):
    """The mean of each of six parts of what it is given, through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.adaptive_avg_pool1d(x.flatten(1)[:, None], 6)[:, 0])


def node(name: str, net: nn.Module) -> Modality:
    if name == "image":
        return Image(net, size=16)
    return Audio(net, input=name, max_seconds=0.2, rate=8000)


@pytest.mark.parametrize("name", ["image", "wave", "mel"])
def test_a_net_of_64_bits_trains_and_embeds_as_one_of_32_does(name: str) -> None:
    data = media.rows(8)
    cells = [row["image" if name == "image" else "audio"] for row in data]
    found = []
    for kind in (torch.float32, torch.float64):
        torch.manual_seed(0)
        options = {"train": Train(batch_size=4, steps=3), "head": Head(dim=4)}
        rows = [{"it": cell} for cell in cells]
        trainer = Trainer({"it": node(name, Net().to(kind))}, [Pair("it", "it")], data=rows, **options)
        model = trainer.fit()
        assert {p.dtype for p in model.towers.encoder("it").parameters()} == {kind}
        found += [model.embed(it=cells, space=space) for space in ("joint", None)]
    assert {z.dtype for z in found} == {torch.float32}
    torch.testing.assert_close(found[:2], found[2:], atol=1e-3, rtol=0)


def test_others_get_what_they_got() -> None:
    x = torch.ones(2, 6)
    for net in (nn.Linear(6, 2), nn.Linear(6, 2).bfloat16(), nn.Identity()):
        assert as_wide(net, x) is x
