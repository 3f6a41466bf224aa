from itertools import pairwise

import pytest
import torch

from multicl.modalities.audio import Audio
from multicl.modalities.audio.parts import STILL, change, equal_parts
from multicl.types import Batch

RATE = 8000


def plain_change(x):
    """[M, n] -> n numbers, a frame at a time."""
    window, n = [0.25, 0.75, 1.0, 0.75, 0.25], x.shape[1]
    smooth = []
    for t in range(n):
        near = [(w, x[:, t + k - 2]) for k, w in enumerate(window) if 0 <= t + k - 2 < n]
        smooth.append(sum(w * column for w, column in near) / sum(w for w, _ in near))
    steps = [0.0, *(float((b - a).norm()) for a, b in pairwise(smooth)), 0.0]
    return [(steps[t] + steps[t + 1]) / 2 + STILL for t in range(n)]


def test_change_is_that_of_the_plain_computation_and_zero_beyond_the_frames():
    x, frames = torch.randn(3, 7, 20, generator=torch.Generator().manual_seed(0)), torch.tensor([20, 11, 1])
    for row, n in zip(x, frames.tolist(), strict=True):
        row[:, n:] = 0
    found = change(x, frames)
    for row, of, n in zip(found, x, frames.tolist(), strict=True):
        torch.testing.assert_close(row[:n], torch.tensor(plain_change(of[:, :n])))
        assert not row[n:].any()


def test_parts_hold_equal_weight():
    weights = torch.tensor([[4.0, 1, 1, 2, 0], [1, 0, 0, 3, 0]])
    parts = equal_parts(weights, 2)
    torch.testing.assert_close(parts[0], torch.tensor([[1, 0, 0, 0, 0], [0, 0.25, 0.25, 0.5, 0]]))
    torch.testing.assert_close(parts[1], torch.tensor([[0.5, 0, 0, 0.5, 0], [0, 0, 0, 1, 0]]))


def test_a_vowel_held_longer_changes_parts_of_change_least():
    torch.manual_seed(0)
    low, high = (torch.sin(torch.arange(8000) * pitch) for pitch in (0.3, 1.8))
    sounds = [torch.cat([low[:held], high[:1600], low[:1600]]) for held in (1600, 6400)]
    batch, alike = Audio().collate(sounds), {}
    for parts in ("time", "change"):
        encoder = Audio(rate=RATE, parts=parts, pooling="segments", depth=0, root=0.1).build().eval()
        short, long = encoder(batch).detach() - encoder(Audio().collate([low[:1600]])).detach()
        alike[parts] = float(torch.cosine_similarity(short, long, dim=0))
    assert alike["change"] > 0.95 > alike["time"] + 0.2


def test_masks_move_no_part():
    torch.manual_seed(0)
    encoder, seen = Audio(rate=RATE, parts="change", depth=0).build().eval(), []
    encoder._strided, strided = lambda held: seen.append(held) or strided(held), encoder._strided
    batch = Audio().collate([torch.randn(4000)])
    masked = batch.replace(time_masks=torch.tensor([[[0.2, 0.5]]]))
    assert isinstance(masked, Batch)
    assert not torch.equal(encoder(batch), encoder(masked))
    assert torch.equal(*seen)


@pytest.mark.parametrize("parts", ["time", "change"])
def test_parts_are_the_same_under_autocast(parts):
    torch.manual_seed(0)
    encoder = Audio(rate=RATE, parts=parts, depth=0, stride=1, pooling="segments").build().eval()
    batch = Audio().collate([torch.randn(8 * RATE) * torch.linspace(0, 1, 8 * RATE)])
    plain = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encoder(batch).float(), plain, atol=0.03, rtol=0.03)


def test_stride_is_of_the_fronts_frames():
    for stride, frames in ((1, 51), (2, 26), (4, 13)):
        encoder, seen = Audio(rate=RATE, stride=stride, depth=0).build(), []
        encoder.norms[-1].register_forward_hook(lambda module, args, out, seen=seen: seen.append(out.shape[1]))
        encoder(Audio().collate([torch.randn(4000)]))
        assert seen == [frames]
