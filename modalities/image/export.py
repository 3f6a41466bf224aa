"""Export of a trained image encoder for timm, torchvision or transformers, or as CLIP's or SigLIP's image half."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from multicl.modalities import lora, pretrained
from multicl.modalities.image.encoders import ImageEncoder
from multicl.modalities.image.huggingface import Pooled, load_config
from multicl.modalities.image.libraries import library_of
from multicl.types import Half, InputError

if TYPE_CHECKING:
    from multicl.modalities.image.settings import Image


ROUNDING = "The processor scales and crops pictures of other sizes as in training, up to rounding by half a pixel."


def forms(image: Image) -> tuple[str, ...]:
    """The library that can load the encoder that these settings name, if any."""
    library = library_of(image.encoder)
    if library is None or (library == "transformers" and image.channels != "rgb"):  # its processors read RGB only
        return ()
    return (library,)


def write(image: Image, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
    """Write the net's weights as the library of `forms` names them.

    Returns:
        Markdown for the model card that shows how to use them.

    Raises:
        InputError: there is a head, or the library cannot read pictures as `image` does.
    """
    if head is not None:
        raise InputError(f"{form} has no place for a head: export the encoder's features (--space features)")
    assert isinstance(encoder, ImageEncoder)
    write_as = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}[form]
    return write_as(image, lora.merged(encoder), folder)


def half(image: Image, encoder: nn.Module) -> Half:
    """The encoder as the image half of CLIP or SigLIP, with a processor that reads pictures as `Image.load` does.

    Raises:
        InputError: it is not such a half, or its pictures are not square or not RGB.
    """
    assert isinstance(encoder, ImageEncoder)
    net = encoder.net
    if not isinstance(net, Pooled):
        raise InputError(f"a {type(net).__name__} is not the image half of a two-tower model")
    config = load_config(str(image.encoder))
    vision = getattr(config, "vision_config", None)
    if vision is None:
        raise InputError(f"a {type(net.model).__name__} is not the image half of a two-tower model")
    height, width = image.shape
    if height != width or image.channels != "rgb":
        raise InputError(
            f"two-tower models take square RGB pictures, not {image.channels} of {height} x {width} pixels"
        )
    own = getattr(vision, "image_size", height)
    between = "" if own == height else ", interpolate_pos_encoding=True"
    usage = f"""    from PIL import Image
    pictures = processor(images=[Image.new("RGB", (300, 200))], return_tensors="pt")
    image = model.get_image_features(**pictures{between}).pooler_output  # [N, D]"""
    return Half(lora.merged(net).model, config, lambda: _processor(image, encoder), usage, ROUNDING)


def _processor(image: Image, encoder: ImageEncoder) -> Any:
    """A transformers image processor that reads pictures as `Image.load` does."""
    from PIL.Image import Resampling
    from transformers import CLIPImageProcessor

    from multicl.modalities.image.decode import scaled

    mean, std = _stats(encoder)
    share, interpolation, mode = image.whole
    (height, width), (tall, wide) = image.shape, (scaled(side, share) for side in image.shape)
    size = {"height": tall, "width": wide} if mode == "squash" else {"shortest_edge": min(tall, wide)}
    crop = {"height": height, "width": width}
    how = Resampling[interpolation.upper()]
    return CLIPImageProcessor(size=size, crop_size=crop, resample=how, image_mean=mean, image_std=std)


def _transformers(image: Image, encoder: ImageEncoder, folder: Path) -> str:
    """The model and its image processor."""
    net = encoder.net
    assert isinstance(net, Pooled)
    height, width = image.shape
    if height != width and image.whole[2] == "center":
        raise InputError("the image processors of transformers crop to squares only: train on square pictures")
    with pretrained.quiet():
        net.model.save_pretrained(folder)
    _processor(image, encoder).save_pretrained(folder)
    kind = type(net.model).__name__
    options = "".join(f", {key}={value}" for key, value in net.options.items())
    with torch.no_grad():
        out = net.model(pixel_values=torch.zeros(1, 3, height, width), **net.options)
    pooled = getattr(out, "pooler_output", None) is not None
    tokens = "" if pooled or out.last_hidden_state.ndim == 3 else ".flatten(2).transpose(1, 2)"
    features = "out.pooler_output.flatten(1)" if pooled else f"out.last_hidden_state{tokens}.mean(1)"
    return f"""```python
import torch
from PIL import Image
from transformers import CLIPImageProcessor, {kind}
processor, model = CLIPImageProcessor.from_pretrained("this-folder"), {kind}.from_pretrained("this-folder").eval()
pictures = processor(images=[Image.new("RGB", (300, 200))], return_tensors="pt")
with torch.no_grad():
    out = model(**pictures{options})
features = {features}  # [N, {encoder.width}]
```

{ROUNDING}
"""


