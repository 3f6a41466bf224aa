import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchaudio.transforms import MelSpectrogram

from multicl.modalities.audio import Audio
from multicl.modalities.audio.encoders import Small
from multicl.modalities.audio.mel import LogMel, spec_augment, time_warped, warped, within
from multicl.modalities.audio.parts import equal_parts
from multicl.types import Batch, InputError

RATE = 8000
AUDIO = Audio(rate=RATE)


def clip(length, seed=0):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) * 0.1


def small():
    torch.manual_seed(0)
    return AUDIO.build()


def test_log_mel_is_torchaudios_standardised():
    wave = clip(RATE)
    reference = MelSpectrogram(
        RATE, n_fft=256, win_length=200, hop_length=80, n_mels=40, pad_mode="constant", mel_scale="htk"
    )(wave)
    expected = (reference + 1e-6).log()
    expected = (expected - expected.mean()) / (expected.var(correction=0) + 1e-2).sqrt()
    x, frames = LogMel(RATE, mels=40)(wave[None], torch.tensor([RATE]))
    assert frames.tolist() == [101]
    torch.testing.assert_close(x[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_front_end_of_another_width_gives_what_it_gave(dtype):
    wave, lengths = clip(RATE)[None], torch.tensor([RATE])
    wanted, _ = LogMel(RATE, mels=40)(wave, lengths)
    found, _ = LogMel(RATE, mels=40).to(dtype)(wave, lengths)
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.2)


def test_a_root_of_power_does_not_depend_on_loudness_and_forgets_what_is_far_below_it():
    wave, lengths = torch.stack([clip(RATE), 0.01 * clip(RATE), torch.zeros(RATE)]), torch.tensor([RATE, RATE, RATE])
    power = MelSpectrogram(
        RATE, n_fft=256, win_length=200, hop_length=80, n_mels=40, pad_mode="constant", mel_scale="htk"
    )(wave[:1])
    expected = power**0.1
    expected = (expected - expected.mean()) / expected.std(correction=0)
    x, _ = LogMel(RATE, mels=40, root=0.1)(wave, lengths)
    torch.testing.assert_close(x[0], expected[0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(x[1], x[0], atol=1e-4, rtol=1e-4)
    assert not x[2].any()
    tone = torch.cat([torch.sin(torch.arange(4000) * 0.5), torch.zeros(4000)])[None]
    hiss = tone + 3e-4 * clip(RATE)
    moved = [float((front(tone, lengths[:1])[0] - front(hiss, lengths[:1])[0]).abs().mean())
             for front in (LogMel(RATE, 40), LogMel(RATE, 40, root=0.3))]  # fmt: skip
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000])
@pytest.mark.parametrize("mels", [1, 40, 128])
def test_no_band_is_empty(rate, mels):
    assert (LogMel(rate, mels).bank.sum(0) > 0).all()


def test_too_many_bands_are_refused():
    with pytest.raises(InputError, match="mels=512"):
        Audio(rate=1000, mels=512, window_ms=2, hop_ms=1).build()


def test_bands_of_mean_zero_forget_an_even_colour():
    wave, lengths = torch.stack([clip(RATE), clip(RATE, 1)]), torch.tensor([RATE, 5000])
    wave[1, 5000:] = 0
    x, frames = LogMel(RATE, mels=40, by_band=True)(wave, lengths)
    plain, _ = LogMel(RATE, mels=40)(wave, lengths)
    for row, like, n in zip(x, plain, frames.tolist(), strict=True):
        wanted = like[:, :n] - like[:, :n].mean(1, keepdim=True)
        torch.testing.assert_close(row[:, :n], wanted / wanted.std(correction=0), atol=0.02, rtol=0.02)
        assert row[:, n:].abs().sum() == 0
    spectrum = torch.fft.rfft(clip(RATE)) * (1 + 4 * torch.linspace(0, 1, RATE // 2 + 1))
    coloured = torch.fft.irfft(spectrum, n=RATE)
    both = torch.stack([wave[0], coloured]), torch.tensor([RATE, RATE])
    (bare, heard), (bare_clip, heard_clip) = (LogMel(RATE, 40, by_band=by)(*both)[0] for by in (True, False))
    assert (bare - heard).abs().mean() < 0.2 * (bare_clip - heard_clip).abs().mean()


@pytest.mark.parametrize(
    "audio",
    [
        AUDIO,
        Audio(rate=RATE, center="band"),
        Audio(rate=RATE, root=0.1, parts="change", stride=2),
        Audio(rate=RATE, input="wave"),
        Audio(rate=48000, input="wave"),
        Audio(rate=RATE, input="wave", parts="change", stride=3),
    ],
)
def test_padding_changes_nothing(audio):
    torch.manual_seed(0)
    encoder = audio.build().eval()
    clips = [clip(n, n) for n in (1, 50, 333, 4000, 12345, 24000, *range(500, 6000, 271))]
    together = encoder(AUDIO.collate(clips))
    for i, sound in enumerate(clips):
        alone = encoder(AUDIO.collate([sound]))[0]
        torch.testing.assert_close(alone, together[i], atol=1e-5, rtol=1e-5)


def test_gradients_do_not_depend_on_padding():
    encoder, clips = small(), [clip(3000), clip(20000, 1)]
    encoder(AUDIO.collate(clips)).square().sum().backward()
    together = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    sum(encoder(AUDIO.collate([c])).square().sum() for c in clips).backward()
    for p, grad in zip(encoder.parameters(), together, strict=True):
        torch.testing.assert_close(p.grad, grad, atol=1e-4, rtol=1e-4)


def test_small_keeps_order_in_time():
    encoder = small()
    one, two = clip(4000, 1), torch.sin(torch.arange(4000) * 0.3)
    z = encoder(AUDIO.collate([torch.cat([one, two]), torch.cat([two, one])]))
    assert z.shape == (2, encoder.width)
    assert torch.cosine_similarity(z[0], z[1], dim=0) < 0.9


def test_small_learns_order():
    torch.manual_seed(0)
    encoder = small()
    head = nn.Linear(encoder.width, 2)
    high, low = torch.sin(torch.arange(2000) * 1.5), torch.sin(torch.arange(2000) * 0.2)
    clips = [torch.cat(p) + clip(4000, i) for i in range(8) for p in ((high, low), (low, high))]
    batch, label = AUDIO.collate(clips), torch.arange(16) % 2
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(8):
        loss = nn.functional.cross_entropy(head(encoder(batch)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_small_sizes_and_dtypes():
    encoder = small()
    assert sum(p.numel() for p in encoder.parameters()) < 1_000_000
    assert encoder(AUDIO.collate([clip(1000)])).shape == (1, 256)
    assert encoder(AUDIO.collate([torch.zeros(800), torch.zeros(1)])).isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batch = AUDIO.collate([clip(9000), clip(5000)])
        assert encoder.front(batch.get("wave"), batch.lengths)[0].dtype == torch.float32
        half = encoder(batch)
    torch.testing.assert_close(half.float(), encoder(batch), atol=0.05, rtol=0.05)
    other = copy.deepcopy(encoder)
    assert torch.equal(other(batch), encoder(batch))


@pytest.mark.parametrize("form", ["mel", "wave"])
def test_segments_alone_are_what_the_linear_layer_is_given(form):
    torch.manual_seed(0)
    with_layer = Audio(rate=RATE, input=form).build().eval()
    alone = Audio(rate=RATE, input=form, pooling="segments").build().eval()
    alone.load_state_dict({k: v for k, v in with_layer.state_dict().items() if not k.startswith("out.")})
    batch = AUDIO.collate([clip(9000), clip(5000)])
    assert alone.width == alone(batch).shape[1] == 8 * 128
    torch.testing.assert_close(with_layer.out(alone(batch)), with_layer(batch))


class Bands(nn.Module):
    mels, top = 4, None

    def forward(self, wave, lengths):
        return wave, lengths


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_each_residual_convolution_sees_two_frames_more_to_either_side(depth):
    torch.manual_seed(0)
    encoder, states = Small(Bands(), None, depth), []
    encoder.norms[-1].register_forward_hook(lambda module, args, out: states.append(out[0]))
    one = torch.zeros(1, 4, 80)
    one[0, :, 40] = torch.randn(4)
    for x in (torch.zeros(1, 4, 80), one):
        encoder(Batch({"wave": x, "lengths": torch.tensor([80])}))
    moved = (states[0] - states[1]).abs().amax(1) > 1e-6
    assert moved.nonzero()[:, 0].tolist() == list(range(10 - 2 * depth, 11 + 2 * depth))


@pytest.mark.parametrize("form", ["mel", "wave"])
def test_depth_is_the_number_of_residual_convolutions(form):
    assert [len(Audio(rate=RATE, input=form, depth=depth).build().convs) for depth in (0, 1, 3)] == [0, 1, 3]
    assert len(Audio(rate=RATE, input=form).build().convs) == 3


def test_segments_average_equal_parts():
    weights = equal_parts(within(torch.tensor([8, 3, 1]), 10).float(), 4)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 4))
    torch.testing.assert_close(weights[0, 1], torch.tensor([0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]))
    torch.testing.assert_close(weights[1, 1, :3], torch.tensor([1 / 3, 2 / 3, 0]))
    assert weights[2, :, 0].tolist() == [1, 1, 1, 1]


def test_masks_blank_their_fractions():
    x, frames = torch.ones(2, 10, 20), torch.tensor([20, 10])
    lengths = frames
    batch = Batch({"lengths": lengths, "time_masks": torch.tensor([[[0.5, 0.25]], [[0.0, 0.2]]])})
    batch = batch.replace(freq_masks=torch.tensor([[[0.0, 0.1], [0.9, 0.1]], [[0.0, 0.0], [0.0, 0.0]]]))
    y = spec_augment(x, frames, batch)
    assert (y[0, 5] == 0).nonzero()[:, 0].tolist() == [10, 11, 12, 13, 14]
    assert (y[1, 5] == 0).nonzero()[:, 0].tolist() == [0, 1]
    assert (y[0, :, 0] == 0).nonzero()[:, 0].tolist() == [0, 9]
    assert (y[1, :, 19] == 0).sum() == 0


def plain_warp(column, factor, top):
    """A band at a time: its frequency times the factor, but for a straight line to the top beyond the bend."""
    bands = len(column)
    centres = [(m + 1) / (bands + 1) * 2595 * math.log10(1 + top / 700) for m in range(bands)]
    hertz = [700 * (10 ** (mel / 2595) - 1) for mel in centres]
    bend = 0.6 * top * min(factor, 1) / factor
    out = []
    for h in hertz:
        asked = h * factor if h <= bend else top - (top - factor * bend) / (top - bend) * (top - h)
        out.append(np.interp(2595 * math.log10(1 + asked / 700), centres, column))
    return out


def test_warped_bands_are_those_of_a_longer_or_shorter_tract():
    x, factors = torch.randn(5, 24, 7, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5, 0.8, 1, 1.3, 2])
    y = warped(x, factors, 4000.0)
    for row, factor, found in zip(x, factors, y, strict=True):
        wanted = [plain_warp(row[:, t].tolist(), float(factor), 4000.0) for t in range(7)]
        np.testing.assert_allclose(found.T, wanted, atol=2e-4)
    torch.testing.assert_close(y[2], x[2], atol=1e-4, rtol=0)
    assert torch.equal(warped(x[:, :1], factors, 4000.0), x[:, :1])


def test_a_warped_tone_is_a_lower_tone():
    front, at = LogMel(RATE, mels=40), torch.arange(4000) * 2 * math.pi / RATE
    (one, _), (other, _) = (front(torch.sin(at * hertz)[None], torch.tensor([4000])) for hertz in (1250, 1000))
    found = warped(one, torch.tensor([1.25]), front.top)
    assert found[0, :, 20].argmax() == other[0, :, 20].argmax() != one[0, :, 20].argmax()


def test_a_frame_of_warped_time_is_on_the_straight_lines_through_the_point():
    frames, points = torch.tensor([30, 17, 2, 30]), torch.tensor([[0.3, 0.5], [0.6, 0.45], [0.5, 0.7], [0.4, 0.4]])
    x = torch.randn(4, 3, 30, generator=torch.Generator().manual_seed(0))
    x = x * (torch.arange(30) < frames[:, None])[:, None]
    y = time_warped(x, frames, points)
    for row, n, (from_, to), found in zip(x, frames.tolist(), points.tolist(), y, strict=True):
        asked = np.interp(np.arange(n) / (n - 1), [0, to, 1], [0, from_, 1]) * (n - 1)
        wanted = [np.interp(asked, np.arange(n), band) for band in row[:, :n].tolist()]
        np.testing.assert_allclose(found[:, :n], wanted, atol=1e-5)
        assert found[:, n:].abs().sum() == 0
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert torch.equal(y[3], x[3])


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), points=st.tuples(*[st.floats(0.001, 0.999)] * 2))
@settings(max_examples=50, deadline=None)
def test_warped_time_is_a_row_own_and_stays_within_its_range(lengths, points):
    frames, points = torch.tensor(lengths), torch.tensor([points] * len(lengths))
    x = torch.rand(len(lengths), 2, max(lengths), generator=torch.Generator().manual_seed(0)) + 1
    x = x * (torch.arange(max(lengths)) < frames[:, None])[:, None]
    y = time_warped(x, frames, points)
    for i, n in enumerate(lengths):
        assert torch.equal(y[i : i + 1, :, :n], time_warped(x[i : i + 1, :, :n], frames[i : i + 1], points[:1]))
        assert y[i, :, :n].min() >= 1
        assert y[i, :, :n].max() <= 2
        assert y[i, :, n:].abs().sum() == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"warp": torch.tensor([1.2, 0.9])},
        {"time_warp": torch.tensor([[0.5, 0.7], [0.4, 0.3]])},
        {"freq_masks": torch.tensor([[[0.1, 0.5]]] * 2)},
    ],
)
def test_what_changes_bands_reaches_encoders_of_bands_alone(changed):
    batch = AUDIO.collate([clip(8000), clip(4000)])
    moved = batch.replace(**changed)
    torch.manual_seed(0)
    small, seen = Audio(rate=RATE).build().eval(), Net((6,))
    other = Audio(seen, rate=RATE).build()
    assert not torch.allclose(small(batch), small(moved))
    assert not torch.allclose(other(batch), other(moved))
    wave = Audio(rate=RATE, input="wave").build().eval()
    assert torch.equal(wave(batch), wave(moved))


