"""A net that is tried, and how it is left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from multicl.modalities.probing import probing


def test_each_module_is_left_in_its_own_mode_also_after_an_error() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    net[1].eval()
    with probing(net):
        assert not any(module.training for module in net.modules())
        assert not net(torch.ones(3, 2)).requires_grad
    with pytest.raises(ZeroDivisionError), probing(net):
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert net(torch.ones(3, 2)).requires_grad
