"""The `multicl` command. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from multicl.types import InputError

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
    "knn", "linear_probe", "few_shot", "fine_tune", "retrieval", "zero_shot", "sts", "clustering", "alignment",
    "uniformity", "effective_rank", "modality_gap",
)  # fmt: skip
"""What `multicl.measuring` knows, for --help, which imports nothing heavy."""
EVAL_EXAMPLES = """examples:
  multicl eval runs/simclr                                         the recipe's own measures
  multicl eval runs/simclr --measure knn clustering --label label --k 20
  multicl eval runs/clip --measure retrieval modality_gap --data emoji/ --ids text
  multicl eval runs/clip --measure zero_shot --names class --template "a photo of a {}"
  multicl eval runs/s0 runs/s1 runs/s2 --measure knn               mean and deviation of three seeds
  accelerate launch -m multicl.cli eval runs/clip --measure retrieval    rows dealt out over processes
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    args = list(sys.argv[1:] if argv is None else argv)
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
    embed = commands.add_parser("embed", help="embed a data set's columns into a Parquet file")
    embed.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    embed.add_argument("--data", required=True, help="a table, a folder or a hub name")
    embed.add_argument("--out", required=True, type=Path, metavar="FILE.parquet")
    embed.add_argument("--split", default="train")
    embed.add_argument("--nodes", nargs="+", help="nodes to embed; default: all whose column is in the data")
    embed.add_argument("--columns", nargs="+", default=[], metavar="NODE=COLUMN", help="columns of other names")
    embed.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    embed.add_argument("--batch-size", type=int, default=128)
    embed.add_argument("--on-error", choices=["skip", "raise"], default="skip")
    embed.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")
    export = commands.add_parser("export", help="a model's encoder as other libraries load it")
    export.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    export.add_argument("--to", required=True, choices=["sentence-transformers", "transformers", "onnx"])
    export.add_argument("--out", type=Path, metavar="FOLDER", help="default: a folder of that name in RUN")
    export.add_argument("--node", help="whose encoder; default: the only one there is")
    export.add_argument("--space", help="with the head of a space, or 'features'; default: the recipe's choice")
    export.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")
    recipes = commands.add_parser("recipes", help="list the recipes, show one, or copy one to edit")
    recipes.add_argument("name", nargs="?", metavar="NAME")
    recipes.add_argument("--copy", nargs="?", const=".", type=Path, metavar="TO", help="copy the recipe's file")
    views = commands.add_parser(
        "views", help="a page of a recipe's data and their random views", epilog="Other flags are the recipe's own.",
    )  # fmt: skip
    views.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or a file FILE.py")
    views.add_argument("--data", help="a table, a folder or a hub name; as --data.path")
    views.add_argument("--out", type=Path, default=Path("views.html"), metavar="FILE.html")
    views.add_argument("--rows", type=int, default=8, help="things of each modality")
    views.add_argument("--draws", type=int, default=4, help="views of each")
    views.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")
    _search_parsers(commands)
    commands.add_parser("info", help="versions, devices and adapters found")
    if args[:1] == ["demo"]:  # its flags are the recipe's
        from multicl.recipes.codes import main as demo

        demo(args[1:])
        return
    options, more = parser.parse_known_args(args)
    if more and options.command not in ("views", "fit"):  # whose other flags are the recipe's
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        if options.version:
            from multicl import __version__

            print(__version__)
        elif options.command is None:
            parser.print_help()
        elif options.command == "info":
            from multicl.info import print_info

            print_info()
        elif options.command == "recipes":
            show_recipes(options.name, options.copy)
        else:
            from multicl.adapters import import_file

            for path in getattr(options, "imports", []):
                import_file(path)
            if options.command == "fit":
                from multicl.fit.run import fit as fit_own

                fit_own(
                    options.data, options.run, minutes=options.minutes, split=options.split, config=options.config,
                    pretrained=options.pretrained, dry_run=options.dry_run, flags=more,
                )  # fmt: skip
                return
            if options.command in SEARCH:
                _search(options)
                return
            from multicl import commands as heavy

            if options.command == "eval":
                _eval(options)
            elif options.command == "report":
                from multicl.report_run import report

                report(
                    options.run, options.out, data=options.data, test=options.test, points=options.points,
                    label=options.label,
                )  # fmt: skip
            elif options.command == "compare":
                from multicl.comparing import compare

                compare(options.runs)
            elif options.command == "export":
                heavy.export(options.run, options.to, options.out, options.node, options.space)
            elif options.command == "views":
                from multicl.run import parse, recipe_class

                flags = more if options.data is None else ["--data.path", options.data, *more]
                recipe = parse(recipe_class(options.recipe), flags)
                heavy.views(recipe, options.out, rows=options.rows, draws=options.draws)
            else:
                heavy.embed(
                    options.run, options.data, options.out, split=options.split, nodes=options.nodes,
                    columns=_columns(options.columns), space=options.space, batch_size=options.batch_size,
                    on_error=options.on_error,
                )  # fmt: skip
    except InputError as error:
        print(f"multicl: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _add_report_and_compare(commands: Any) -> None:
    report = commands.add_parser("report", help="one self-contained page of a run: report.html")
    report.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default: report.html in RUN")
    report.add_argument("--data", help="other data than the run's: a path or hub name")
    report.add_argument("--test", help="the held-out split or file")
    report.add_argument("--points", type=int, default=2000, help="things on the map at most")
    report.add_argument("--label", help="column of labels; default: the first of label, class, category there is")
    report.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")
    compare = commands.add_parser("compare", help="figures of runs side by side, and where their recipes differ")
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs")


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        "fit", help="train on data of your own: choose a recipe, write it, launch it",
        epilog="Other flags are the recipe's own: --train.lr 1e-4",
    )  # fmt: skip
    fit.add_argument("data", metavar="DATA", help="a table, a folder of tables, pictures or sounds, or a hub name")
    fit.add_argument("--run", type=Path, help="folder of the run; default: runs/fit-DATA-TIME")
    fit.add_argument("--minutes", type=float, default=10.0, help="about so long training may take")
    fit.add_argument("--split", default="train")
    fit.add_argument("--config", help="the hub set's configuration")
    fit.add_argument("--pretrained", action="store_true", help="begin with encoders from the hub")
    fit.add_argument("--dry-run", action="store_true", help="write the recipe and stop")
    fit.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")


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
    evaluate.add_argument("--train", help="split that probes learn from and neighbours are sought in, as train[:10000]")
    evaluate.add_argument("--nodes", nargs="+", default=[], help="default: all whose column is in the data")
    evaluate.add_argument("--label", default="label", help="column of the labels")
    evaluate.add_argument("--names", help="column of the classes' names, for zero_shot; default: --label")
    evaluate.add_argument("--template", default="{}", help='what is said of a class: "a photo of a {}"')
    evaluate.add_argument("--pairs", nargs="+", default=[], metavar="A-B", help="retrieval between these nodes instead")
    evaluate.add_argument("--ids", help="column by whose equal values a found item is right")
    evaluate.add_argument("--k", type=int, default=200, help="neighbours that vote")
    evaluate.add_argument("--seed", type=int, default=0, help="of splits, choices of shots and resampling")
    evaluate.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    evaluate.add_argument("--batch-size", type=int, default=128)
    evaluate.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")


