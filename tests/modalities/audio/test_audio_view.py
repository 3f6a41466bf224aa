import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.augment import moved, moved_by_row, with_noise, with_noise_by_row
from multicl.types import Batch

ALL = Augment(
    crop=(0.5, 0.9),
    gain_db=(-6, 6),
    noise=0.7,
    polarity=0.5,
    shift=0.3,
    speed=(0.8, 1.25),
    stretch=0.5,
    tempo=(0.7, 1.4),
    warp=(0.8, 1.25),
    time_warp=0.2,
    color_db=10,
    time_masks=2,
    freq_masks=3,
    time_mask_max=0.3,
)


def batch_of(*lengths):
    generator = torch.Generator().manual_seed(0)
    return Audio().collate([torch.randn(n, generator=generator) for n in lengths])


def seeds_of(n):
    return torch.arange(n) * 7919 + 3


def view(batch, seeds, seconds=None, **changes):
    augment = dataclasses.replace(Augment(), **changes)
    return Audio(rate=1000, seconds=seconds, strong=augment).view(batch, seeds, "strong")


@given(lengths=st.lists(st.integers(1, 400), min_size=2, max_size=6), seconds=st.sampled_from([None, 0.1]))
@settings(max_examples=25, deadline=None)
def test_a_row_depends_on_its_seed_and_samples_only(lengths, seconds):
    audio = Audio(rate=1000, seconds=seconds, strong=ALL)
    batch, seeds = batch_of(*lengths), seeds_of(len(lengths))
    together = audio.view(batch, seeds)
    for i, length in enumerate(lengths):
        part = batch[i : i + 1]
        alone = audio.view(part.replace(wave=part.get("wave")[:, :length]), seeds[i : i + 1])
        n = int(alone.lengths)
        assert n == together.lengths[i]
        torch.testing.assert_close(alone.get("wave")[0, :n], together.get("wave")[i, :n], rtol=1e-5, atol=1e-6)
        assert torch.equal(alone.get("time_masks")[0], together.get("time_masks")[i])
        assert torch.equal(alone.get("freq_masks")[0], together.get("freq_masks")[i])
        assert torch.equal(alone.get("warp")[0], together.get("warp")[i])
        assert torch.equal(alone.get("time_warp")[0], together.get("time_warp")[i])
    assert together.get("wave").dtype == torch.float32
    assert together.lengths.dtype == torch.int64
    beyond = torch.arange(together.get("wave").shape[1]) >= together.lengths[:, None]
    assert together.get("wave")[beyond].abs().sum() == 0
    assert torch.equal(together.row, batch.row)


def test_seeds_none_is_the_batch_and_other_seeds_are_other_views():
    batch = batch_of(300, 400)
    audio = Audio(rate=1000, seconds=0.1, strong=ALL)
    assert audio.view(batch, None) is batch
    first, again, other = (audio.view(batch, torch.tensor(s)) for s in ([1, 2], [1, 2], [3, 4]))
    assert torch.equal(first.get("wave"), again.get("wave"))
    assert not torch.equal(first.get("wave"), other.get("wave"))
    same = audio.view(batch[torch.tensor([0, 0])], torch.tensor([1, 2]))
    assert not torch.equal(same.get("wave")[0], same.get("wave")[1])


def test_everything_off_changes_nothing():
    batch = batch_of(300, 400)
    out = view(batch, seeds_of(2))
    assert torch.equal(out.get("wave"), batch.get("wave"))
    assert set(out) == {"wave", "lengths"}


def test_warps_are_as_often_up_as_down():
    factors = view(batch_of(*[2] * 4000), torch.arange(4000), warp=(0.8, 1.25)).get("warp")
    assert 0.8 <= factors.min() < 0.801
    assert 1.249 < factors.max() <= 1.25
    assert factors.log().mean() == pytest.approx(0, abs=0.01)


def test_points_of_time_move_both_ways_and_stay_off_the_ends():
    points = view(batch_of(*[2] * 4000), torch.arange(4000), time_warp=0.2, warp=(0.8, 1.25)).get("time_warp")
    from_, moved_by = points[:, 0], points[:, 1] - points[:, 0]
    assert 0.2 <= from_.min() < 0.201
    assert 0.799 < from_.max() < 0.8001
    assert -0.2001 < moved_by.min() < -0.199
    assert 0.199 < moved_by.max() < 0.2001
    assert moved_by.mean() == pytest.approx(0, abs=0.01)
    assert abs(torch.corrcoef(torch.stack([from_, moved_by]))[0, 1]) < 0.05
    furthest = view(batch_of(*[2] * 4000), torch.arange(4000), time_warp=0.4999).get("time_warp")
    assert 0 < furthest.min() < furthest.max() < 1


def test_crops_are_windows_of_the_clip():
    lengths = [1, 7, 100, 400]
    wave = torch.nn.utils.rnn.pad_sequence([torch.arange(1.0, n + 1) for n in lengths], batch_first=True)
    batch = Batch({"wave": wave, "lengths": torch.tensor(lengths)})
    out = view(batch, seeds_of(4), crop=(0.5, 0.8))
    for i, n in enumerate(lengths):
        m = int(out.lengths[i])
        row = out.get("wave")[i, :m]
        assert max(1, round(n * 0.5)) <= m <= max(1, round(n * 0.8))
        assert torch.equal(row, torch.arange(m) + row[0])
        assert 1 <= row[0] <= n - m + 1
    many = view(batch[torch.full((500,), 3)], torch.arange(500), crop=(0.5, 1))
    assert many.lengths.float().mean() == pytest.approx(300, abs=10)
    assert (many.get("wave")[:, 0] - 1).mean() == pytest.approx(50, abs=8)


