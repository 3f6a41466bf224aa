import math

import pytest
import torch
from torchaudio.functional import phase_vocoder

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.speed import STEPS, lengths_at
from multicl.modalities.audio.tempo import at_tempo

RATE = 8000
POINTS = 512  # what 64 ms are at this rate


def noise(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def tone(n, hertz=440.0, rate=RATE):
    return torch.sin(torch.arange(n) * 2 * math.pi * hertz / rate)


def together(rows):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def plain(row, factor):
    """torchaudio's own, of one row in float64, with so much silence behind that no end is felt."""
    hop, window = POINTS // 4, torch.hann_window(POINTS, dtype=torch.float64)
    long = torch.nn.functional.pad(row.double(), (0, 8 * POINTS))
    spectrum = torch.stft(long, POINTS, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, POINTS // 2 + 1, dtype=torch.float64)[:, None]
    slower = phase_vocoder(spectrum, factor / STEPS, advance)
    return torch.istft(slower, POINTS, hop, window=window, length=math.ceil(len(row) * STEPS / factor))


def test_each_row_is_what_torchaudio_makes_of_it_alone():
    factors = torch.tensor([50, 30, 60, 20, 80, 45, STEPS])  # whose fractions float64 holds exactly
    wave, lengths = together([noise(n, n) for n in (4000, 3111, 2048, 900, 3000, 1, 700)])
    out, sizes = at_tempo(wave, lengths, factors, RATE), lengths_at(lengths, factors)
    assert out.shape == (7, int(sizes.max()))
    assert out.dtype == torch.float32
    for row, n, factor, size, found in zip(wave, lengths, factors, sizes, out, strict=True):
        wanted = row[:n].double() if factor == STEPS else plain(row[:n], int(factor))
        assert len(wanted) == size
        torch.testing.assert_close(found[:size].double(), wanted, atol=2e-4, rtol=0)
        assert found[size:].abs().sum() == 0
    assert torch.equal(out[6, :700], wave[6, :700])


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("factor", [28, 33, 51, 60])
def test_a_tone_keeps_its_pitch_and_level_while_its_length_changes(rate, factor):
    row = tone(rate, rate=rate)
    out = at_tempo(row[None], torch.tensor([rate]), torch.tensor([factor]), rate)[0]
    assert len(out) == math.ceil(rate * STEPS / factor)
    inside = out[rate // 10 : -rate // 10] * torch.hann_window(len(out) - 2 * (rate // 10))
    n = 16 * rate  # zeros behind: bins of 1/16 Hz
    assert int(torch.fft.rfft(inside, n=n).abs().argmax()) / 16 == pytest.approx(440, abs=0.3)
    middle = out[rate // 10 : -rate // 10]
    assert float(middle.square().mean().sqrt()) == pytest.approx(0.5**0.5, rel=0.1)


def test_silence_stays_silent_and_so_does_what_is_silent_inside():
    wave, lengths = together([torch.zeros(3000), torch.cat([tone(3000), torch.zeros(3000), tone(3000, 700)])])
    out = at_tempo(wave, lengths, torch.tensor([32, 32]), RATE)
    assert out[0].abs().max() == 0
    assert out[1, 3750 + 2 * POINTS : 7500 - 2 * POINTS].abs().max() < 1e-6
    after = torch.fft.rfft(out[1, 8000:10400] * torch.hann_window(2400)).abs()
    assert int(after.argmax()) * RATE / 2400 == pytest.approx(700, abs=4)


@pytest.mark.parametrize("n", [1, 2, POINTS // 4, POINTS - 1])
@pytest.mark.parametrize("factor", [20, 39, 41, 80])
def test_sounds_shorter_than_a_frame_are_of_the_right_length_and_finite(n, factor):
    out = at_tempo(torch.ones(1, n), torch.tensor([n]), torch.tensor([factor]), RATE)
    assert out.shape == (1, math.ceil(n * STEPS / factor))
    assert bool(out.isfinite().all())
    assert float(out.abs().max()) < 2


def test_a_row_is_to_the_bit_what_it_is_in_any_batch():
    rows = [tone(2500), torch.cat([tone(900), torch.zeros(900), noise(900)]), noise(77), tone(6000, 1000.0)]
    factors = torch.tensor([33, 47, 60, 29])
    wave, lengths = together(rows)
    out = at_tempo(wave, lengths, factors, RATE)
    for row, factor, found in zip(rows, factors, out, strict=True):
        alone = at_tempo(row[None], torch.tensor([len(row)]), factor[None], RATE)[0]
        assert torch.equal(found[: len(alone)], alone)
    assert len(at_tempo(wave[:0], lengths[:0], factors[:0], RATE)) == 0


def test_a_view_stretches_as_many_rows_as_asked_each_by_a_tempo_of_its_own():
    batch = Audio(rate=RATE).collate([noise(400, i) for i in range(400)])
    audio = Audio(rate=RATE, strong=Augment(stretch=0.5, tempo=(0.8, 1.25)))
    out = audio.view(batch, torch.arange(400))
    assert out.get("wave").shape == (400, 500)
    untouched = out.lengths == 400
    assert 170 < untouched.sum() < 240  # a stretch by a factor of 1 is among them
    assert torch.equal(out.get("wave")[untouched, :400], batch.get("wave")[untouched])
    assert set(out.lengths.tolist()) == {math.ceil(400 * STEPS / factor) for factor in range(32, 51)}
    assert torch.equal(audio.view(batch, torch.arange(400)).get("wave"), out.get("wave"))
    assert not torch.equal(audio.view(batch, torch.arange(400) + 1000).lengths, out.lengths)


def test_other_draws_are_what_they_are_without_it():
    batch = Audio(rate=RATE).collate([noise(n, n) for n in (300, 500, 400)])
    changes = {"gain_db": (-6.0, 6.0), "speed": (0.8, 1.25), "noise": 0.5, "polarity": 0.5, "time_masks": 2}
    without = Audio(rate=RATE, strong=Augment(**changes)).view(batch, torch.arange(3))
    beside = Audio(rate=RATE, strong=Augment(**changes, stretch=1e-9)).view(batch, torch.arange(3))
    assert set(without) == set(beside)
    for name in without:
        wanted = without.get(name)
        found = beside.get(name)[:, : wanted.shape[1]] if name == "wave" else beside.get(name)
        assert torch.equal(found, wanted), name


def test_speed_and_tempo_go_together():
    batch = Audio(rate=RATE).collate([tone(4000)] * 20)
    out = Audio(rate=RATE, strong=Augment(speed=(1.25, 1.25), stretch=1.0, tempo=(0.8, 0.8))).view(
        batch, torch.arange(20)
    )
    assert out.lengths.tolist() == [4000] * 20
    spectrum = torch.fft.rfft(out.get("wave")[0]).abs()
    assert int(spectrum.argmax()) * 2 == pytest.approx(440 * 1.25, abs=2)


@pytest.mark.gpu
def test_a_gpu_computes_the_same():
    factors = torch.randint(20, 81, (40,), generator=torch.Generator().manual_seed(0))
    wave, lengths = together([noise(100 + 300 * i, i) for i in range(40)])
    wanted = at_tempo(wave, lengths, factors, RATE)
    found = at_tempo(wave.cuda(), lengths.cuda(), factors.cuda(), RATE).cpu()  # wider: lengths are not waited for
    silence = torch.zeros(len(wave), found.shape[1] - wanted.shape[1])
    torch.testing.assert_close(found, torch.cat([wanted, silence], 1), atol=1e-3, rtol=0)
