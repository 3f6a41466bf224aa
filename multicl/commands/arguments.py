"""The command line of `multicl`: its commands and flags, and their --help, without heavy imports."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  multicl demo                                     train speech, handwriting and words into one space, and search it
  multicl fit pictures/                            train on data of your own: a recipe is chosen and written
  multicl demo --say my.wav                        what does my recording of three digits find?
  multicl recipes                                  the methods, each a file to launch or copy
  multicl recipes simclr --copy                    a copy of simclr.py to edit
  multicl views simclr --data.path pictures/       a page of the views that a recipe's encoders will see
  multicl eval runs/simclr                         a run's figures again, from its saved model
  multicl eval runs/simclr --measure knn linear_probe --k 20
  multicl report runs/clip                         one page: figures, map, searches, failures, curves
  multicl compare runs/a runs/b                    figures side by side, and where the recipes differ
  multicl embed runs/clip --data a.parquet --out vectors.parquet
  multicl index runs/clip --data pictures/ --out pictures.lance     a database to search
  multicl search pictures.lance "a red square"     by words, or a picture.png, or a sound.wav; --html page.html
  multicl serve pictures.lance                     the same as a page in the browser
  multicl export runs/simcse --to sentence-transformers
  multicl info                                     versions, devices, adapters
"""


MEASURES = (
    "knn", "linear_probe", "few_shot", "fine_tune", "retrieval", "retrieval_within", "zero_shot", "sts", "clustering",
    "alignment", "uniformity", "effective_rank", "modality_gap", "triplets",
)  # fmt: skip
"""The names in `multicl.commands.measuring.MEASURES`, repeated here so that --help imports nothing heavy."""
EVAL_EXAMPLES = """examples:
  multicl eval runs/simclr                                         the recipe's own measures
  multicl eval runs/simclr --measure knn clustering --label label --k 20
  multicl eval runs/clip --measure retrieval modality_gap --data emoji/ --ids text
  multicl eval runs/clip --measure zero_shot --names class --template "a photo of a {}"
  multicl eval runs/s0 runs/s1 runs/s2 --measure knn               mean and deviation of three seeds
  accelerate launch -m multicl.cli eval runs/clip --measure retrieval    rows dealt out over processes
"""
TO = {
    "sentence-transformers": "a text encoder and its head, as SentenceTransformer loads it",
    "transformers": "features of an encoder that came from there, or of a text encoder",
    "onnx": "a text encoder and its head, for ONNX Runtime",
    "timm": "an image encoder of timm, for timm.create_model(..., checkpoint_path=...)",
    "torchvision": "an image encoder of torchvision, for load_state_dict",
    "clip": "both encoders of a run begun with clip.py or siglip.py --from, for CLIPModel or SiglipModel",
    "clap": "both encoders of a run begun with clap.py --from, for ClapModel",
}
"""The forms of `multicl export`, repeated from `multicl.export` so that --help imports nothing heavy."""
SEARCH = ("index", "search", "serve")
"""Commands that work with a search database."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; in its result, `command` is the chosen command's name or None."""
    parser = argparse.ArgumentParser(
        prog="multicl",
        description="Contrastive learning for images, text and audio with one trainer.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("demo", help="spoken codes: train on real speech, scans and words, then search", add_help=False)
    _add_fit(commands)
    _add_eval(commands)
    _add_report_and_compare(commands)
    _add_embed_and_export(commands)
    _add_recipes_and_views(commands)
    _add_search(commands)
    commands.add_parser("info", help="versions, devices and adapters found")
    return parser


def _add_import(parser: argparse.ArgumentParser) -> argparse.Action:
    return parser.add_argument(
        "--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py",
        help="a file with an adapter of your own, decorated with @multicl.register; may be given again",
    )  # fmt: skip


def _add_embed_and_export(commands: Any) -> None:
    embed = commands.add_parser("embed", help="embed a data set's columns into a Parquet file")
    embed.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    embed.add_argument("--data", required=True, help="a table, a folder or a hub name")
    embed.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE.parquet",
        help="the file to write, with a row for each row of the data",
    )
    embed.add_argument("--split", default="train", help="default: train")
    embed.add_argument("--nodes", nargs="+", help="nodes to embed; default: all whose column is in the data")
    embed.add_argument(
        "--columns", nargs="+", default=[], metavar="NODE=COLUMN", help="columns; default: the run's own"
    )
    embed.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    embed.add_argument("--batch-size", type=int, default=128, help="cells computed at once; default: 128")
    embed.add_argument(
        "--on-error", choices=["skip", "raise"], default="skip", help="for cells that cannot be read; default: skip"
    )
    _add_import(embed)
    forms = "\n".join(f"  {form:<23}{holds}" for form, holds in TO.items())
    export = commands.add_parser(
        "export", help="a model's encoder, or a pair's two, as other libraries load it", epilog=f"forms:\n{forms}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    export.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    export.add_argument("--to", required=True, choices=list(TO), metavar="FORM", help=", ".join(TO))
    export.add_argument("--out", type=Path, metavar="FOLDER", help="default: a folder of that name in RUN")
    export.add_argument("--node", help="whose encoder; default: the only one that fits")
    export.add_argument("--space", help="with the head of a space, or 'features'; default: the recipe's choice")
    _add_import(export)


def _add_recipes_and_views(commands: Any) -> None:
    recipes = commands.add_parser("recipes", help="list the recipes, show one, or copy one to edit")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="a recipe's name; default: list all")
    recipes.add_argument(
        "--copy", nargs="?", const=".", type=Path, metavar="TO", help="copy the recipe's file; default: here"
    )
    views = commands.add_parser(
        "views", help="a page of a recipe's data and their random views", epilog="Other flags are the recipe's own.",
    )  # fmt: skip
    views.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or a file FILE.py")
    views.add_argument("--data", help="a table, a folder or a hub name; as --data.path")
    views.add_argument("--out", type=Path, default=Path("views.html"), metavar="FILE.html", help="default: views.html")
    views.add_argument("--rows", type=int, default=8, help="things of each modality; default: 8")
    views.add_argument("--draws", type=int, default=4, help="views of each; default: 4")
    _add_import(views)


