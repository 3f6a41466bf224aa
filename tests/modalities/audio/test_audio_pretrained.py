import copy

import numpy as np
import pytest
import torch
from pretended import same
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from multicl.modalities.audio import Audio, Augment
from multicl.types import InputError

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WAVE = TINY | {
    "conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0.5, "mask_time_prob": 0.5,
}  # fmt: skip
CLAP_AUDIO = {
    "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
    "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16,
    "projection_dim": 8,
}  # fmt: skip


def wav2vec2(norm):
    config = Wav2Vec2Config(**WAVE, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    return Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")


def hubert():
    return HubertModel(HubertConfig(**WAVE, feat_extract_norm="group")), Wav2Vec2FeatureExtractor(do_normalize=False)


def data2vec():
    config = WAVE | {"num_conv_pos_embeddings": 3}
    return Data2VecAudioModel(Data2VecAudioConfig(**config)), Wav2Vec2FeatureExtractor()


def wav2vec2_adapter():
    config = Wav2Vec2Config(**WAVE, feat_extract_norm="layer", add_adapter=True)
    return Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(return_attention_mask=True)


def ast():
    config = ASTConfig(**TINY, max_length=64, num_mel_bins=32)
    return ASTModel(config), ASTFeatureExtractor(max_length=64, num_mel_bins=32)


def whisper():
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16, max_source_positions=50, vocab_size=30,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, encoder_layerdrop=0.5,
    )  # fmt: skip
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=16, chunk_length=1)


def clap(fusion):
    text = TINY | {"vocab_size": 30}
    audio = CLAP_AUDIO | {"enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=16000, hop_length=63 * 4, max_length_s=1, fft_window_size=512,
        frequency_max=8000, truncation="fusion" if fusion else "rand_trunc",
    )  # fmt: skip
    return ClapModel(config), extractor


MODELS = {
    "wav2vec2 group": lambda: wav2vec2("group"),
    "wav2vec2 layer": lambda: wav2vec2("layer"),
    "hubert": hubert,
    "data2vec": data2vec,
    "wav2vec2 adapter": wav2vec2_adapter,
    "ast": ast,
    "whisper": whisper,
    "clap": lambda: clap(False),
    "clap fusion": lambda: clap(True),
}
WAVES = ["wav2vec2 group", "wav2vec2 layer", "hubert", "data2vec", "wav2vec2 adapter"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name.replace(" ", "_"))
            torch.manual_seed(0)
            for part in MODELS[name]():
                part.save_pretrained(made[name])
        return str(made[name])

    return folder


def clip(length, seed=0):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.05


