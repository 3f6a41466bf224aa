"""Fine-tuning two-tower models of transformers: before the first step they are what transformers has, and go back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hf
import media
import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from two_tower_models import OTHER, RATE, TEXTS, saved, sounds, theirs

import multicl
from multicl.export import export
from multicl.launcher import parse
from multicl.types import InputError

SCALE = {"clip": 3.0, "siglip": 4.7, "clap": 3.0}
SMALL = ["--text.encoder", "words", "--text.heads", "4", "--train.lr", "1e-3"]
FROM = {
    "clip": ["--image.encoder", "small", "--image.size", "64", *SMALL],
    "siglip": ["--image.encoder", "small", "--image.size", "64", *SMALL],
    "clap": ["--audio.encoder", "small", *SMALL],
}
"""Flags that undo the small encoders of `launched`."""
FEW = ["--train.batch-size", "8", "--train.steps", "2"]


@pytest.fixture(scope="module")
def kept(launched: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind -> a folder that holds `model`, a checkpoint, and `run`, trained from it; to be left as it is."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            model = saved(folder / "model", kind)
            said = launched(kind, "--from", str(model), "--run", str(folder / "run"), *FROM[kind])
            assert said.code == 0, said.err
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture
def trained(kept: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Kind -> a finished run, of this test's own; the checkpoint that it began with is `model` beside it."""
    return lambda kind: Path(shutil.copytree(kept(kind), tmp_path / kind)) / "run"


