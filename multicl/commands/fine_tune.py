"""The measure `fine_tune`: how good a starting point the trained weights are for learning the labels."""

from __future__ import annotations

from dataclasses import replace

from multicl.data.ids import label_key
from multicl.data.rows import Rows
from multicl.evaluation.figure import Figure, mean_of
from multicl.model import Model
from multicl.predict import hits
from multicl.settings import Train
from multicl.targets import Target
from multicl.trainer import Trainer
from multicl.training.optim import Optim


def fine_tune(
    model: Model, node: str, train: Rows, test: Rows, label: str, *,
    epochs: float = 3, lr: float = 3e-4, batch_size: int = 128, seed: int = 0, fresh: bool = False,
) -> Figure:  # fmt: skip
    """Fine-tune a copy of a node's encoder with a linear classifier on labelled rows, and measure its test accuracy.

    The model is not changed. Training uses the adapter's weak views, AdamW and a cosine schedule.

    Args:
        train, test: rows with the node's column and labels; rows without a label are left out.
        fresh: start from newly initialised weights instead, for comparison.

    Returns:
        Accuracy in [0, 1], with its interval over test rows.

    Raises:
        InputError: fewer than two labels, a test label that training lacks, rows that cannot be read.
    """
    modality = model.towers.modalities[node]
    labels = train.column(label)
    kept = [i for i, value in enumerate(labels) if label_key(value) is not None]
    rows = train if len(kept) == len(labels) else train.take(kept)
    size = min(batch_size, len(rows))
    trainer = Trainer(
        {node: replace(modality, tower=None)},  # type: ignore[type-var]
        [Target(node, label, name="label")],
        rows,
        train=Train(batch_size=size, epochs=epochs, lr=lr, seed=seed, log_every=1 << 30),
        optim=Optim(weight_decay=0.05),
        space=None,
    )
    if not fresh:
        own = model.towers.encoders[model.towers.towers[node]].state_dict()
        trainer.towers.encoders[trainer.towers.towers[node]].load_state_dict(own)
    return mean_of(hits(trainer.fit(), test, column=label))
