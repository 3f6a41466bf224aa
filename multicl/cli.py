"""The `multicl` command. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from multicl.types import InputError

EXAMPLES = """examples:
  multicl demo                                     train speech, handwriting and words into one space, and search it
  multicl demo --say my.wav                        what does my recording of three digits find?
  multicl recipes                                  the methods, each a file to launch or copy
  multicl recipes simclr --copy                    a copy of simclr.py to edit
  multicl views simclr --data.path pictures/       a page of the views that a recipe's encoders will see
  multicl eval runs/simclr                         a run's figures again, from its saved model
  multicl embed runs/clip --data a.parquet --out vectors.parquet
  multicl export runs/simcse --to sentence-transformers
  multicl info                                     versions, devices, adapters
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
    evaluate = commands.add_parser("eval", help="a run's figures from its saved model")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    evaluate.add_argument("--data", help="other data than the run's: a path or hub name")
    evaluate.add_argument("--test", help="the held-out split or file")
    evaluate.add_argument("--pairs", nargs="+", default=[], metavar="A-B", help="retrieval between these nodes instead")
    evaluate.add_argument("--ids", metavar="COLUMN", help="of --pairs: rows of equal value are all right")
    evaluate.add_argument("--import", dest="imports", type=Path, action="append", default=[], metavar="FILE.py")
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
    commands.add_parser("info", help="versions, devices and adapters found")
    if args[:1] == ["demo"]:  # its flags are the recipe's
        from multicl.recipes.codes import main as demo

        demo(args[1:])
        return
    options, more = parser.parse_known_args(args)
    if more and options.command != "views":  # whose other flags are the recipe's
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

            for path in options.imports:
                import_file(path)
            from multicl import commands as heavy

            if options.command == "eval":
                heavy.evaluate(options.run, options.data, options.test, options.pairs, options.ids)
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
