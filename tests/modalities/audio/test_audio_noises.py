import math
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from multicl import Model, Pair, Train, Trainer, load
from multicl.modalities.audio import Audio, Augment, decode, noises
from multicl.towers import Towers
from multicl.types import InputError

RATE = 1000
CPU = torch.device("cpu")


def hum(seconds, hertz, rate=RATE):
    return 0.5 * np.sin(np.arange(round(seconds * rate)) * 2 * math.pi * hertz / rate)


def audio(folder, **changes):
    return Audio(rate=RATE, noises=str(folder), strong=Augment(**{"background": 1.0} | changes))


def quiet(*lengths):
    rows = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in lengths]
    return Audio(rate=RATE).collate(rows)


@pytest.fixture
def folder(tmp_path):
    """As MUSAN is: folders in a folder, notes beside the sounds; all forms, two rates, two channels, a hidden file."""
    root = tmp_path / "noises"
    (root / "free" / "deep").mkdir(parents=True)
    soundfile.write(root / "a.wav", hum(0.3, 100), RATE)
    soundfile.write(root / "free" / "b.FLAC", hum(0.5, 150, 8000), 8000, format="FLAC")
    soundfile.write(root / "free" / "deep" / "c.ogg", hum(1.0, 200, 8000), 8000)
    soundfile.write(root / "free" / "deep" / "d.mp3", np.stack([hum(1.0, 250, 8000)] * 2, 1), 8000)
    (root / "free" / "._b.wav").write_bytes(b"what a Mac leaves")
    (root / "README").write_text("notes")
    return root


def test_all_sounds_of_a_folder_are_read_at_the_rate_and_channel(folder):
    found = noises.read(str(folder), RATE, "mean", CPU)
    assert found.first.tolist() == [0, *found.lengths.cumsum(0).tolist()[:-1]]
    assert found.lengths.sum() == len(found.wave)
    assert found.wave.dtype == torch.float32
    pitches = {}
    for first, n in zip(found.first.tolist(), found.lengths.tolist(), strict=True):
        sound = found.wave[first : first + n]
        assert float(sound.square().mean().sqrt()) == pytest.approx(0.5 * 0.5**0.5, rel=0.1)
        pitches[round(int(torch.fft.rfft(sound, n=10_000).abs().argmax()) / 500) * 50] = n
    assert set(pitches) == {100, 150, 200, 250}
    assert (pitches[100], pitches[150], pitches[200]) == (300, 500, 1000)
    left, right = hum(0.2, 50), hum(0.2, 60)
    soundfile.write(folder / "two.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    only = folder / "only"
    only.mkdir()
    (folder / "two.wav").rename(only / "two.wav")
    np.testing.assert_allclose(noises.read(str(only), RATE, "right", CPU).wave, right, atol=1e-6)


def test_a_view_has_the_noise_at_the_asked_ratio_and_no_other_row(folder):
    batch = quiet(*range(300, 400))
    out = audio(folder, background=0.5, background_snr_db=(6, 6)).view(batch, torch.arange(100) * 7919).get("wave")
    added = out - batch.get("wave")
    touched = added.abs().amax(1) > 0
    assert 30 < touched.sum() < 70
    ratio = 10 * (batch.get("wave")[touched].square().sum(1) / added[touched].square().sum(1)).log10()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 6.0), atol=0.01, rtol=0)
    peaks = torch.fft.rfft(added[touched][:, :300]).abs().argmax(1) * RATE / 300
    counts = [int(((peaks - hertz).abs() < 8).sum()) for hertz in (100, 150, 200, 250)]
    assert sum(counts) == touched.sum()
    assert min(counts) > 3
    beyond = torch.arange(out.shape[1]) >= batch.lengths[:, None]
    assert out[beyond].abs().max() == 0


def test_where_a_noise_begins_is_drawn_and_it_goes_round(tmp_path):
    ramp = np.linspace(0.1, 0.9, 50)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE, subtype="FLOAT")
    batch = Audio(rate=RATE).collate([torch.tensor([1.0, -1.0] * 60)] * 200)
    added = audio(tmp_path).view(batch, torch.arange(200)).get("wave") - batch.get("wave")
    starts = set()
    for row in added:
        first = int(row[:50].argmin())  # where the ramp begins anew
        start = (50 - first) % 50
        starts.add(start)
        wanted = torch.tensor([ramp[(start + j) % 50] for j in range(120)], dtype=torch.float32)
        torch.testing.assert_close(row / row.norm(), wanted / wanted.norm(), atol=1e-4, rtol=0)
    assert len(starts) > 40


def test_a_row_depends_on_its_seed_and_samples_only(folder):
    lengths = (300, 70, 500, 1)
    heard = audio(folder, background=0.8, speed=(0.8, 1.25), stretch=0.5, noise=0.5)
    batch, seeds = quiet(*lengths), torch.arange(4) * 7919
    together = heard.view(batch, seeds)
    for i, n in enumerate(lengths):
        part = batch[i : i + 1]
        alone = heard.view(part.replace(wave=part.get("wave")[:, :n]), seeds[i : i + 1])
        size = int(alone.lengths)
        torch.testing.assert_close(alone.get("wave")[0, :size], together.get("wave")[i, :size], atol=1e-6, rtol=1e-5)
    assert torch.equal(heard.view(batch, seeds).get("wave"), together.get("wave"))
    assert not torch.equal(heard.view(batch, seeds + 1).get("wave"), together.get("wave"))