def _add_report_and_compare(commands: Any) -> None:
    report = commands.add_parser("report", help="one self-contained page of a run: report.html")
    report.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default: report.html in RUN")
    report.add_argument("--data", help="other data than the run's: a path or hub name")
    report.add_argument("--test", help="the held-out split or file")
    report.add_argument("--points", type=int, default=2000, help="points on the map at most; default: 2000")
    report.add_argument("--label", help="column of labels; default: the first of class, category, label that exists")
    _add_import(report)
    compare = commands.add_parser("compare", help="figures of runs side by side, and where their recipes differ")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs")


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        "fit", help="train on data of your own: choose a recipe, write it, launch it",
        epilog="Other flags are the recipe's own: --train.lr 1e-4",
    )  # fmt: skip
    fit.add_argument("data", metavar="DATA", help="a table, a folder of tables, pictures or sounds, or a hub name")
    own = [
        fit.add_argument("--run", type=Path, help="folder of the run; default: runs/fit-DATA-TIME"),
        fit.add_argument("--minutes", type=float, default=10.0, help="roughly how long training may take; default: 10"),
        fit.add_argument("--split", default="train", help="split to train on; default: train"),
        fit.add_argument("--config", help="the hub set's configuration"),
        fit.add_argument(
            "--as-text",
            action="append",
            default=[],
            metavar="COLUMN",
            help="learn from this column's texts, though they repeat like labels; may be given again",
        ),
        fit.add_argument("--pretrained", action="store_true", help="begin with encoders from the hub"),
        fit.add_argument("--dry-run", action="store_true", help="write the recipe and stop"),
        _add_import(fit),
    ]
    fit.set_defaults(own=[flag for action in own for flag in action.option_strings])


