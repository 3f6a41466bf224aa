"""Your own sentences, without labels (SimCSE): a sentence encoded twice, with different dropout, is a positive pair.

python examples/own_sentences.py
"""

from multicl import InfoNCE, Pair, Train, Trainer
from multicl.modalities.text import Text

# Yours may be a file: data="sentences.txt", one sentence per line.
PLACES = ("harbour", "market", "station", "museum", "garden", "library")
DOINGS = {
    "boats": ("the old boat leaves {}", "a small boat comes to {}", "two boats wait at {}"),
    "food": ("fresh bread is sold at {}", "we eat warm bread near {}", "she buys bread and fish at {}"),
    "weather": ("heavy rain falls over {}", "the rain stops above {}", "wind and rain reach {}"),
}
rows = [
    {"text": form.format(f"the {place}"), "about": about}
    for about, forms in DOINGS.items()
    for form in forms
    for place in PLACES
]

model = Trainer(
    {"text": Text("words", width=64)},  # Text("sentence-transformers/...") is far better, with Train(lr=2e-5)
    [Pair("text", "text", InfoNCE(temperature=0.1))],
    data=rows,
    train=Train(batch_size=54, steps=40),
).fit()

sentences = [row["text"] for row in rows]
vectors = model.embed(text=sentences)
for question in ("a boat", "bread to eat", "rain and wind"):
    scores = (vectors @ model.embed(text=[question])[0]).topk(2)
    print(f"{question!r} finds:")
    for score, i in zip(scores.values.tolist(), scores.indices.tolist(), strict=True):
        print(f"  {score:.2f}  {sentences[i]}  ({rows[i]['about']})")
