"""How many sounds per second does one core augment and turn into log-mels: multicl beside its peers?

    MULTICL_DATA=... python benchmarks/audio_augment.py [--rounds 5]

Sounds of two seconds at 16 kHz. "augment": gain (-12 to 12 dB), polarity (on half), white noise (on all, 10 to 40 dB
below) and shift (up to a quarter either way) of decoded sounds. "log-mel": 64 bands, windows of 25 ms every 10 ms; ours
also standardises each clip. "pipeline": from FLAC bytes to two augmented log-mels. Contenders take turns; time is the
process's own CPU time, the median over rounds. Peers that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
from common import RESULTS, data_folder, finish
from torch import Tensor

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.mel import LogMel

RATE, BATCH = 16000, 64
CHANGES = Augment(gain_db=(-12, 12), polarity=0.5, noise=1.0, shift=0.25)
AUDIO = Audio(rate=RATE, strong=CHANGES)
Contender = Callable[[], Any]
"""Processes all sounds once."""


def ours(waves: Tensor) -> Contender:
    """The whole batch at once, as in a training step."""
    batch, rows, seed = AUDIO.collate(list(waves)), torch.arange(len(waves)), iter(range(2**40))
    return lambda: AUDIO.view(batch, rows + next(seed) * 2**20)


def torch_audiomentations(waves: Tensor) -> Contender:
    """The whole batch at once, with parameters drawn for each sound."""
    import torch_audiomentations as t

    kind = {"output_type": "tensor"}
    change = t.Compose(
        [
            t.Gain(-12, 12, p=1.0, **kind),
            t.PolarityInversion(p=0.5, **kind),
            t.AddColoredNoise(10, 40, 0, 0, p=1.0, **kind),
            t.Shift(-0.25, 0.25, rollover=False, p=1.0, **kind),
        ],
        **kind,
    )
    return lambda: change(waves[:, None], sample_rate=RATE)


def audiomentations(waves: Tensor) -> Contender:
    """A sound at a time, on numpy."""
    import audiomentations as a

    change = a.Compose(
        [
            a.Gain(-12, 12, p=1.0),
            a.PolarityInversion(p=0.5),
            a.AddGaussianSNR(10, 40, p=1.0),
            a.Shift(-0.25, 0.25, rollover=False, fade_duration=0.0, p=1.0),
        ]
    )
    sounds = list(waves.numpy())
    return lambda: [change(sound, sample_rate=RATE) for sound in sounds]


def our_mel(waves: Tensor) -> Contender:
    """The whole batch at once, in slices of its own choice."""
    front, lengths = LogMel(RATE), torch.full((len(waves),), waves.shape[1])
    return lambda: front(waves, lengths)


def torchaudio_mel(waves: Tensor) -> Contender:
    """A sound at a time: a whole batch at once is far slower."""
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(RATE, n_fft=512, win_length=400, hop_length=160, n_mels=64)
    return lambda: [(mel(wave) + 1e-6).log() for wave in waves]


def librosa_mel(waves: Tensor) -> Contender:
    """A sound at a time, on numpy."""
    import librosa

    sounds = list(waves.numpy())
    sizes = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64, "htk": True}
    return lambda: [np.log(librosa.feature.melspectrogram(y=s, sr=RATE, **sizes) + 1e-6) for s in sounds]


def pipeline(waves: Tensor) -> Contender:
    """From FLAC bytes, decoded once, to two views and their log-mels."""
    files = []
    for wave in waves:
        out = BytesIO()
        soundfile.write(out, wave.numpy(), RATE, format="FLAC")
        files.append(out.getvalue())
    front, rows, seed = LogMel(RATE), torch.arange(len(waves)), iter(range(2**40))

    def run() -> None:
        batch = AUDIO.collate([AUDIO.load(file) for file in files])
        for _ in range(2):
            view = AUDIO.view(batch, rows + next(seed) * 2**20)
            front(view.get("wave"), view.get("lengths"))

    return run


TASKS: dict[str, dict[str, Callable[[Tensor], Contender]]] = {
    "augment": {
        "multicl": ours,
        "torch-audiomentations": torch_audiomentations,
        "audiomentations": audiomentations,
    },
    "log-mel": {"multicl": our_mel, "torchaudio a sample": torchaudio_mel, "librosa": librosa_mel},
    "pipeline": {"multicl": pipeline},
}


def sounds() -> Tensor:
    """[BATCH, 2 s] float32: telephone prompts, resampled, concatenated and cut."""
    cells = pq.read_table(data_folder() / "prompts" / "train.parquet", columns=["audio"])["audio"].slice(0, 400)
    waves = [AUDIO.load(cell["bytes"] if isinstance(cell, dict) else cell) for cell in cells.to_pylist()]
    return torch.cat(waves)[: BATCH * 2 * RATE].reshape(BATCH, 2 * RATE).contiguous()


def measure(task: str, waves: Tensor, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Sounds per second, a row for each contender."""
    ready: dict[str, Contender] = {}
    for name, make in TASKS[task].items():
        try:
            ready[name] = make(waves)
            ready[name]()
        except ImportError as error:
            ready.pop(name, None)
            print(f"left out: {name} ({error})", file=sys.stderr)
    rates: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run_once in ready.items():
            began, done = time.process_time(), 0
            while time.process_time() - began < seconds:
                run_once()
                done += len(waves)
            rates[name].append(done / (time.process_time() - began))
    median = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "task": task, "who": name, "sounds/s": round(rate, 1), "ours is faster": round(median["multicl"] / rate, 2),
            "least": round(min(rates[name]), 1), "most": round(max(rates[name]), 1),
        }
        for name, rate in median.items()
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a contender in a round")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="nothing is kept then")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch_audiomentations|audiomentations|librosa")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()[0]
    waves = sounds()
    rows = [row for task in options.task or TASKS for row in measure(task, waves, options.rounds, options.seconds)]
    folder = None if options.task else RESULTS
    finish("audio_augment", rows, folder, rounds=options.rounds, batch=BATCH, threads=1, load=load)
