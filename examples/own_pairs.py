"""Your own pairs: two columns of texts, term and definition, through one encoder; then look up terms.

python examples/own_pairs.py
"""

from multicl import InfoNCE, Pair, Train, Trainer
from multicl.modalities.text import Text

# Yours may be a table: data="pairs.csv", with the columns term and definition.
PARTS = {"cat": "feline", "dog": "canine", "hen": "bird", "cow": "bovine", "bee": "insect", "eel": "fish"}
AGES = {"baby": "young", "old": "aged", "wild": "untamed", "tame": "friendly"}
rows = [
    {"term": f"{age} {animal}", "definition": f"an animal that is {meaning} and a kind of {kind}"}
    for animal, kind in PARTS.items()
    for age, meaning in AGES.items()
]

nodes = {"term": Text("words", tower="text"), "definition": Text("words", tower="text")}  # one tower: shared weights
terms = [Pair("term", "definition", InfoNCE(temperature=0.1))]
model = Trainer(nodes, terms, data=rows, train=Train(batch_size=24, steps=30)).fit()

definitions = [row["definition"] for row in rows]
vectors = model.embed(definition=definitions)
found = (model.embed(term=[row["term"] for row in rows]) @ vectors.T).argmax(1).tolist()
for i in (0, 7, 21):
    print(f"{rows[i]['term']}: {definitions[found[i]]}")
print(f"recall@1 of {len(rows)} terms: {sum(i == j for i, j in enumerate(found)) / len(rows):.0%}")
