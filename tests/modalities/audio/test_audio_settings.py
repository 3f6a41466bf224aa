import dataclasses
import subprocess
import sys
import typing

import pytest
import torch
import tyro
from torch import nn

from multicl.modalities.audio import Audio, Augment
from multicl.types import InputError, Modality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    audio: Audio = dataclasses.field(default=Audio("small", rate=16000))


def test_is_a_modality_with_encoder_first():
    assert isinstance(Audio(), Modality)
    assert Audio("small").encoder == "small"
    with pytest.raises(TypeError):
        Audio("small", "column")


def test_command_line():
    words = ["--audio.encoder", "small", "--audio.rate", "8000", "--audio.seconds", "1.5"]
    words += ["--audio.strong.gain-db", "-3", "3", "--audio.noises", "folder", "--audio.strong.background", "0.5"]
    audio = tyro.cli(Recipe, args=words).audio
    assert (audio.noises, audio.strong.background) == ("folder", 0.5)
    assert (audio.encoder, audio.rate, audio.seconds, audio.strong.gain_db) == ("small", 8000, 1.5, (-3.0, 3.0))
    assert audio.weak == Audio().weak
    assert audio.strong.crop == Audio().strong.crop


def test_hints_resolve_and_import_is_light():
    assert typing.get_type_hints(Audio)["strong"] is Augment
    code = (
        "import sys, multicl.modalities.audio as m; m.Audio();"
        "heavy = {'torch', 'torchaudio', 'transformers', 'soundfile', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Audio(""), "encoder"),
        (lambda: Audio(None), "encoder"),
        (lambda: Audio(rate=10), "rate"),
        (lambda: Audio(seconds=0), "seconds"),
        (lambda: Audio(seconds=31), "seconds"),
        (lambda: Audio(max_seconds=-1), "max_seconds"),
        (lambda: Audio(trim_db=0), "trim_db"),
        (lambda: Audio(mels=0), "mels"),
        (lambda: Audio(strong="cola"), "strong"),
        (lambda: Audio(window_ms=0), "window_ms"),
        (lambda: Audio(hop_ms=26), "hop_ms"),
        (lambda: Audio(pooling="mean"), "pooling"),
        (lambda: Audio(depth=-1), "depth"),
        (lambda: Audio(depth=33), "depth"),
        (lambda: Audio(input="mp3"), "input"),
        (lambda: Audio(channel="rear"), "channel"),
        (lambda: Audio(center="left"), "center"),
        (lambda: Audio(root=0), "root"),
        (lambda: Audio(root=1.5), "root"),
        (lambda: Audio(parts="equal"), "parts"),
        (lambda: Audio(stride=0), "stride"),
        (lambda: Audio(stride=17), "stride"),
        (lambda: Audio(mels=64.5), "mels"),
        (lambda: Audio(mels="64"), "mels"),
        (lambda: Audio(windows=1.5), "windows"),
        (lambda: Augment(time_masks=1.5), "time_masks"),
        (lambda: Audio(noises="", strong=Augment(background=1)), "noises"),
        (lambda: Audio(noises="folder"), "noises"),
        (lambda: Augment(crop=(0, 1)), "crop"),
        (lambda: Augment(crop=(0.9, 0.5)), "crop"),
        (lambda: Augment(crop=(float("nan"), 1)), "crop"),
        (lambda: Augment(gain_db=(3, -3)), "gain_db"),
        (lambda: Augment(noise_snr_db=(-101, 0)), "noise_snr_db"),
        (lambda: Augment(noise=1.1), "noise"),
        (lambda: Augment(background=-1), "background"),
        (lambda: Augment(background_snr_db=(0, 101)), "background_snr_db"),
        (lambda: Augment(speed=(0.2, 1)), "speed"),
        (lambda: Augment(speed=(1.1, 0.9)), "speed"),
        (lambda: Augment(stretch=1.1), "stretch"),
        (lambda: Augment(tempo=(0.4, 1)), "tempo"),
        (lambda: Augment(tempo=(1.2, 0.9)), "tempo"),
        (lambda: Augment(warp=(0.4, 1)), "warp"),
        (lambda: Augment(warp=(1.1, 0.9)), "warp"),
        (lambda: Augment(time_warp=0.5), "time_warp"),
        (lambda: Augment(time_warp=-0.1), "time_warp"),
        (lambda: Augment(polarity=-0.1), "polarity"),
        (lambda: Augment(color_db=-1), "color_db"),
        (lambda: Augment(shift=1), "shift"),
        (lambda: Augment(time_masks=-1), "time_masks"),
        (lambda: Augment(time_mask_max=1.5), "time_mask_max"),
        (lambda: Augment(freq_masks=-1), "freq_masks"),
        (lambda: Augment(freq_mask_max=2), "freq_mask_max"),
    ],
)
def test_out_of_range_names_the_setting(make, name):
    with pytest.raises(InputError, match=rf"\b{name}="):
        make()


def test_source_holds_what_decides_the_batch_and_nothing_of_the_encoder():
    base = Audio()
    assert (
        base.source
        == Audio(
            "some/model",
            input="wave",
            center="band",
            root=0.1,
            parts="change",
            stride=2,
            mels=80,
            hop_ms=5,
            tower="t",
            column="c",
            pretrained=False,
        ).source
    )
    for change in (
        {"rate": 8000},
        {"channel": "left"},
        {"seconds": 1.0},
        {"max_seconds": 5.0},
        {"trim_db": 20.0},
        {"strong": Augment()},
        {"weak": Augment(polarity=0.5)},
        {"noises": "folder", "weak": Augment(background=0.5)},
        {"noises": "another", "weak": Augment(background=0.5)},
    ):
        assert dataclasses.replace(base, **change).source != base.source
    assert len({base.source, Audio(nn.Linear(1, 1)).source}) == 1


def test_collate_pads_with_zeros_to_the_longest():
    batch = Audio().collate([torch.ones(3), torch.ones(5), torch.ones(1)])
    assert batch.get("wave").dtype == torch.float32
    assert batch.get("wave").sum(1).tolist() == [3, 5, 1]
    assert batch.get("wave").shape == (3, 5)
    assert batch.lengths.dtype == torch.int64
    assert batch.lengths.tolist() == [3, 5, 1]
    assert batch[torch.tensor([2, 0])].trimmed().get("wave").tolist() == [[1, 0, 0], [1, 1, 1]]
