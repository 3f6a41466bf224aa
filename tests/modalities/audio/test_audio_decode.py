import io
import random

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities.audio import Audio
from multicl.types import BadSample

RATE = 16000
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
AUDIO = Audio(rate=RATE)
FORMATS = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]


def encode(samples, rate=RATE, form="WAV", subtype="PCM_16"):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
def test_formats(form, subtype):
    wave = AUDIO.load(encode(TONE, form=form, subtype=subtype), None)
    assert wave.dtype == torch.float32
    assert wave.shape == (RATE,)
    assert correlation(wave[2000:-2000], TONE[2000:-2000]) > 0.99


def test_every_way_to_hand_in_one_sound(tmp_path):
    wav = encode(TONE)
    path = tmp_path / "tone.wav"
    path.write_bytes(wav)
    expected = AUDIO.load(wav, None)
    pcm = np.round(TONE * 32768).astype(np.int16)
    for raw in (
        bytearray(wav), memoryview(wav), path, str(path), {"path": path}, {"bytes": None, "path": str(path)},
        {"bytes": wav, "path": None}, {"bytes": wav, "path": "gone.wav"}, {"array": pcm, "sampling_rate": RATE},
        (pcm, RATE), (pcm.tolist(), RATE), (pcm.astype(np.int64), RATE), (torch.from_numpy(pcm), RATE),
        ((pcm / 32768).tolist(), RATE), (pcm / 32768, float(RATE)), (pcm, torch.tensor(RATE)), (pcm, np.array(RATE)),
    ):  # fmt: skip
        torch.testing.assert_close(AUDIO.load(raw, None), expected, atol=4e-5, rtol=0)


def test_one_sound_is_told_from_several(tmp_path):
    wav = encode(TONE)
    one = "a.wav", tmp_path, wav, {"bytes": wav}, (TONE, RATE), (TONE, np.int64(RATE)), (TONE, torch.tensor(RATE))
    for values in (*one, TONE, io.BytesIO(wav), (RATE, TONE)):  # the last ones to be told what is wrong
        assert AUDIO.single(values)
    pair = (tmp_path, tmp_path), (wav, wav), (TONE, TONE), ((TONE, RATE), (TONE, RATE))
    for values in (*pair, [TONE, RATE], [wav], np.array(["a.wav"]), np.array([wav], object), (x for x in [wav])):
        assert not AUDIO.single(values)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_channels_are_averaged_wherever_they_stand(channels):
    gains = np.linspace(0.2, 1.0, channels)
    frames = TONE[:, None] * gains
    expected = torch.from_numpy(TONE * gains.mean()).float()
    for raw in ((frames, RATE), (frames.T, RATE), encode(frames)):
        torch.testing.assert_close(AUDIO.load(raw, None), expected, atol=4e-5, rtol=0)


@pytest.mark.parametrize(("channel", "gain"), [("left", 0.2), ("right", 1.0), ("mean", 0.6)])
def test_a_side_of_stereo(channel, gain):
    frames = TONE[:, None] * np.array([0.2, 1.0])
    audio = Audio(rate=RATE, channel=channel)
    for raw in ((frames, RATE), (frames.T, RATE), encode(frames), encode(frames, form="FLAC")):
        torch.testing.assert_close(audio.load(raw, None), torch.from_numpy(TONE * gain).float(), atol=4e-5, rtol=0)
    torch.testing.assert_close(audio.load((TONE, RATE), None), torch.from_numpy(TONE))
    if channel != "mean":
        with pytest.raises(BadSample, match=f"a sound of 7 channels has no {channel} one"):
            audio.load((TONE[:, None] * np.ones(7), RATE), None)


def test_a_clipped_sound_stays_within_range():
    loud = encode(np.clip(10 * TONE, -1, 1))
    assert AUDIO.load(loud, None).abs().max() <= 1
    assert AUDIO.load(loud, None).isfinite().all()