def ours(model: multicl.Model, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    if kind == "clap":
        return model.embed(text=TEXTS), model.embed(audio=[(wave, RATE) for wave in sounds()])
    return model.embed(text=TEXTS), model.embed(image=[Picture.fromarray(media.pixels(i)) for i in range(8)])


def cells(kind: str) -> list[np.ndarray]:
    return sounds() if kind == "clap" else [media.pixels(i) for i in range(8)]


@pytest.mark.parametrize(
    ("kind", "recipe"), [("clip", "clip"), ("siglip", "siglip"), ("clap", "clap"), ("clip", "lit")]
)
def test_before_the_first_step_it_is_the_checkpoint(
    kind: str, recipe: str, recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    folder, node = saved(tmp_path / "model", kind), OTHER[kind]
    words = ["--from", str(folder), "--data.path", str(data), *FEW]
    settings = parse(recipe_of(recipe), words)
    assert settings.train.lr == 1e-5
    if node == "image":
        assert (settings.image.weak.flip, settings.image.weak.crop) == (0.0, (0.9, 1.0))
    else:
        assert (settings.audio.rate, settings.audio.max_seconds) == (RATE, 1)
        assert (settings.audio.weak.crop, settings.audio.weak.noise, settings.audio.weak.time_masks) == ((1, 1), 0, 0)
    assert parse(recipe_of(recipe), [*words, "--train.lr", "3e-4"]).train.lr == 3e-4
    trainer = settings.trainer()
    for found, expected in zip(ours(trainer.model, kind), theirs(folder, kind, TEXTS, cells(kind)), strict=True):
        assert expected.std(0).max() > 2e-3  # rows differ
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    objective: Any = trainer.towers.objectives[f"{node}-text"]
    assert float(objective.log_scale.detach()) == pytest.approx(SCALE[kind])
    trainer.fit()  # a scale above 100 is not cut
    assert float(objective.log_scale.detach()) == pytest.approx(SCALE[kind], abs=1e-3)
    if kind == "siglip":
        assert float(objective.bias.detach()) == pytest.approx(-7.0, abs=1e-3)


@pytest.mark.parametrize("kind", ["clip", "clap"])
def test_a_run_from_a_checkpoint_says_where_it_began_and_is_loaded_without_it(
    kind: str, tmp_path: Path, launched: Any, data: Path
) -> None:
    folder, figure = saved(tmp_path / "model", kind), f"{OTHER[kind]}_to_text_recall@1"
    flags = ["--from", str(folder), "--run", str(tmp_path / "run"), "--train.evaluate-every", "2", "--train.best",
             figure, *FROM[kind]]  # fmt: skip
    said = launched(kind, *flags)
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    first = lines.index(["before", "the", "first", "step"])
    table = lines.index(["base", "last", "best", "95", "%", "interval"])
    assert lines[first + 1][0] == lines[table + 1][0] == figure
    assert lines[first + 1][1] == lines[table + 1][1]  # what it began with
    _, _, _, best, low, high = lines[table + 1]
    assert float(low) <= float(best) <= float(high)
    assert float(best) == pytest.approx(said.result[figure], abs=1e-4)
    assert all(line[0] != "step" for line in lines[:first] if line)
    folder.rename(tmp_path / "gone")
    again = multicl.load(tmp_path / "run", device="cpu")
    assert again.embed(text=TEXTS).shape == (4, 12)


def test_a_long_sound_is_the_same_vector_each_time_and_its_first_part(
    recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    folder = saved(tmp_path / "model", "clap")
    model = parse(recipe_of("clap"), ["--from", str(folder), "--data.path", str(data), *FEW]).trainer().model
    wave = (0.1 * np.random.default_rng(1).standard_normal(5 * RATE)).astype(np.float32)
    vectors = []
    for seed in (0, 1):
        np.random.seed(seed)  # which their extractor would draw from
        vectors.append(model.embed(audio=[(wave, RATE)]))
    assert torch.equal(*vectors)
    _, expected = theirs(folder, "clap", TEXTS, [wave[:RATE]])
    torch.testing.assert_close(vectors[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "siglip", "clap"])
def test_a_trained_run_goes_back_to_transformers(kind: str, trained: Callable[[str], Path]) -> None:
    run, node = trained(kind), OTHER[kind]
    out = export(run, "clap" if kind == "clap" else "clip")
    assert out == run / ("clap" if kind == "clap" else "clip")
    model = multicl.load(run, device="cpu")
    expected = ours(model, kind)
    before = theirs(run.parent / "model", kind, TEXTS, cells(kind))
    classes: Any = {"clip": ("CLIPModel", "CLIPProcessor"), "siglip": ("SiglipModel", "SiglipProcessor"),
                    "clap": ("ClapModel", "ClapProcessor")}  # fmt: skip
    net, processor = (getattr(transformers, name).from_pretrained(out) for name in classes[kind])
    assert type(transformers.AutoProcessor.from_pretrained(out)) is type(processor)
    fill = "max_length" if kind == "siglip" else True
    batch = processor(text=TEXTS, padding=fill, truncation=True, return_tensors="pt")
    with torch.no_grad():
        text = net.eval().get_text_features(**batch).pooler_output
        if node == "image":
            given = processor(images=[Picture.fromarray(p) for p in cells(kind)], return_tensors="pt")
            other = net.get_image_features(**given).pooler_output
        else:
            given = processor(audio=cells(kind), sampling_rate=RATE, return_tensors="pt")
            other = net.get_audio_features(**given).pooler_output
    for found, mine, old in zip((text, other), expected, before, strict=True):
        torch.testing.assert_close(normalize(found, dim=1), mine, atol=1e-5, rtol=0)
        assert (mine - old).abs().max() > 3e-4  # it has learnt
    objective: Any = model.towers.objectives[f"{node}-text"]
    scales = [p for name, p in net.named_parameters() if name.startswith("logit_scale")]
    assert scales
    for scale in scales:
        torch.testing.assert_close(scale.reshape(1), objective.log_scale)
    if kind == "siglip":
        torch.testing.assert_close(net.logit_bias, objective.bias)


@pytest.mark.parametrize("kind", ["clip", "clap"])
def test_with_updates_of_low_rank_both_towers_begin_as_the_checkpoint_and_go_back_merged(
    kind: str, recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    pytest.importorskip("peft")
    folder, node = saved(tmp_path / "model", kind), OTHER[kind]
    flags = [f"--{node}.lora", "2", "--text.lora", "2", *FEW, "--train.lr", "1e-2"]
    trainer = parse(recipe_of(kind), ["--from", str(folder), "--data.path", str(data), *flags]).trainer()
    for found, expected in zip(ours(trainer.model, kind), theirs(folder, kind, TEXTS, cells(kind)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    before = {name: p.detach().clone() for name, p in trainer.towers.encoders.named_parameters()}
    model = trainer.fit()
    moved = {name for name, p in trainer.towers.encoders.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert {name.partition(".")[0] for name in moved} == {"text", node}
    out = export(model.save(tmp_path / "saved"), "clap" if kind == "clap" else "clip", tmp_path / "out")
    for found, trained in zip(theirs(out, kind, TEXTS, cells(kind)), ours(model, kind), strict=True):
        torch.testing.assert_close(found, trained, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "siglip", "clap"])
def test_the_card_of_an_export_is_a_program_that_runs(
    kind: str, tmp_path: Path, trained: Callable[[str], Path]
) -> None:
    run = trained(kind)
    out = export(run, "clap" if kind == "clap" else "clip", tmp_path / "out")
    card = (out / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("this-folder", str(out)), names)
    assert names["text"].shape[0] == names[OTHER[kind]].shape[0] == 1
    expected = multicl.load(run, device="cpu").embed(text=["two words"])
    torch.testing.assert_close(normalize(names["text"], dim=1), expected, atol=1e-5, rtol=0)
    assert "## Measured" in card


def test_there_and_back(recipe_of: Any, trained: Callable[[str], Path], data: Path) -> None:
    run = trained("clip")
    out = export(run, "clip")
    again = parse(recipe_of("clip"), ["--from", str(out), "--data.path", str(data), *FEW]).trainer().model
    for found, expected in zip(ours(again, "clip"), ours(multicl.load(run, device="cpu"), "clip"), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_picture_of_another_size_is_read_nearly_as_ours(trained: Callable[[str], Path]) -> None:
    run = trained("clip")
    out, model = export(run, "clip"), multicl.load(run, device="cpu")
    picture = Picture.fromarray(media.pixels(0)).resize((64, 32), Picture.Resampling.BICUBIC)
    given = transformers.AutoProcessor.from_pretrained(out)(images=[picture], return_tensors="pt")
    mean, std = model.towers.encoder("image").mean, model.towers.encoder("image").std  # type: ignore[union-attr]
    mine = (model.towers.modalities["image"].load(picture, None) / 255 - mean) / std
    torch.testing.assert_close(given["pixel_values"][0], mine, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("recipe", "make", "message"),
    [
        ("clip", lambda path: str(path / "none" / "of" / "these"), "cannot be loaded"),
        ("clip", lambda path: str(hf.bert(path / "bert")), "a BertConfig is not a pair of a text and an image encoder"),
        (
            "clip",
            lambda path: str(saved(path / "m", "clap")),
            "a ClapConfig is not a pair of a text and an image encoder",
        ),
        (
            "clap",
            lambda path: str(saved(path / "m", "clip")),
            "a CLIPConfig is not a pair of a text and an audio encoder",
        ),
        ("clap", lambda path: str(saved(path / "m", "clap", "gelu")), "the head of 'audio' is Linear"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(
    recipe: str, make: Any, message: str, launched: Any, tmp_path: Path
) -> None:
    assert message in launched(recipe, "--from", make(tmp_path), *FROM[recipe]).refusal


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("clip", "--image.size 48", "has image.size = 16: leave out --image.size 48"),
        ("clip", "--text.fill", "has text.fill = False: leave out --text.fill True"),
        ("clip", "--text.max-tokens 1000", "leave out --text.max-tokens 1000"),
        ("siglip", "--head.dim 7", "has head.dim = "),
        ("clap", "--audio.max-seconds 30", "has audio.max_seconds = 1.0: leave out --audio.max-seconds 30"),
    ],
)
def test_a_setting_that_the_checkpoint_has_otherwise_is_refused(
    kind: str, flags: str, message: str, recipe_of: Any, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model", kind)
    with pytest.raises(InputError, match=re.escape(message)):
        parse(recipe_of(kind), ["--from", str(folder), *flags.split()])


EDGE, SQUARE = {"shortest_edge": 16}, {"height": 16, "width": 16}
READERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("CLIPImageProcessor", {"size": EDGE, "crop_size": SQUARE}),
    "cut smaller": ("CLIPImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": SQUARE}),
    "squashed": ("CLIPImageProcessor", {"size": SQUARE, "do_center_crop": False}),
    "squashed and cut": ("CLIPImageProcessor", {"size": {"height": 20, "width": 20}, "crop_size": SQUARE}),
    "SigLIP's": ("SiglipImageProcessor", {"size": SQUARE}),
    "SigLIP 2's": ("SiglipImageProcessor", {"size": SQUARE, "resample": 2}),
    "cut, bilinear": ("CLIPImageProcessor", {"size": {"shortest_edge": 18}, "crop_size": SQUARE, "resample": 2}),
    "not scaled to 1": ("SiglipImageProcessor", {"size": SQUARE, "do_rescale": False, "image_mean": [127.0] * 3,
                                                 "image_std": [60.0] * 3}),
    "not normalised": ("SiglipImageProcessor", {"size": SQUARE, "do_normalize": False}),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_pictures_are_read_as_the_checkpoints_own_processor_does(
    reader: str, recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    folder, (name, settings) = saved(tmp_path / "model", "siglip"), READERS[reader]
    processor = getattr(transformers, name)(**settings)
    processor.save_pretrained(folder)
    net = transformers.AutoModel.from_pretrained(folder).eval()
    model = parse(recipe_of("siglip"), ["--from", str(folder), "--data.path", str(data), *FEW]).trainer().model
    again = multicl.load(model.save(tmp_path / "saved"), device="cpu")
    out = export(tmp_path / "saved", "clip", tmp_path / "out")
    theirs_again = transformers.AutoImageProcessor.from_pretrained(out)
    for width, height in ((64, 64), (96, 48), (40, 80)):
        smooth = Picture.fromarray(media.pixels(3)).resize((width, height), Picture.Resampling.BICUBIC)
        with torch.no_grad():
            given = processor(images=[smooth], return_tensors="pt")
            expected = normalize(net.get_image_features(**given).pooler_output, dim=1)
        for ours_now in (model, again):
            assert float(ours_now.embed(image=[smooth]) @ expected.T) > 0.9999  # theirs rounds pixels in between
        whole = theirs_again(images=[smooth], return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(whole, given["pixel_values"], atol=1e-5, rtol=0)


def test_pictures_of_any_size_are_refused(recipe_of: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "siglip")
    transformers.SiglipImageProcessor(do_resize=False).save_pretrained(folder)
    with pytest.raises(InputError, match="reads pictures of any size, which is not supported"):
        parse(recipe_of("siglip"), ["--from", str(folder)])


def test_a_setting_that_the_checkpoint_shares_or_leaves_open_stays(recipe_of: Any, tmp_path: Path) -> None:
    flags = ["--from", str(saved(tmp_path / "model", "clip")), "--image.size", "16", "--text.max-tokens", "4"]
    settings = parse(recipe_of("clip"), [*flags, "--text.prompt", "a photo of ", "--optim.tower-lr", "image", "0"])
    assert (settings.image.size, settings.text.max_tokens, settings.text.prompt) == (16, 4, "a photo of ")
    assert settings.optim.tower_lr == {"image": 0}


def without(folder: Path, *parts: str) -> Path:
    """A model's folder whose files lack the weights with these words in their names."""
    file = folder / "model.safetensors"
    left = {name: t for name, t in load_file(file).items() if not any(part in name for part in parts)}
    save_file(left, file, metadata={"format": "pt"})
    return folder


def test_files_without_projections_or_temperature_are_refused(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    folder = without(saved(tmp_path / "model", "clip"), "logit_scale", "text_projection")
    settings = parse(recipe_of("clip"), ["--from", str(folder), "--data.path", str(data), *FEW])
    with pytest.raises(InputError, match=r"its files lack logit_scale, text_projection.weight"):
        settings.trainer()


def test_files_of_another_vision_model_are_refused(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    folder = without(saved(tmp_path / "model", "clip"), "vision_model")
    settings = parse(recipe_of("clip"), ["--from", str(folder), "--data.path", str(data), *FEW])
    with pytest.raises(InputError, match="belong to another model than its CLIPVisionModel"):
        settings.trainer()


def test_a_fixed_temperature_is_asked_for(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    flags = ["--from", str(saved(tmp_path / "model", "clip")), "--data.path", str(data), *FEW]
    flags += ["--objective.no-learnable"]
    with pytest.raises(InputError, match=r"has a temperature of 0.0497871: give --objective.temperature"):
        parse(recipe_of("clip"), flags).trainer()
    trainer = parse(recipe_of("clip"), [*flags, "--objective.temperature", "0.05"]).trainer()
    assert trainer.towers.pairs[0].objective.temperature == 0.05


def test_a_text_half_that_projects_to_the_width_of_pictures(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    folder = saved(tmp_path / "model", "siglip")
    config = transformers.SiglipConfig.from_pretrained(folder)
    config.vision_config.hidden_size = config.text_config.projection_size = 24  # as in SigLIP 2's largest
    torch.manual_seed(0)
    transformers.SiglipModel(config).save_pretrained(folder)
    model = parse(recipe_of("siglip"), ["--from", str(folder), "--data.path", str(data), *FEW]).trainer().fit()
    out = export(model.save(tmp_path / "saved"), "clip", tmp_path / "out")
    for found, expected in zip(ours(model, "siglip"), theirs(out, "siglip", TEXTS, cells("siglip")), strict=True):
        assert found.shape[1] == 24
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "limit"), [("left", 20), ("right", 12)])
def test_texts_are_filled_up_as_the_tokenizer_says(
    side: str, limit: int, recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    folder = saved(tmp_path / "model", "siglip")
    inner, names = hf.word_level(), {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner.backend_tokenizer, **names, padding_side=side, model_max_length=limit
    ).save_pretrained(folder)
    tokenizer, net = (kind.from_pretrained(folder) for kind in (transformers.AutoTokenizer, transformers.AutoModel))
    ids = tokenizer(TEXTS, padding="max_length", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = normalize(net.eval().get_text_features(input_ids=ids).pooler_output, dim=1)
    model = parse(recipe_of("siglip"), ["--from", str(folder), "--data.path", str(data), *FEW]).trainer().model
    torch.testing.assert_close(model.embed(text=TEXTS), expected, atol=1e-5, rtol=0)
    out = export(model.save(tmp_path / "saved"), "clip", tmp_path / "out")
    processor = transformers.AutoProcessor.from_pretrained(out)
    given = processor(text=TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    assert torch.equal(given["input_ids"], ids)


def test_another_first_temperature_or_bias_may_be_given(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    flags = ["--from", str(saved(tmp_path / "model", "siglip")), "--data.path", str(data), *FEW]
    for more, scale, bias in (
        (["--objective.temperature", "0.2"], 1.609438, -7),
        (["--objective.bias", "-3"], 4.7, -3),
    ):
        objective: Any = parse(recipe_of("siglip"), [*flags, *more]).trainer().towers.objectives["image-text"]
        assert float(objective.log_scale.detach()) == pytest.approx(scale)  # 1.609438 = log 5
        assert float(objective.bias.detach()) == pytest.approx(bias)


def test_a_model_made_of_two_others(recipe_of: Any, tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "model"
    text = transformers.BertConfig(**hf.SIZE, vocab_size=16, pad_token_id=1, max_position_embeddings=20)
    vision = transformers.ViTConfig(**hf.SIZE, image_size=16, patch_size=8)
    both = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=12)
    net = transformers.VisionTextDualEncoderModel(both).eval()
    net.save_pretrained(folder)
    hf.word_level().save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    model = parse(recipe_of("clip"), ["--from", str(folder), "--data.path", str(data), *FEW]).trainer().model
    given = transformers.ViTImageProcessor.from_pretrained(folder)(images=list(cells("clip")), return_tensors="pt")
    with torch.no_grad():
        expected = normalize(net.get_image_features(**given).pooler_output, dim=1)
    found = model.embed(image=[Picture.fromarray(pixels) for pixels in cells("clip")])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_model_of_pictures_of_any_size_is_refused(recipe_of: Any, tmp_path: Path) -> None:
    config = transformers.Siglip2Config(text_config=hf.SIZE, vision_config=hf.SIZE)
    config.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="a Siglip2VisionConfig takes pictures of any size"):
        parse(recipe_of("siglip"), ["--from", str(tmp_path / "model")])


@pytest.mark.parametrize("part", ["", "model"])
def test_a_run_is_exported_first(part: str, trained: Callable[[str], Path], recipe_of: Any) -> None:
    run = trained("clip")
    with pytest.raises(InputError, match=f"is a model of multicl: run multicl export {run / part} --to clip, and give"):
        parse(recipe_of("clip"), ["--from", str(run / part)])


def test_other_encoders_than_the_checkpoints_are_refused(launched: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "clip")
    flags = ["--image.encoder", "resnet18", "--image.no-pretrained", "--image.size", "32"]
    assert "keep the checkpoint's head and encoders" in launched("clip", "--from", str(folder), *flags).refusal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "clap"}, r"cannot hold this model \(image-text: its encoders do not come from a CLAP model\)"),
        ({"to": "timm"}, r"Forms that fit: --to transformers \(image, text\).*--to clip \(image-text\)"),
        ({"to": "clip", "node": "image"}, "leave out --node image"),
        ({"to": "clip", "space": None}, "leave out --space features"),
        ({"to": "clip", "space": "own"}, "it has no pair in space 'own'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(
    options: dict[str, Any], message: str, trained: Callable[[str], Path]
) -> None:
    with pytest.raises(InputError, match=message):
        export(trained("clip"), **options)
