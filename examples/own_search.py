"""Your own search database: find pictures by words, by another picture, and under a condition.

python examples/own_search.py        (needs pip install 'multicl[search]')
"""

import tempfile
from pathlib import Path

import numpy as np

from multicl import Pair, Train, Trainer
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.search import Index

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "yellow": (210, 200, 40)}
rng = np.random.default_rng(0)


def picture(colour: str) -> np.ndarray:
    """A noisy square of one colour."""
    return np.clip(rng.normal(COLOURS[colour], 25, (16, 16, 3)), 0, 255).astype(np.uint8)


rows = [
    {"image": picture(name), "text": f"a {name} square", "shelf": i % 4, "colour": name}
    for i in range(40)
    for name in COLOURS
]
nodes = {"image": Image("small", size=16), "text": Text("words", width=64)}
terms = [Pair("image", "text", ids="colour")]
model = Trainer(nodes, terms, data=rows, train=Train(batch_size=80, steps=20)).fit()

index = Index(Path(tempfile.mkdtemp()) / "squares.lance", model)
print(index.add(rows[:100]).new, "rows added")
print(index.add(rows).new, "more: only what is new is embedded")

for query, options in (
    ("a blue square", {}),
    ("a green square", {"where": "shelf = 3"}),
    (picture("yellow"), {"among": ["image"]}),
):
    hits = next(iter(index.search(query, k=3, **options).values()))
    name = query if isinstance(query, str) else "a yellow picture"
    print(f"{name} {options or ''}:")
    for hit in hits:
        print(f"  {hit.score:.3f}  row {hit.row['row']}, {hit.row['colour']}, shelf {hit.row['shelf']}")
