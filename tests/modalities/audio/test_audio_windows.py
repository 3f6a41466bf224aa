import copy
import random

import numpy as np
import pytest
import torch

from multicl.modalities.audio import Audio
from multicl.types import InputError

RATE = 8000
AUDIO = Audio(rate=RATE, max_seconds=0.5, windows=4)


def clip(length, seed=0):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) * 0.1


def encoder_of(audio):
    torch.manual_seed(0)
    return audio.build().eval()


@torch.no_grad()
@pytest.mark.parametrize("form", ["mel", "wave"])
def test_windows_are_embedded_and_averaged_whatever_stands_beside(form):
    audio = Audio(rate=RATE, max_seconds=0.5, windows=4, input=form)
    windowed, plain = encoder_of(audio), encoder_of(Audio(rate=RATE, input=form))
    clips = [clip(n, n) for n in (1, 3999, 4000, 4001, 9000, 16000)]
    wanted = []
    for sound in clips:
        count = -(-len(sound) // 4000)
        starts = [round((len(sound) - 4000) * i // (count - 1)) for i in range(count)] if count > 1 else [0]
        each = [plain(audio.collate([sound[start : start + 4000]]))[0] for start in starts]
        wanted.append(torch.stack(each).mean(0))
    batch = audio.collate(clips)
    torch.testing.assert_close(windowed(batch), torch.stack(wanted), atol=1e-5, rtol=1e-5)
    assert torch.equal(windowed(batch), windowed(batch))
    for group in ([0, 5], [4, 3, 2, 1]):
        alone = windowed(audio.collate([clips[i] for i in group]))
        torch.testing.assert_close(alone, windowed(batch)[group], atol=1e-5, rtol=1e-5)


def test_evaluation_reads_so_many_windows_and_training_one():
    sound = (np.arange(10 * RATE) / (10 * RATE), RATE)
    assert AUDIO.load(sound, None).shape == (4 * RATE // 2,)
    assert AUDIO.load(sound, random.Random(0)).shape == (RATE // 2,)
    assert Audio(rate=RATE, max_seconds=0.5).load(sound, None).shape == (RATE // 2,)
    assert AUDIO.source != Audio(rate=RATE, max_seconds=0.5).source
    with pytest.raises(InputError, match="windows="):
        Audio(windows=0)


def test_names_are_the_encoder_s_own_and_copies_keep_their_windows():
    windowed, plain = encoder_of(AUDIO), encoder_of(Audio(rate=RATE))
    assert list(windowed.state_dict()) == list(plain.state_dict())
    windowed.load_state_dict(plain.state_dict())
    batch = AUDIO.collate([clip(9000), clip(100)])
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(windowed)(batch), windowed(batch))
        assert not torch.allclose(windowed(batch)[0], plain(batch)[0])


def test_in_training_it_is_the_encoder():
    batch = AUDIO.collate([clip(9000)])
    assert torch.equal(encoder_of(AUDIO).train()(batch), encoder_of(Audio(rate=RATE)).train()(batch))
