"""Your own sounds, without labels: real recordings of digits that come with multicl; what do neighbours share?

python examples/own_sounds.py
"""

from importlib.resources import files

import pyarrow.parquet as pq

from multicl import NTXent, Pair, Train, Trainer
from multicl.modalities.audio import Audio

# Yours may be a folder of .wav, .flac, .ogg or .mp3 files: data="recordings/".
table = pq.read_table(str(files("multicl.recipes") / "data" / "spoken_codes.parquet"), filters=[("kind", "!=", "scan")])
recordings = [row for row in table.to_pylist() if row["label"] in (0, 7)][::3]
print(f"{len(recordings)} recordings of 'zero' and 'seven' by {len({row['speaker'] for row in recordings})} speakers")

model = Trainer(
    {"audio": Audio("small", seconds=0.5)},
    [Pair("audio", "audio", NTXent(temperature=0.2))],
    data=recordings,
    train=Train(batch_size=64, steps=10),
).fit()

vectors = model.embed(audio=[row["audio"] for row in recordings], space=None)
nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1).tolist()
for what in ("label", "speaker"):
    same = sum(row[what] == recordings[i][what] for row, i in zip(recordings, nearest, strict=True))
    print(f"the nearest recording has the same {what}: {same / len(recordings):.0%}")
