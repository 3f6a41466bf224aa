"""Your own folder of pictures: train without labels (SimCLR), then find the most similar picture to each.

python examples/own_images.py
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from multicl import NTXent, Pair, Train, Trainer
from multicl.modalities.image import Image

# A folder that stands in for yours: stripes, checks and dots, light on dark, with random shifts and brightness.
rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp()) / "pictures"
folder.mkdir()
y, x = np.mgrid[:32, :32]
PATTERNS = {"stripes": (y // 4) % 2, "checks": (y // 4 + x // 4) % 2, "dots": ((y % 8 - 4) ** 2 + (x % 8 - 4) ** 2 < 8)}
for i in range(120):
    name = list(PATTERNS)[i % 3]
    mask = np.roll(PATTERNS[name], rng.integers(0, 8, 2), axis=(0, 1))[..., None].astype(bool)
    pixels = np.where(mask, rng.integers(150, 256), rng.integers(0, 100)) + rng.normal(0, 15, (32, 32, 3))
    Picture.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{name}_{i:03d}.png")

# Two random views of each picture must be nearer to each other than to all other pictures.
files = sorted(map(str, folder.glob("*.png")))  # the folder's path works as well: data=folder
trainer = Trainer(
    {"image": Image("small", size=24)},
    [Pair("image", "image", NTXent(temperature=0.5))],
    data=[{"image": file} for file in files],
    train=Train(batch_size=60, steps=24),
)
model = trainer.fit()

vectors = model.embed(image=files, space=None)  # the encoder's features, unit vectors [120, width]
similar = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1).tolist()
names = [Path(file).stem for file in files]
for i in (0, 40, 80):
    print(f"{names[i]} is most like {names[similar[i]]}")
same = sum(a.split("_")[0] == names[b].split("_")[0] for a, b in zip(names, similar, strict=True))
print(f"the most similar picture has the same pattern: {same} of {len(names)}, by chance about {len(names) // 3}")
