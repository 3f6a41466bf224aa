"""Pictures and words in one space, in ten lines: rows, your own encoder, a pair, a trainer, a search.

python examples/ten_lines.py
"""

import numpy as np
from torch import nn

from multicl import Pair, Train, Trainer
from multicl.modalities.image import Image
from multicl.modalities.text import Text

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "yellow": (210, 200, 40)}
rng = np.random.default_rng(0)


def picture(colour: str) -> np.ndarray:
    """A noisy square of one colour."""
    return np.clip(rng.normal(COLOURS[colour], 25, (16, 16, 3)), 0, 255).astype(np.uint8)


rows = [
    {"image": picture(name), "text": f"a {name} square, number {i}", "colour": name}
    for i in range(64)
    for name in COLOURS
]
own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64), nn.ReLU())
modalities = {"image": Image(own, size=16), "text": Text("words", width=64)}
terms = [Pair("image", "text", ids="colour")]
model = Trainer(modalities, terms, data=rows, train=Train(batch_size=64, steps=40)).fit()

names = list(COLOURS)
found = (
    model.embed(image=[picture(name) for name in names]) @ model.embed(text=[f"a {name} square" for name in names]).T
)
for name, best in zip(names, found.argmax(1).tolist(), strict=True):
    print(f"a {name} picture finds: a {names[best]} square")
