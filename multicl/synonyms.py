"""Names used by other libraries: an unknown `--learning-rate` is pointed to `--train.lr`, `encode` to `embed`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, get_type_hints

from multicl.named import narrowed

NAMES = {
    "train.lr": "learning-rate base-lr",
    "train.batch-size": "per-device-train-batch-size bs",
    "train.epochs": "max-epochs num-epochs num-train-epochs n-epochs",
    "train.steps": "max-steps num-steps total-steps iterations",
    "train.chunk-size": "accum-freq gradient-accumulation-steps accumulate-grad-batches mini-batch-size",
    "train.mixed-precision": "fp16 bf16 amp precision half",
    "train.checkpoint-every": "save-steps save-every save-frequency save-freq save-strategy",
    "train.keep": "save-total-limit save-most-recent delete-previous-checkpoint",
    "train.best": "metric-for-best-model load-best-model-at-end",
    "train.best-is": "greater-is-better",
    "train.gradient-checkpointing": "grad-checkpointing activation-checkpointing",
    "train.log-every": "logging-steps log-every-n-steps log-every-n-iters log-freq print-freq",
    "train.evaluate-every": "eval-steps val-frequency eval-freq eval-strategy",
    "train.trackers": "wandb tensorboard report-to logger log-with",
    "train.patience": "early-stopping early-stopping-patience",
    "train.sync-batch-norm": "sync-bn sync-batchnorm",
    "optim.name": "opt optim optimizer optimiser lars",
    "optim.warmup": "warmup warmup-steps warmup-ratio warmup-epochs num-warmup-steps",
    "optim.schedule": "cos scheduler lr-scheduler lr-scheduler-type lr-schedule",
    "optim.weight-decay": "wd",
    "optim.momentum": "beta1 adam-beta1 sgd-momentum",
    "optim.beta2": "adam-beta2",
    "optim.tower-lr": "lock-image lock-text freeze-backbone freeze-encoder freeze-image freeze-text backbone-lr",
    "optim.clip": "max-grad-norm grad-clip-norm clip-grad gradient-clip-val grad-clip",
    "data.path": "data data-path data-dir data-root dataset dataset-name root train-data train-dir train-file",
    "data.test": "val-data val-dir test-data test-file eval-data validation-file",
    "data.columns": "csv-img-key csv-caption-key image-column caption-column text-column column-names",
    "data.grouped": "m-per-class samples-per-class batch-sampler",
    "data.workers": "num-workers dataloader-num-workers n-workers",
    "objective.temperature": "tau temp moco-t",
    "objective": "loss criterion",
    "head.dim": "dim embed-dim embedding-dim embedding-size out-dim projection-dim proj-dim proj-output-dim moco-dim",
    "head.hidden": "hidden-dim proj-hidden-dim projection-hidden-dim",
    "momentum.rate": "ema momentum-encoder moco-m base-tau base-tau-momentum",
    "queue": "queue-size moco-k memory-bank-size memory-size",
    "run": "out-dir output output-dir save-dir log-dir logs logs-dir checkpoint-dir exp-name experiment run-name",
    "resume": "resume-from-checkpoint auto-resume ckpt-path",
    "checkpoint": "pretrained-model init-from",
    "image.size": "image-size img-size crop-size input-size resolution force-image-size",
    "encoder": "arch architecture backbone model model-name model-name-or-path",
    "image.strong": "augmentation augmentations aug-cfg transform transforms",
    "lora": "lora-r lora-rank use-lora use-peft",
    "label": "label-column",
    "text.pooling": "pooling-mode",
    "text.prompt": "prompts",
    "text.max-tokens": "max-length max-seq-length context-length",
}
"""Our flag, or the ending of several (`encoder` of image and text) -> names in other libraries, space-separated."""
ELSEWHERE = {
    "is a flag of `accelerate launch`, as in `accelerate launch --num_processes 2 recipe.py ...`": (
        "gpus num-gpus n-gpus devices device ngpus gpu-index nproc-per-node num-processes world-size dist-url "
        "local-rank accelerator strategy distributed"
    ),
    "is not needed: the loss is exact over all processes": "local-loss gather-with-grad gather-distributed",
    "is measured on a trained run, as in `multicl eval RUN --measure zero_shot --data FOLDER`": (
        "imagenet-val imagenet-v2 zeroshot-frequency"
    ),
    "is a recipe of its own: `multicl recipes siglip`": "siglip",
    "is a command of the hub, as in `hf upload ORG/NAME RUN/model`": "push-to-hub hub-model-id push-to-hf-hub",
}
"""How to do what none of our flags does -> other libraries' flags for it, space-separated."""

MODULE = "to cuda cpu float half eval train parameters named_parameters state_dict modules requires_grad_"
METHODS = {
    "embed(NODE=[...]) gives vectors": "encode encode_text encode_image encode_query encode_document get_features",
    "compare vectors by a @ b.T": "similarity",
    "model.towers is its nn.Module, as in model.towers.to('cuda')": MODULE,
    "use model.save(FOLDER), or multicl.export.export for other libraries": "save_pretrained",
    "after model.save(FOLDER), `hf upload ORG/NAME FOLDER` uploads it to the hub": "push_to_hub",
}
"""What to do instead -> methods that other libraries' models have and ours lacks, space-separated."""


def instead_of(method: str) -> str:
    """What to use instead of a method that a `Model` lacks; empty if nothing is known."""
    return next((f": {said}" for said, names in METHODS.items() if method in names.split()), "")


def hints(cls: type, words: Sequence[str]) -> list[str]:
    """A hint for each flag on a command line that other libraries have and the settings class lacks."""
    known, lines = list(_flags(cls)), []
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--").lower()
        if not flag.startswith("--") or name in known:
            continue
        ours = [f"--{k}" for end, names in NAMES.items() if name in names.split() for k in known if _ends(k, end)]
        if ours:
            lines.append(f"{flag} is called {', '.join(ours)} here")
        lines += [f"{flag} {said}" for said, names in ELSEWHERE.items() if name in names.split()]
    return lines


def _ends(flag: str, end: str) -> bool:
    return flag == end or ("." not in end and flag.endswith(f".{end}"))


def _flags(cls: Any, before: str = "") -> Iterator[str]:
    """Yield the flags of a settings class and of its groups, without dashes: "train", "train.batch-size"."""
    types = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        flag = before + field.name.rstrip("_").replace("_", "-")
        yield flag
        if dataclasses.is_dataclass(kind := narrowed(types[field.name], field)):
            yield from _flags(kind, f"{flag}.")