def _eval(options: argparse.Namespace) -> None:
    if not options.measure:
        from multicl.commands import evaluate

        for run in options.runs:
            evaluate(run, options.data, options.test, options.pairs, options.ids)
        return
    from multicl.measuring import Choices, measure_runs

    choices = Choices(
        nodes=tuple(options.nodes), label=options.label, names=options.names, template=options.template,
        ids=options.ids, k=options.k, seed=options.seed,
    )  # fmt: skip
    measure_runs(
        options.runs, options.measure, choices, data=options.data, test=options.test, train=options.train,
        space=options.space, batch_size=options.batch_size,
    )  # fmt: skip


SEARCH = ("index", "search", "serve")


def _search_parsers(commands: Any) -> None:
    index = commands.add_parser("index", help="fill a search database with a data set's vectors; adds what is new")
    index.add_argument("run", metavar="RUN", help="folder of a run or model, or a hub name")
    index.add_argument("--data", required=True, help="a table, a folder or a hub name")
    index.add_argument("--out", required=True, metavar="DB", help="a folder, or a URI of an object store (s3://...)")
    index.add_argument("--split", default="train")
    index.add_argument("--columns", nargs="+", default=[], metavar="NODE=COLUMN", help="columns of other names")
    index.add_argument("--space", help="a space, or 'features' for the encoders' own; default: the recipe's choice")
    index.add_argument("--batch-size", type=int, default=128)
    index.add_argument("--on-error", choices=["skip", "raise"], default="skip")
    index.add_argument("--exact-below", type=int, metavar="N", help="vectors up to which search stays exact: 50000")
    search = commands.add_parser("search", help="what a search database has nearest to words, a picture or a sound")
    search.add_argument("db", metavar="DB")
    search.add_argument("query", metavar="QUERY", help="words, or the path of a file")
    search.add_argument("--node", help="read the query as this node does; default: the first that can")
    search.add_argument("--in", dest="among", nargs="+", metavar="NODE", help="nodes whose vectors are searched")
    search.add_argument("--where", metavar="SQL", help='a condition on the data\'s columns: "label = 3"')
    search.add_argument("--k", type=int, default=10, help="rows")
    search.add_argument("--exact", action="store_true", help="leave the approximate index aside")
    search.add_argument("--html", type=Path, metavar="PAGE.html", help="write a page instead of printing rows")
    serve = commands.add_parser("serve", help="a page to search with: type, drop a picture, record a sound")
    serve.add_argument("db", metavar="DB")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; default: this one alone")
    serve.add_argument("--port", type=int, help="default: the first free one from 7860")
    for parser in (search, serve):
        parser.add_argument("--model", metavar="RUN", help="where the model lies now, if not where it was")
    for parser in (index, search, serve):
        parser.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")


