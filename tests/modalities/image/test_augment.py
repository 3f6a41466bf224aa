"""Each change of colours against torchvision, which takes one parameter for a whole batch: row by row."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from multicl.modalities.image import augment as ops


def pictures(n=5, height=20, width=28, seed=0):
    """Noise over slopes, with a grey, a black and white, and a primary row among them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, height, width, generator=g) * torch.linspace(0.2, 1, width)
    x[1] = x[1, :1]
    x[2, :, : height // 2] = 0
    x[2, :, height // 2 :] = 1
    x[3] = (x[3] > 0.4).float()  # pure colours: two channels alike
    return x


def row_by_row(theirs, x, *parameters):
    return torch.cat([theirs(x[i : i + 1], *(float(p[i]) for p in parameters)) for i in range(len(x))])


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors(name):
    x, factor = pictures(), torch.tensor([0.0, 0.3, 1.0, 1.4, 3.0])
    theirs = row_by_row(getattr(F, f"adjust_{name}"), x, factor)
    torch.testing.assert_close(getattr(ops, f"adjust_{name}")(x, factor), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("by", [-0.5, -0.1, 0.0, 0.1, 0.37, 0.5])
def test_hue(by):
    x, shift = pictures(), torch.full((5,), by)
    theirs = row_by_row(F.adjust_hue, x, shift)
    torch.testing.assert_close(ops.adjust_hue(x, shift), theirs, atol=2e-5, rtol=0)


def test_hue_of_each_row_on_its_own():
    x, shift = pictures(), torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.37])
    theirs = row_by_row(F.adjust_hue, x, shift)
    torch.testing.assert_close(ops.adjust_hue(x, shift), theirs, atol=2e-5, rtol=0)


def test_grey():
    x = pictures()
    theirs = F.rgb_to_grayscale(x, 3)
    torch.testing.assert_close(ops.to_grey(x), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_solarize(threshold):
    x = pictures()
    theirs = F.solarize(x, threshold)
    torch.testing.assert_close(ops.solarize(x, threshold), theirs)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_posterize(bits):
    x = pictures()
    theirs = F.posterize(x, bits)
    torch.testing.assert_close(ops.posterize(x, bits), theirs)


def test_cut_out():
    x = pictures()[:3]
    box = torch.tensor([[2.0, 3.0, 5.0, 7.0], [0.0, 0.0, 20.0, 28.0], [19.0, 27.0, 1.0, 1.0]])
    theirs = torch.stack([F.erase(x[i], *map(int, box[i]), torch.full((3, 1, 1), 0.25)) for i in range(3)])
    assert torch.equal(ops.cut_out(x, box, 0.25), theirs)


def test_noise_is_added_and_cut():
    x = torch.tensor([0.0, 0.5, 1.0]).repeat(1, 3, 1, 1)
    noise = torch.tensor([-1.0, 2.0, 1.0]).repeat(1, 3, 1, 1)
    assert ops.add_noise(x, noise, 0.1)[0, 0, 0].tolist() == pytest.approx([0.0, 0.7, 1.0])


NAMES = ("brightness", "contrast", "saturation", "hue")
FACTORS = torch.tensor(
    [[0.7, 1.4, 0.5, 0.1], [1.3, 0.6, 1.5, -0.1], [0.9, 1.2, 0.8, 0.05], [1.4, 0.8, 1.8, 0.0], [1.2, 1.1, 0.2, 0.3]]
)


@pytest.mark.parametrize(
    "order",
    [
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1], [3, 0, 1, 2]],
        [[0, 1, 3], [3, 1, 0], [1, 0, 3], [3, 0, 1], [0, 3, 1]],
        [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1]],
        [[2, 3, 0, 1]] * 5,
        [[3]] * 5,
    ],
    ids=str,
)
def test_jitter_applies_each_row_in_its_own_order(order):
    x = pictures()
    theirs = []
    for i in range(5):
        y = x[i : i + 1]
        for what in order[i]:
            y = getattr(F, f"adjust_{NAMES[what]}")(y, float(FACTORS[i, what]))
        theirs.append(y)
    one = ops.color_jitter(x[:1].clone(), FACTORS[:1], torch.tensor(order[:1]))
    torch.testing.assert_close(one, theirs[0], atol=5e-5, rtol=0)
    torch.testing.assert_close(ops.color_jitter(x, FACTORS, torch.tensor(order)), torch.cat(theirs), atol=5e-5, rtol=0)


@pytest.mark.parametrize("rows", [[0], [1, 2], [0, 2, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("change", [lambda x, p: x.mul_(p[:, None]), lambda x, p: x * p[:, None]], ids=["here", "new"])
def test_some_rows_are_changed_with_parameters_of_their_own(rows, change):
    x, by = torch.arange(1.0, 11.0).view(5, 2), torch.arange(2.0, 7.0)
    wanted = x.clone()
    for row in rows:
        wanted[row] *= by[row]
    ops.change_rows(x, rows, change, by)
    assert torch.equal(x, wanted)


def test_views_may_be_drawn_in_inference_mode_first(monkeypatch):
    monkeypatch.setattr(ops, "_KEPT", ops.threading.local())  # as in a process that has drawn none
    with torch.inference_mode():
        within = ops.adjust_hue(torch.full((1, 3, 8, 8), 0.5), torch.tensor([0.1]))
    assert torch.equal(ops.adjust_hue(torch.full((1, 3, 8, 8), 0.5), torch.tensor([0.1])), within)