def _add_eval(commands: Any) -> None:
    evaluate = commands.add_parser(
        "eval", help="a run's figures from its saved model", epilog=EVAL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    evaluate.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of the run; several: also the mean")
    evaluate.add_argument(
        "--measure",
        nargs="+",
        choices=MEASURES,
        metavar="NAME",
        help=f"default: the recipe's own; {', '.join(MEASURES)}",
    )
    evaluate.add_argument("--data", help="other data than the run's: a path or hub name")
    evaluate.add_argument("--test", help="the held-out split or file")
    evaluate.add_argument("--columns", nargs="+", default=[], metavar="NAME=COLUMN", help="columns of other names")
    evaluate.add_argument("--train", help="split from which probes and kNN learn, such as train[:10000]")
    evaluate.add_argument(
        "--nodes", nargs="+", help="default: all whose column is in the data; for triplets: anchor positive negative"
    )
    evaluate.add_argument("--label", help="column of the labels; default: label")
    evaluate.add_argument("--names", help="column of the classes' names, for zero_shot; default: --label")
    evaluate.add_argument(
        "--template", nargs="+", dest="templates",
        help='text for a class, "a photo of a {}"; several, or a FILE.txt with one a line; default: its name alone',
    )  # fmt: skip
    evaluate.add_argument(
        "--pairs", nargs="+", default=[], metavar="A-B", help="retrieval between these nodes, instead of other measures"
    )
    evaluate.add_argument(
        "--ids", help="column whose equal values make a found item correct; default: items that share a text or a file"
    )
    evaluate.add_argument("--k", type=int, help="neighbours that vote; default: 200")
    evaluate.add_argument("--seed", type=int, help="seed of splits, few-shot choices and resampling; default: 0")
    evaluate.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    evaluate.add_argument("--batch-size", type=int, help="cells computed at once; default: 128")
    _add_import(evaluate)


def _add_search(commands: Any) -> None:
    index = commands.add_parser("index", help="fill a search database with a data set's vectors, or renew it")
    index.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    index.add_argument("--data", required=True, help="a table, a folder or a hub name")
    index.add_argument("--out", required=True, metavar="DB", help="a folder, or a URI of an object store (s3://...)")
    index.add_argument("--split", default="train", help="default: train")
    index.add_argument(
        "--columns", nargs="+", default=[], metavar="NODE=COLUMN", help="columns; default: the run's own"
    )
    index.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    index.add_argument("--batch-size", type=int, default=128, help="cells computed at once; default: 128")
    index.add_argument(
        "--on-error", choices=["skip", "raise"], default="skip", help="for cells that cannot be read; default: skip"
    )
    index.add_argument(
        "--exact-below", type=int, metavar="N", help="vectors up to which search is exact; default: 50000"
    )
    search = commands.add_parser("search", help="what a search database has nearest to words, a picture or a sound")
    search.add_argument("db", metavar="DB", help="a database that `multicl index` filled")
    search.add_argument("query", metavar="QUERY", help="words, or the path of a file")
    search.add_argument("--node", help="read the query as this node does; default: the first that can")
    search.add_argument("--in", dest="among", nargs="+", metavar="NODE", help="nodes whose vectors are searched")
    search.add_argument("--where", metavar="SQL", help='a condition on the data\'s columns: "label = 3"')
    search.add_argument("--k", type=int, default=10, help="results per node; default: 10")
    search.add_argument("--exact", action="store_true", help="search exactly, without the approximate index")
    search.add_argument("--html", type=Path, metavar="PAGE.html", help="write a page instead of printing rows")
    serve = commands.add_parser("serve", help="a page to search with: type, drop a picture, record a sound")
    serve.add_argument("db", metavar="DB", help="a database that `multicl index` filled")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: this one alone")
    serve.add_argument("--port", type=int, help="default: the first free one from 7860")
    for parser in (search, serve):
        parser.add_argument("--model", metavar="RUN", help="where the model is now, if it was moved")
    for parser in (index, search, serve):
        _add_import(parser)
