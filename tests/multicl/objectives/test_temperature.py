from __future__ import annotations

import math

import pytest
import torch

from multicl import Decoupled, HardestNegatives, HardNegative, InfoNCE, InputError, NTXent, Sigmoid, SupCon
from multicl.config import from_plain, to_plain
from multicl.distributed import World
from multicl.objectives.temperature import Tempered
from multicl.types import Context, Embedded

TEMPERED = (Decoupled, HardestNegatives, HardNegative, InfoNCE, NTXent, Sigmoid, SupCon)
every = pytest.mark.parametrize("settings", TEMPERED)


def view(seed: int) -> Embedded:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    return Embedded(z, torch.arange(5), torch.arange(5))


def temperature(module: torch.nn.Module, progress: float = 0.0) -> float:
    values = module(view(0), view(1), Context(World(), progress=progress, symmetric=True))
    return values["temperature"].item()


@every
def test_fixed(settings: type[Tempered]) -> None:
    module = settings(0.3, learnable=False).build((4, 4))
    assert not list(module.parameters())
    assert temperature(module, 0.7) == pytest.approx(0.3)


@every
def test_scheduled_on_half_a_cosine(settings: type[Tempered]) -> None:
    module = settings(0.5, learnable=False, final_temperature=0.1).build((4, 4))
    assert not list(module.parameters())
    for progress in (0, 0.25, 0.5, 1):
        wanted = 0.1 + 0.4 * (1 + math.cos(math.pi * progress)) / 2
        assert temperature(module, progress) == pytest.approx(wanted)


@every
def test_learnt_with_a_gradient_and_a_floor_from_which_it_comes_back(settings: type[Tempered]) -> None:
    module = settings(0.3, learnable=True).build((4, 4))
    log_scale = dict(module.named_parameters())["log_scale"]
    assert log_scale.shape == (1,)  # optim.py gives it no weight decay
    assert temperature(module) == pytest.approx(0.3)
    with torch.no_grad():
        log_scale.fill_(9.0)  # a scale of 8103
    loss = module(view(0), view(1), Context(World(), symmetric=True))["loss"]  # no pair agrees: a lower scale is better
    loss.backward()
    assert temperature(module) == pytest.approx(0.01)
    assert log_scale.grad is not None
    assert log_scale.grad.item() > 0
    torch.optim.SGD([log_scale], lr=0.1 / log_scale.grad.item()).step()
    assert temperature(module) == pytest.approx(0.01 * math.exp(0.1), rel=1e-4)


@every
def test_settings_survive_a_config_file(settings: type[Tempered]) -> None:
    made = settings(0.3, learnable=False, final_temperature=0.2, similarity="dot")
    assert from_plain(settings, to_plain(made)) == made


@every
def test_settings_that_cannot_work(settings: type[Tempered]) -> None:
    name = settings.__name__
    with pytest.raises(InputError, match=f"{name}: temperature must be above 0, got -1"):
        settings(-1)
    with pytest.raises(InputError, match=f"{name}: final_temperature must be above 0, got 0"):
        settings(0.1, final_temperature=0, learnable=False)
    with pytest.raises(InputError, match=r"leave out learnable=True or final_temperature=0\.2"):
        settings(0.1, final_temperature=0.2, learnable=True)
    with pytest.raises(InputError, match=r"cannot begin at 0\.005"):
        settings(0.005, learnable=True)
    with pytest.raises(InputError, match=f"{name} compares vectors of one width, got 4 and 5"):
        settings().build((4, 5))