def audio_of(folder, **settings):
    return Audio(folder, max_seconds=settings.pop("max_seconds", 0.5), **settings)


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing_and_gradients_flow(folders, name):
    audio = audio_of(folders(name))
    encoder = audio.build()
    clips = [clip(n, n) for n in (1, 100, 3000, 8000)]
    encoder.eval()
    with torch.no_grad():
        together = encoder(audio.collate(clips))
        assert together.shape == (4, 16) == (4, encoder.width)
        assert together.dtype == torch.float32
        for i, sound in enumerate(clips):
            torch.testing.assert_close(encoder(audio.collate([sound]))[0], together[i], atol=1e-5, rtol=1e-5)
    encoder.train()
    encoder(audio.collate(clips[2:])).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_autocast_rounds_no_spectrogram(folders, name):
    audio = audio_of(folders(name))
    encoder, batch = audio.build().eval(), audio.collate([clip(3000), clip(8000)])
    plain = encoder(batch)
    inputs = None if name in WAVES else encoder._inputs(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(batch)
        if inputs is not None:
            assert all(torch.equal(x, inputs[key]) for key, x in encoder._inputs(batch).items())
    assert (found - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_hears_the_same_and_what_waits_for_it_is_known(folders, name, gpu):
    """transformers looks whether there is padding; clips of models that feel padding go by their lengths; Whisper's
    extractor works on the CPU."""
    audio = audio_of(folders(name), strong=Augment(time_masks=1, freq_masks=1))
    encoder = audio.build().eval()
    batch = audio.view(audio.collate([clip(3000), clip(8000)]), torch.arange(2))
    there, moved = copy.deepcopy(encoder).to("cuda"), batch.to("cuda")
    there(moved)  # a mel bank is sent once
    gpu.clear()
    same(there(moved), encoder(batch), 1e-4)
    waits = {place.partition(":")[2].partition(".<locals>")[0] for place in gpu.waits}
    known = {"ast": set(), "clap": set(), "clap fusion": {"SpectrogramModel.forward"}}
    known |= {"whisper": {"SpectrogramModel._features"}}
    apart = {"WaveModel.forward"} if name in ("data2vec", "wav2vec2 adapter") else set()
    assert waits == known.get(name, {"WaveModel._encode", *apart})
    assert sum(count for place, count in gpu.waits.items() if "WaveModel.forward" in place) == 2 * len(apart)


@pytest.mark.parametrize("name", MODELS)
def test_training_draws_from_no_numpy_generator(folders, name):
    audio = audio_of(folders(name), max_seconds=3)
    encoder = audio.build().train()
    batch = audio.collate([clip(40000), clip(4000)])
    out = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(0)  # dropout
        out.append(encoder(batch))
    assert torch.equal(*out)


@pytest.mark.parametrize(("name", "key"), [("wav2vec2 group", "layerdrop"), ("whisper", "encoder_layerdrop")])
def test_layer_drop_is_set_to_0_with_a_note(folders, name, key, caplog):
    encoder = audio_of(folders(name)).build()
    assert getattr(encoder.model.config, key) == 0
    assert f"{key} 0.5 is set to 0" in caplog.text


@pytest.mark.parametrize("name", WAVES)
def test_a_waveform_model_is_the_reference_on_one_clip(folders, name):
    model, extractor = MODELS[name]()
    model = type(model).from_pretrained(folders(name)).eval()
    inputs = extractor(clip(5000).numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs["input_values"]).last_hidden_state.mean(1)
        audio = audio_of(folders(name))
        found = audio.build().eval()(audio.collate([clip(5000), clip(8000)]))
    torch.testing.assert_close(found[:1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["ast", "whisper", "clap"])
def test_a_spectrogram_model_is_the_reference_on_one_clip(folders, name):
    model, extractor = MODELS[name]()
    model = type(model).from_pretrained(folders(name)).eval()
    inputs = extractor(clip(5000).numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        if name == "whisper":
            frames = -(-5000 // 160)
            expected = model.get_encoder()(inputs["input_features"]).last_hidden_state[:, : (frames + 1) // 2].mean(1)
        elif name == "clap":
            expected = model.audio_model(inputs["input_features"]).pooler_output
        else:
            expected = model(inputs["input_values"]).pooler_output
        audio = audio_of(folders(name))
        found = audio.build().eval()(audio.collate([clip(5000), clip(8000)]))
    torch.testing.assert_close(found[:1], expected, atol=1e-5, rtol=1e-4)


def test_an_extractor_that_can_computes_where_the_sound_is(folders, monkeypatch):
    audio, asked, call = audio_of(folders("whisper")), [], WhisperFeatureExtractor.__call__

    def noted(self, *args, device="unasked", **options):
        asked.append(device)
        return call(self, *args, device=device, **options)

    monkeypatch.setattr(WhisperFeatureExtractor, "__call__", noted)
    audio.build().eval()(audio.collate([clip(5000)]))
    assert asked == ["cpu"]


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_restored_without_weights(folders, tmp_path, name):
    audio = audio_of(folders(name))
    encoder = audio.build()
    audio.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "preprocessor_config.json"}
    again = audio.restored(tmp_path)
    assert (again.encoder, again.pretrained) == (str(tmp_path), False)
    other = again.build(weights=False)
    other.load_state_dict(encoder.state_dict())
    batch = audio.collate([clip(4000), clip(2000)])
    with torch.no_grad():
        assert torch.equal(other.eval()(batch), encoder.eval()(batch))
        assert torch.equal(copy.deepcopy(encoder)(batch), encoder(batch))


def test_pretrained_false_is_fresh_weights(folders):
    name = folders("wav2vec2 group")
    keys = "model.feature_projection.projection.weight"
    loaded, fresh = (audio_of(name, pretrained=p).build().state_dict()[keys] for p in (True, False))
    assert not torch.equal(loaded, fresh)


@pytest.mark.parametrize("name", MODELS)
def test_masks_are_applied(folders, name):
    audio = audio_of(folders(name))
    encoder = audio.build().eval()
    batch = audio.collate([clip(8000), clip(6000, 1)])
    time = batch.replace(time_masks=torch.tensor([[[0.1, 0.3]]] * 2))
    freq = batch.replace(freq_masks=torch.tensor([[[0.1, 0.5]]] * 2))
    with torch.no_grad():
        plain = encoder(batch)
        assert not torch.allclose(encoder(time), plain)
        assert torch.allclose(encoder(freq), plain) == (name in WAVES)


def test_the_rate_must_be_the_models(folders):
    with pytest.raises(InputError, match=r"16000 Hz.*8000 Hz.*--audio\.rate 16000"):
        Audio(folders("ast"), rate=8000).build()


def test_what_a_model_does_not_hear_is_said(folders, caplog):
    Audio(folders("whisper"), max_seconds=30).build(weights=False)
    assert "first 1 s" in caplog.text
    caplog.clear()
    Audio(folders("whisper"), max_seconds=1).build(weights=False)
    assert "first 1 s" not in caplog.text


def test_unknown_and_unfit_names(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("smal", "nobody/no-such-model", str(tmp_path)):
        with pytest.raises(InputError, match=r'"small".*nn\.Module') as caught:
            Audio(name).build()
        assert name in str(caught.value)
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot use the audio encoder"):
        Audio(str(tmp_path)).build()
    with pytest.raises(InputError, match="cannot use the audio encoder"):
        Audio(str(tmp_path)).save(tmp_path / "model")


def test_a_folder_without_weights_is_refused(folders, tmp_path):
    audio_of(folders("ast")).save(tmp_path)
    with pytest.raises(InputError, match="cannot use the audio encoder"):
        Audio(str(tmp_path)).build()
    assert Audio(str(tmp_path)).build(weights=False).width == 16