def _timm(image: Image, encoder: ImageEncoder, folder: Path) -> str:
    """Weights and config.json, written by timm; normalisation and size are those of training."""
    from timm.models import save_for_hf

    save_for_hf(encoder.net, str(folder), safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    mean, std = _stats(encoder)
    shape = [len(mean), *image.shape]
    share, how, mode = image.whole
    read = {"crop_pct": share, "crop_mode": mode, "interpolation": how}  # as `Image.load` does
    config["pretrained_cfg"] |= {"mean": mean, "std": std, "input_size": shape, **read}
    for key in ("test_input_size", "test_crop_pct"):
        config["pretrained_cfg"].pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    name, channels = config["architecture"], "" if len(mean) == 3 else f", in_chans={len(mean)}"
    again = f"""
The file has no classifier. With a new one of ten classes, by the folder or by the file alone:

```python
model = timm.create_model("local-dir:this-folder", pretrained=True, num_classes=10)
overlay = {{"file": "this-folder/model.safetensors", "num_classes": 0, "custom_load": False}}
model = timm.create_model("{name}", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=10)
```
"""
    return f"""```python
import timm, torch
model = timm.create_model("{name}", num_classes=0{channels}, checkpoint_path="this-folder/model.safetensors").eval()
{_given(image, encoder)}
```
{_colours(image) if channels else again}"""  # older versions of timm assume three channels in any file


def _torchvision(image: Image, encoder: ImageEncoder, folder: Path) -> str:
    from torchvision import models

    weights = {name: tensor.detach().contiguous().clone() for name, tensor in encoder.net.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert isinstance(image.encoder, str)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Inception's initialisation
        theirs = models.get_model(image.encoder, weights=None).state_dict()
    ours, parts = encoder.net.state_dict(), dict(encoder.net.named_modules())
    absent = [name.rpartition(".")[0] for name in theirs if name not in ours]
    last = next(name for name in reversed(absent) if isinstance(parts.get(name), nn.Identity))
    changes = []
    for name, part in parts.items():
        if isinstance(part, nn.Conv2d) and part.weight.shape != theirs[f"{name}.weight"].shape:
            changes.append(f'model.set_submodule("{name}", torch.nn.{part!r})')
    if image.stem == "cifar":
        changes.append("model.maxpool = torch.nn.Identity()")
    lines = "\n".join(["", *changes])
    return f"""```python
import torch, torchvision
from safetensors.torch import load_file
model = torchvision.models.get_model("{image.encoder}", weights=None){lines}
model.load_state_dict(load_file("this-folder/model.safetensors"), strict=False)
model.set_submodule("{last}", torch.nn.Identity())
model.eval()
{_given(image, encoder)}
```

`strict=False`, as the file has no classifier: `{last}` keeps its random weights. The next line removes it, so that the
model gives features; leave that line out to train a classifier of your own there.
{_colours(image)}"""


def _stats(encoder: ImageEncoder) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel that the net sees."""
    mean, std = ([round(value, 7) for value in part.flatten().tolist()] for part in (encoder.mean, encoder.std))
    return mean, std


def _given(image: Image, encoder: ImageEncoder) -> str:
    """Lines of Python that give the features of pictures."""
    mean, std = (f"torch.tensor({values}).view(-1, 1, 1)" for values in _stats(encoder))
    height, width = image.shape
    return f"""mean, std = {mean}, {std}
pictures = torch.rand(2, {len(encoder.mean)}, {height}, {width})
with torch.no_grad():
    features = model((pictures - mean) / std)  # [N, {encoder.width}]"""


def _colours(image: Image) -> str:
    """A note on the channels if they are not RGB in [0, 1]."""
    if image.channels == "rgb":
        return ""
    space = "YCbCr as JPEG has it" if image.channels in ("Y", "CbCr") else "CIE Lab"
    return f"\nIts input is not RGB but {image.channels} of {space}: convert pictures before they are normalised.\n"
