"""Flags with which recipes are measured in a few minutes on a laptop's CPU; DATA is the folder of the data sets."""

from __future__ import annotations

CIFAR = "--train.batch-size 256 --train.steps 600 --train.lr 1e-3 --bank 20000"
BIND = "--core text --train.batch-size 128 --train.epochs 8 --train.lr 2e-3"
BUDGETS = {
    "codes": "",
    "simclr": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "moco": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "moco+v3": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR} --version v3 "
    "--objective.temperature 0.2 --head.dim 256 --head.hidden 4096 --head.norm batch --head.centred "
    "--momentum.schedule cosine",
    "supcon": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "swav": "--data.path DATA/cifar10 --image.encoder small --image.stem default --train.batch-size 256 "
    "--train.steps 300 --objective.prototypes 300 --objective.frozen-steps 30 --local-draws 2 --bank 20000",
    "semi": "--data.path DATA/cifar10 --data.split train[:10000] --data.labels 0.1 --image.encoder small "
    "--image.stem default --train.batch-size 256 --train.steps 120",
    "instdisc": f"--data.path DATA/cifar10 --image.encoder small --image.stem default --optim.name adamw {CIFAR}",
    "cmc": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "cmc+ycbcr": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR} --views Y CbCr",
    "cmc+three": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR} --views L a b",
    "cmc+core": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR} --views L a b "
    "--graph core",
    "cmc+crossed": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR} --crossed",
    "cmc+nce": "--data.path DATA/cifar10 --data.split train[:10000] --image.encoder small --image.stem default "
    "--train.batch-size 256 --train.steps 390 --train.lr 1e-4 --bank 10000 --nce --head.layers 2 --head.norm batch "
    "--head.centred --instances.negatives 4096",
    "cross_view": "--data.path DATA/emoji --data.columns a google b twitter --train.batch-size 254 --train.epochs 130 "
    "--image.size 48 --image.fields 4 --image.crop-pct 0.9",
    "cross_view+sounds": "--sounds --data.path DATA/prompts --data.columns a audio b audio_es --audio.rate 8000 "
    "--train.batch-size 128 --train.epochs 45 --train.lr 1e-3",
    "simclr_audio": "--data.path DATA/spoken_digits --audio.rate 8000 --audio.depth 0 --data.group speaker "
    "--data.batches one --train.batch-size 75 --train.epochs 10 --train.lr 3e-4",
    "cola": "--data.path DATA/spoken_digits --audio.rate 8000 --audio.seconds 0.3 --data.group speaker "
    "--train.epochs 20",
    "cmc_audio": "--data.path DATA/spoken_digits --wave.rate 8000 --mel.rate 8000 --wave.depth 0 --mel.depth 0 "
    "--data.group speaker --data.batches one --train.batch-size 75 --train.epochs 10",
    "simcse": "--data.path DATA/wordnet --data.columns text definition --sts DATA/stsb --text.encoder words "
    "--text.pooling mean --head.layers 0 --train.batch-size 256 --train.steps 1000 --train.lr 1e-3",
    "clip": "--data.path DATA/emoji --data.columns image google --train.epochs 60 --beside.unseen twitter",
    "clip+images": "--data.path DATA/emoji --data.columns image google --train.epochs 60 --beside.unseen twitter "
    "--images 0.5",
    "siglip": "--data.path DATA/emoji --data.columns image google --train.epochs 60",
    "lit": "--data.path DATA/emoji --data.columns image google --image.encoder small --image.size 64 "
    "--optim.tower-lr text 0 --text.encoder sentence-transformers/all-MiniLM-L6-v2 --train.epochs 60",
    "clap": "--data.path DATA/prompts --audio.rate 8000",
    "bind": BIND,
    "bind+direct": f"{BIND} --direct image-audio",
    "scored_pairs": "--data.path DATA/stsb --sts DATA/stsb --text.encoder words --text.pooling mean --train.lr 1e-3",
    "pairs": "--data.path DATA/wordnet --data.columns query term document definition --data.split train[:10000] "
    "--train.steps 400 --mine.every 100 --mine.start 100",
}