def _search(options: argparse.Namespace) -> None:
    from multicl.search import commands

    if options.command == "index":
        commands.index(
            options.run, options.data, options.out, split=options.split, columns=_columns(options.columns),
            space=options.space, batch_size=options.batch_size, on_error=options.on_error,
            exact_below=options.exact_below,
        )  # fmt: skip
    elif options.command == "search":
        commands.search(
            options.db, options.query, model=options.model, node=options.node, among=options.among,
            where=options.where, k=options.k, exact=options.exact, html=options.html,
        )  # fmt: skip
    else:
        from multicl.search.serve import serve

        serve(options.db, model=options.model, host=options.host, port=options.port)


def show_recipes(name: str | None, copy: Path | None) -> None:
    """List the recipes by the first line of their headers, print one, or copy it.

    Raises:
        InputError: no such recipe; the file to write exists.
    """
    import ast
    from difflib import get_close_matches

    spec = find_spec("multicl.recipes")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}
    if name is None:
        if copy is not None:
            raise InputError("--copy needs the recipe's NAME before it")
        wide = max(map(len, files), default=0)
        for stem, path in files.items():
            header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            print(f"{stem:<{wide}}  {header.partition(chr(10))[0]}".rstrip())
        print("\nLaunch one with: accelerate launch -m multicl.recipes.NAME --help")
        return
    if name not in files:
        near = get_close_matches(name, files, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {sorted(files)}"
        raise InputError(f"no recipe is named {name!r}{hint}")
    if copy is None:
        print(files[name].read_text(encoding="utf-8"), end="")
        return
    target = copy / f"{name}.py" if copy.is_dir() else copy
    if target.exists():
        raise InputError(f"{target} exists: give --copy another name")
    if not target.parent.is_dir():
        raise InputError(f"no such folder: {target.parent}")
    shutil.copyfile(files[name], target)
    print(f"{target}: launch it with `accelerate launch {target}`")


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--columns takes NODE=COLUMN, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs)


if __name__ == "__main__":
    main()
