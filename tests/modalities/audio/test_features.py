"""The features of a batch are those that transformers' extractors make of its clips, one by one."""

import pytest
import torch
from transformers import ASTFeatureExtractor, ClapFeatureExtractor, WhisperFeatureExtractor

from multicl.modalities.audio import features
from multicl.modalities.audio.pretrained import SHORTEST

RATE = 16000
SMALL = {"feature_size": 16, "sampling_rate": RATE, "max_length_s": 1, "hop_length": 200, "fft_window_size": 400}


def sounds(longest, least=int(SHORTEST * RATE)):
    """[B, T] and lengths: noise that fades to nothing, silence, full scale, ends of all kinds."""
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor(
        [least, least + 1, longest // 3, longest // 2, longest // 2 + 1, longest - 1, *[longest] * 5]
    )
    wave = torch.randn(len(lengths), longest, generator=g) * torch.logspace(0, -6, longest)
    wave[7] = 0
    wave[8] = torch.sign(wave[8])
    wave[9] *= 1e-4
    return wave * (torch.arange(longest) < lengths[:, None]), lengths


def theirs(extractor, wave, lengths):
    clips = [row[:length].numpy() for row, length in zip(wave, lengths.tolist(), strict=True)]
    given = extractor(clips, sampling_rate=RATE, return_tensors="pt")
    return given[extractor.model_input_names[0]].float()


@pytest.mark.parametrize("padding", ["repeat", "repeatpad", "pad"])
@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
def test_clap(truncation, padding):
    extractor = ClapFeatureExtractor(**SMALL, frequency_max=8000, truncation=truncation, padding=padding)
    wave, lengths = sounds(RATE)
    found = features.of_batch(extractor, wave, lengths)["input_features"]
    wanted = theirs(extractor, wave, lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)  # decibels; theirs are rounded on the way
    shorter = features.of_batch(extractor, wave[:3, : RATE // 2], lengths[:3])["input_features"]
    torch.testing.assert_close(shorter, found[:3], atol=1e-6, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"max_length": 50}, {"num_mel_bins": 40, "do_normalize": False}], ids=str)
def test_ast(settings):
    extractor = ASTFeatureExtractor(**settings)
    wave, lengths = sounds(RATE)
    found = features.of_batch(extractor, wave, lengths)["input_values"]
    torch.testing.assert_close(found, theirs(extractor, wave, lengths), atol=1e-4, rtol=1e-5)


def test_what_lies_beyond_a_clip_is_not_heard():
    for extractor in (ClapFeatureExtractor(**SMALL, frequency_max=8000), ASTFeatureExtractor(max_length=90)):
        wave, lengths = sounds(RATE)
        noisy = torch.where(torch.arange(RATE) < lengths[:, None], wave, 1.0)
        (found,), (clean,) = (features.of_batch(extractor, x, lengths).values() for x in (noisy, wave))
        assert torch.equal(found, clean)


def test_other_extractors_are_left_to_themselves():
    class Own(ClapFeatureExtractor):
        pass

    wave, lengths = sounds(RATE)
    assert features.of_batch(WhisperFeatureExtractor(), wave, lengths) is None
    assert features.of_batch(Own(**SMALL, frequency_max=8000), wave, lengths) is None


def test_autocast_does_not_round_them():
    for extractor in (ClapFeatureExtractor(**SMALL, frequency_max=8000), ASTFeatureExtractor(max_length=90)):
        (wanted,) = features.of_batch(extractor, *sounds(RATE)).values()
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = features.of_batch(extractor, *sounds(RATE)).values()
        assert torch.equal(found, wanted)


@pytest.mark.gpu
def test_a_gpu_makes_the_same():
    for extractor in (ClapFeatureExtractor(**SMALL, frequency_max=8000), ASTFeatureExtractor(max_length=90)):
        wave, lengths = sounds(RATE)
        (wanted,) = features.of_batch(extractor, wave, lengths).values()
        (found,) = features.of_batch(extractor, wave.cuda(), lengths.cuda()).values()
        torch.testing.assert_close(found.cpu(), wanted, atol=1e-3, rtol=1e-4)