@pytest.mark.parametrize("form", ["mel", "wave"])
def test_masks_reach_the_encoder(form):
    torch.manual_seed(0)
    encoder, batch = Audio(rate=RATE, input=form).build().eval(), AUDIO.collate([clip(8000)])
    masked = batch.replace(time_masks=torch.tensor([[[0.2, 0.4]]]))
    assert not torch.allclose(encoder(batch), encoder(masked))


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape, self.scale, self.drop = shape, nn.Parameter(torch.ones(1)), nn.Dropout()
        self.seen = []

    def forward(self, x):
        self.seen.append((tuple(x.shape), x.dtype, self.training))
        return (x.flatten(1).mean(1) * self.scale).view(-1, *[1] * len(self.shape)).expand(-1, *self.shape)


class Fails(nn.Module):
    def forward(self, x):
        return {"waves": x}["bands"]


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 2)])
def test_a_module_of_ones_own(shape):
    net = Net(shape)
    net.drop.eval()
    audio = Audio(net, rate=RATE, mels=20)
    encoder = audio.build()
    assert encoder.width == 6
    assert net.seen == [((2, 20, 101), torch.float32, False)]
    assert net.training
    assert not net.drop.training
    assert encoder(audio.collate([clip(4000), clip(2000)])).shape == (2, 6)
    assert net.seen[1] == ((2, 20, 51), torch.float32, True)
    assert any(p is net.scale for p in encoder.parameters())


def test_a_module_on_waves_saving_and_refusals(tmp_path):
    net = Net((4,))
    audio = Audio(net, rate=RATE, input="wave")
    encoder = audio.build(weights=False)
    assert encoder(audio.collate([clip(4000)])).shape == (1, 4)
    assert net.seen == [((2, RATE), torch.float32, False), ((1, 4000), torch.float32, True)]
    audio.save(tmp_path)
    with pytest.raises(InputError, match="give it again"):
        audio.restored(tmp_path)
    with pytest.raises(InputError, match=r"Linear.*\[2, 64, 101\]"):
        Audio(nn.Linear(3, 4), rate=RATE).build()
    with pytest.raises(InputError, match="returned"):
        Audio(nn.Flatten(0), rate=RATE).build()
    with pytest.raises(InputError, match=r"Fails.* raised KeyError: 'bands'"):
        Audio(Fails(), rate=RATE).build()


def test_small_saves_nothing(tmp_path):
    AUDIO.save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert AUDIO.restored(tmp_path) == AUDIO