def test_seconds_takes_a_window_of_longer_rows_only():
    batch = batch_of(50, 400)
    out = view(batch, seeds_of(2), seconds=0.1)
    assert out.lengths.tolist() == [50, 100]
    assert out.get("wave").shape == (2, 100)
    assert torch.equal(out.get("wave")[0, :50], batch.get("wave")[0, :50])


def test_gain_and_polarity():
    batch = batch_of(*[200] * 64)
    out = view(batch, seeds_of(64), gain_db=(-6, 6), polarity=0.5)
    ratio = out.get("wave") / batch.get("wave")
    assert ratio.std(1).max() < 1e-4
    decibels = 20 * ratio[:, 0].abs().log10()
    assert -6 <= decibels.min() < -4
    assert 4 < decibels.max() <= 6
    assert 16 < (ratio[:, 0] < 0).sum() < 48


def test_noise_has_the_asked_ratio_over_the_valid_length():
    batch = batch_of(*[20000] * 8, 40000)
    out = view(batch, seeds_of(9), noise=1.0, noise_snr_db=(10, 10))
    noise = out.get("wave") - batch.get("wave")
    snr = 10 * (batch.get("wave").square().sum(1) / noise.square().sum(1)).log10()
    torch.testing.assert_close(snr, torch.full((9,), 10.0), atol=0.2, rtol=0)
    some = view(batch_of(*[100] * 200), torch.arange(200), noise=0.25)
    touched = (some.get("wave") != batch_of(*[100] * 200).get("wave")).any(1).sum()
    assert 30 < touched < 70
    silent = Batch({"wave": torch.zeros(2, 50), "lengths": torch.tensor([50, 20])})
    assert view(silent, seeds_of(2), noise=1.0).get("wave").abs().max() == 0


def test_a_row_at_a_time_is_the_gather():
    wave, n = torch.randn(40, 90, generator=torch.Generator().manual_seed(0)), 40
    size = torch.arange(n) + 1
    start, shift = torch.arange(n) % 7, torch.arange(n) * 37 % (size + 1) * (1 - torch.arange(n) % 2 * 2)
    numbers = (wave, 55, size, start, shift, torch.linspace(-2, 2, n))
    assert torch.equal(moved_by_row(*numbers), moved(*numbers))


def test_noise_a_row_at_a_time_is_the_batch_s():
    wave, lengths = torch.randn(6, 700, generator=torch.Generator().manual_seed(0)), torch.arange(1, 7) * 100
    wave *= torch.arange(700) < lengths[:, None]
    numbers = (lengths, torch.tensor([0.5, 0, 0.1, 2, 0, 1.0]), torch.arange(6))
    wanted = with_noise(wave, *numbers)
    torch.testing.assert_close(with_noise_by_row(wave.clone(), *numbers), wanted, atol=1e-5, rtol=1e-5)
    assert (wanted != wave).any(1).tolist() == [True, False, True, True, False, True]


def test_shift_moves_and_fills_with_silence():
    wave = torch.arange(1.0, 101).repeat(64, 1)
    batch = Batch({"wave": wave, "lengths": torch.full((64,), 100)})
    out = view(batch, torch.arange(64), shift=0.2)
    assert torch.equal(out.lengths, batch.lengths)
    shifts = set()
    for row in out.get("wave"):
        inside = row > 0
        by = (torch.arange(1, 101) - row)[inside].unique()
        assert len(by) == 1
        shifts.add(int(by))
        assert int(inside.sum()) == 100 - abs(int(by))
    assert min(shifts) < -10
    assert max(shifts) > 10
    assert max(map(abs, shifts)) <= 20


def test_masks_lie_inside_the_clip():
    out = view(batch_of(*[10] * 100), torch.arange(100), time_masks=2, time_mask_max=0.3, freq_masks=1, freq_mask_max=1)
    time, freq = out.get("time_masks"), out.get("freq_masks")
    assert time.shape == (100, 2, 2)
    assert freq.shape == (100, 1, 2)
    assert time.dtype == torch.float32
    for masks, most in ((time, 0.3), (freq, 1.0)):
        start, width = masks.unbind(2)
        assert start.min() >= 0
        assert width.max() <= most
        assert (start + width).max() <= 1
        assert width.mean() == pytest.approx(most / 2, rel=0.2)


def test_kind_picks_the_settings_and_an_empty_batch_passes():
    audio = Audio()
    batch = batch_of(300, 400)
    weak = audio.view(batch, seeds_of(2), "weak")
    assert torch.equal(weak.lengths, batch.lengths)
    assert "time_masks" not in weak
    assert "time_masks" in audio.view(batch, seeds_of(2), "strong")
    assert len(audio.view(batch[:0], seeds_of(0), "strong")) == 0
    assert len(Audio(strong=dataclasses.replace(ALL, background=1.0)).view(batch[:0], seeds_of(0))) == 0


def test_show_plays_each_row_with_its_masked_time_silent():
    n = 8000
    batch = Audio(rate=8000).collate([torch.sin(torch.arange(n) / 3), torch.sin(torch.arange(n // 2) / 3)])
    batch = batch.replace(time_masks=torch.tensor([[[0.25, 0.5]], [[0.0, 0.0]]]))
    shown = Audio(rate=8000).show(batch)
    assert [mime for mime, _ in shown] == ["audio/ogg"] * 2
    heard = [Audio(rate=8000).load(data, None) for _, data in shown]
    assert [len(wave) for wave in heard] == [n, n // 2]
    assert float(heard[0][2500:5500].abs().max()) < 0.05  # Vorbis rings a little
    assert float(heard[0][:1800].abs().max()) > 0.5
    assert float(heard[1].abs().mean()) > 0.4