def test_the_other_draws_are_those_without_a_folder(folder):
    batch = quiet(300, 400)
    changes = {"gain_db": (-6.0, 6.0), "polarity": 0.5, "time_masks": 1}
    with_folder = audio(folder, background=1e-9, **changes).view(batch, torch.arange(2))
    without = Audio(rate=RATE, strong=Augment(**changes)).view(batch, torch.arange(2))
    assert torch.equal(with_folder.get("wave"), without.get("wave"))
    assert torch.equal(with_folder.get("time_masks"), without.get("time_masks"))


def test_of_a_large_folder_windows_of_random_sounds_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(noises, "MOST_SECONDS", 2.0)
    monkeypatch.setattr(noises, "EACH_SECONDS", 0.25)
    for i in range(20):
        soundfile.write(tmp_path / f"{i:02}.wav", np.full(500, (i + 1) / 32), RATE)
    found = noises.read(str(tmp_path), RATE, "mean", CPU)
    assert found.lengths.tolist() == [250] * 8
    levels = found.wave[found.first]
    assert len(levels.unique()) == 8
    assert float(levels.max() - levels.min()) > 6 / 32  # not the first eight
    again = noises.read.__wrapped__(str(tmp_path), RATE, "mean", CPU)
    assert torch.equal(again.wave, found.wave)
    few = tmp_path / "few"
    few.mkdir()
    soundfile.write(few / "long.wav", hum(9, 100), RATE)
    assert noises.read(str(few), RATE, "mean", CPU).lengths.tolist() == [2000]


def test_a_folder_is_read_once_and_no_field_holds_it(folder, monkeypatch):
    heard, batch = audio(folder), quiet(300, 400)
    wanted = heard.view(batch, torch.arange(2)).get("wave")
    dumped = pickle.dumps(heard)
    assert len(dumped) < 3000
    monkeypatch.setattr(decode, "read", None)
    copy = pickle.loads(dumped)
    assert copy == heard
    assert torch.equal(copy.view(batch, torch.arange(2)).get("wave"), wanted)


def test_what_cannot_be_read_is_counted_and_named(folder, caplog):
    for name in ("x.wav", "y.flac", "z.mp3", "zz.ogg"):
        (folder / name).write_bytes(b"no sound")
    found = noises.read(str(folder), RATE, "mean", CPU)
    assert len(found.lengths) == 4
    (said,) = caplog.messages
    assert "4 sounds cannot be read" in said
    assert sum(name in said for name in ("x.wav", "y.flac", "z.mp3", "zz.ogg")) == 3


@pytest.mark.parametrize("kind", ["absent", "a file", "without sounds", "of broken sounds"])
def test_a_folder_without_sounds_is_refused_before_a_run_begins_and_by_views_that_mix_them(tmp_path, kind):
    root = tmp_path / "noises"
    if kind == "a file":
        root.write_text("x")
    elif kind != "absent":
        root.mkdir()
        (root / "notes.txt").write_text("x")
        if kind == "of broken sounds":
            (root / "x.wav").write_bytes(b"x")
    heard, batch = audio(root), quiet(300, 400)
    told = rf"^noises='{re.escape(str(root))}': .*(no such folder|holds no sound|none of its 1 sounds)"
    with pytest.raises(InputError, match=told):
        Trainer({"audio": heard}, [Pair("audio", "audio")], [{"audio": "a.wav"}] * 8, train=Train(batch_size=4))
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            heard.view(batch, torch.arange(2))
    assert heard.view(batch, None) is batch
    heard.view(batch, torch.arange(2), "weak")  # which mixes nothing


def test_a_model_is_loaded_and_embeds_where_the_folder_is_not(folder, tmp_path):
    towers = Towers({"audio": audio(folder)}, [Pair("audio", "audio")])
    cells = [(np.float32(hum(0.3, hertz)), RATE) for hertz in (100, 200)]
    model = Model(towers)
    wanted = model.embed(audio=cells)
    model.save(tmp_path / "model")
    shutil.rmtree(folder)
    loaded = load(str(tmp_path / "model"))
    assert loaded.towers.modalities["audio"].noises == str(Path(folder))
    assert torch.equal(loaded.embed(audio=cells), wanted)


@pytest.mark.gpu
def test_a_gpu_hears_the_same(folder):
    heard, batch, seeds = audio(folder, background=0.8), quiet(300, 70, 500), torch.arange(3)
    found = heard.view(batch.to("cuda"), seeds).get("wave").cpu()
    torch.testing.assert_close(found, heard.view(batch, seeds).get("wave"), atol=1e-5, rtol=1e-5)