def test_of_three_hours_only_the_window_is_decoded(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", samplerate=8000, channels=1, subtype="PCM_U8") as file:
        for _ in range(180):
            file.write(np.full(60 * 8000, 0.5, dtype=np.float32))
    audio = Audio(rate=8000, max_seconds=2)
    assert audio.load(path, None).shape == (16000,)
    assert audio.load(path, random.Random(1)).shape == (16000,)


@given(rate=st.sampled_from([8000, 11025, 22050, 44100, 48000]), wanted=st.sampled_from([8000, 11025, 16000]))
@settings(max_examples=15, deadline=None)
def test_resampling_keeps_the_tone(rate, wanted):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    wave = Audio(rate=wanted).load((tone, rate), None)
    assert len(wave) == wanted
    expected = np.sin(2 * np.pi * 440 * np.arange(wanted) / wanted)
    assert np.abs(wave.numpy() - expected)[200:-200].max() < 0.01


def test_a_ratio_of_large_numbers_is_rounded_not_refused():
    tone = np.sin(2 * np.pi * 440 * np.arange(16001) / 16001)
    wave = AUDIO.load((tone, 16001), None)
    assert abs(len(wave) - RATE) <= 8  # 0.05 %
    assert correlation(wave[:RATE], TONE[: len(wave)]) > 0.9


def test_of_a_long_sound_only_a_window_is_read(tmp_path):
    ramp = np.arange(5 * RATE) / (5 * RATE)
    path = tmp_path / "ramp.flac"
    path.write_bytes(encode(ramp, form="FLAC"))
    audio = Audio(rate=RATE, max_seconds=1)
    for raw in (path, (ramp, RATE)):
        first = audio.load(raw, None)
        assert first.shape == (RATE,)
        assert first[0] == 0
        starts = {round(float(audio.load(raw, random.Random(seed))[0]), 3) for seed in range(8)}
        assert len(starts) == 8
        assert max(starts) <= 0.8
        assert torch.equal(audio.load(raw, random.Random(3)), audio.load(raw, random.Random(3)))


def test_tiny_and_silent_sounds_are_sounds():
    assert AUDIO.load(encode(TONE[:1]), None).shape == (1,)
    assert AUDIO.load((np.zeros(1), 48000), None).shape == (1,)
    assert AUDIO.load((np.zeros(100), RATE), None).abs().max() == 0


def test_integers_in_a_list_are_of_the_bits_that_hold_them():
    pcm = np.round(TONE * 2**31).astype(np.int32)
    torch.testing.assert_close(AUDIO.load((pcm.tolist(), RATE), None), torch.from_numpy(TONE), atol=1e-6, rtol=0)


def cut(form, subtype, share):
    data = encode(TONE, form=form, subtype=subtype)
    return data[: int(len(data) * share)]


BAD = {
    "empty": (b"", "no bytes"),
    "junk": (
        b"not a sound at all" * 20,
        r"^not a readable sound: Format not recognised; ffmpeg converts most sounds to \.flac$",
    ),
    "no length": (encode(TONE[:0]), "a sound without samples"),
    "cut wav": (cut("WAV", "PCM_16", 0.6), "truncated"),
    "cut flac": (cut("FLAC", "PCM_16", 0.6), "not a readable sound|truncated"),
    "cut vorbis": (cut("OGG", "VORBIS", 0.6), "not a readable sound|truncated"),
    "cut mp3": (cut("MP3", "MPEG_LAYER_III", 0.3), "not a readable sound|truncated"),
    "nan": ((np.array([0, np.nan]), RATE), "not finite"),
    "inf in a file": (encode(np.array([0, np.inf]), subtype="FLOAT"), "not finite"),
    "bare array": (TONE, "without its rate"),
    "base64": (
        "UklGRqwW" * 200,
        r"^a text of 1600 characters is no path, 'UklGRqwW.{0,40} \.\.\.; decode base64 to bytes$",
    ),
    "several": (["a.wav", "b.wav"], "a list of 2 files; a cell holds one sound"),
    "bare list": ([0.0, 0.1], "without its rate"),
    "no rate": ({"array": TONE, "sampling_rate": None}, "sampling rate None"),
    "scipy's order": (
        (16000, TONE),
        r"^an array where its sampling rate is expected; the order is \(array, rate\), not",
    ),
    "scipy's order in lists": ((16000, [0.1] * 20000), r"^an array where.*\(rate, array\)$"),
    "rate of zero": ((TONE, 0), "sampling rate 0"),
    "rate of nan": ((TONE, float("nan")), "sampling rate nan"),
    "a string for a rate": ((TONE, "16k"), "sampling rate '16k'"),
    "no samples": ((np.zeros(0), RATE), "not empty"),
    "three dimensions": ((np.zeros((2, 3, 4)), RATE), r"shape \[2, 3, 4\]"),
    "strings": ((np.array(["a"]), RATE), "floats or integers"),
    "complex": ((np.array([1j]), RATE), "floats or integers"),
    "more than 32 bits": (([2**31], RATE), "from 2147483648 to 2147483648; integers must fit in 16 or 32 bits"),
    "ragged": (([[1, 2], [1]], RATE), "not a waveform"),
    "none": (None, "NoneType"),
    "number": (3, "int"),
    "empty dict": ({}, "NoneType"),
    "missing file": ("gone/missing.wav", "gone/missing.wav"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_samples_say_what_is_wrong(name):
    raw, reason = BAD[name]
    with pytest.raises(BadSample, match=reason):
        AUDIO.load(raw, None)
    with pytest.raises(BadSample, match=reason):
        AUDIO.preview(raw)


def test_a_bad_file_is_named(tmp_path):
    path = tmp_path / "bad.wav"
    path.write_bytes(b"RIFF....")
    with pytest.raises(BadSample, match=r"bad\.wav"):
        AUDIO.load(path, None)
    with pytest.raises(BadSample, match=str(tmp_path)):
        AUDIO.load(tmp_path, None)  # a folder


@given(st.binary(max_size=300))
@settings(max_examples=25, deadline=None)
def test_no_bytes_bring_anything_but_a_sound_or_a_bad_sample(data):
    header = encode(TONE[:50])[:44]
    for raw in (data, header + data):
        try:
            assert AUDIO.load(raw, None).isfinite().all()
        except BadSample:
            continue


def test_preview_passes_small_playable_files_and_encodes_the_rest():
    for (form, subtype), mime in zip(
        FORMATS, ("audio/wav", "audio/flac", "audio/ogg", "audio/ogg", "audio/mpeg"), strict=True
    ):
        data = encode(TONE, form=form, subtype=subtype)
        assert AUDIO.preview({"bytes": data, "path": None}) == (mime, data)
    for raw, seconds in (
        ((TONE, RATE), 1),
        (encode(TONE, subtype="DOUBLE"), 1),
        (encode(np.tile(TONE, 20)), 10),
        ((np.tile(TONE, 4), 192_000), 1 / 3),
        ((TONE[:4000], 4000), 1),
    ):
        mime, data = AUDIO.preview(raw)
        assert mime == "audio/ogg"
        assert len(data) < 200_000
        info = soundfile.info(io.BytesIO(data))
        assert (info.format, info.subtype, info.channels) == ("OGG", "VORBIS", 1)
        assert info.duration == pytest.approx(seconds, abs=0.01)
