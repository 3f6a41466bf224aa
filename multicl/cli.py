"""The `multicl` command. Heavy imports wait until a command is chosen."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from multicl.commands.arguments import SEARCH, build_parser
from multicl.files import writing
from multicl.streams import print_anything
from multicl.types import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    args = list(sys.argv[1:] if argv is None else argv)
    print_anything()
    if args[:1] == ["demo"]:  # its flags are the recipe's
        from multicl.recipes.codes import main as demo

        demo(args[1:])
        return
    parser = build_parser()
    options, more = parser.parse_known_args(args)
    if more and options.command not in ("views", "fit"):  # whose other flags are the recipe's
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if options.command == "fit":
        for word in (word for word in more if word.startswith("--")):
            if near := get_close_matches(word.partition("=")[0], options.own, n=1, cutoff=0.8):
                parser.error(f"unrecognized argument {word}: did you mean {near[0]}?")
    try:
        if options.version:
            from multicl import __version__

            print(__version__)
        elif options.command is None:
            parser.print_help()
        elif options.command == "info":
            from multicl.commands.info import print_info

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
                    pretrained=options.pretrained, dry_run=options.dry_run, texts=options.as_text, flags=more,
                )  # fmt: skip
                return
            if options.command in SEARCH:
                _search(options)
                return
            from multicl.commands import model as heavy

            if options.command == "eval":
                _eval(options)
            elif options.command == "report":
                from multicl.commands.report import report

                report(
                    options.run, options.out, data=options.data, test=options.test, points=options.points,
                    label=options.label,
                )  # fmt: skip
            elif options.command == "compare":
                from multicl.commands.compare import compare

                compare(options.runs)
            elif options.command == "export":
                heavy.export(options.run, options.to, options.out, options.node, options.space)
            elif options.command == "views":
                from multicl.commands.views import views
                from multicl.launcher import parse, recipe_class

                flags = more if options.data is None else ["--data.path", options.data, *more]
                file, is_file, _ = options.recipe.rpartition(".py")  # FILE.py:NAME, too
                its_own = shlex.quote(f"{file}.py") if is_file else f"-m multicl.recipes.{options.recipe}"
                recipe = parse(recipe_class(options.recipe), flags, f"python {its_own}")
                views(recipe, options.out, rows=options.rows, draws=options.draws)
            else:
                heavy.embed(
                    options.run, options.data, options.out, split=options.split, nodes=options.nodes,
                    columns=_columns(options.columns), space=options.space, batch_size=options.batch_size,
                    on_error=options.on_error,
                )  # fmt: skip
    except InputError as error:
        print(f"multicl: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _eval(options: argparse.Namespace) -> None:
    from multicl.repeats import runs_of

    runs, columns = [run for folder in options.runs for run in runs_of(folder)], _columns(options.columns)
    names = ("nodes", "label", "names", "templates", "k", "seed", "train", "space", "batch_size")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if not options.measure:
        if given:
            flag = f"--{next(iter(given)).replace('_', '-')}"
            raise InputError(
                f"{flag} works only with --measure (the recipe's own measures define their settings): add --measure"
            )
        from multicl.commands.model import evaluate_all

        if options.ids and not options.pairs:
            raise InputError("--ids works only with --pairs or --measure (the recipe's own measures define their ids)")
        evaluate_all(runs, options.data, options.test, options.pairs, options.ids, columns)
        return
    if options.pairs:
        raise InputError(
            "--pairs cannot be combined with --measure: leave one out, or choose the nodes of --measure with --nodes"
        )
    from multicl.commands.measuring import Choices, measure_runs

    others = {name: given.pop(name) for name in ("train", "space", "batch_size") if name in given}
    given["nodes"] = tuple(given.get("nodes", ()))
    if "templates" in given:
        given["templates"] = tuple(given["templates"])
    choices = Choices(ids=options.ids, **given)
    measure_runs(runs, options.measure, choices, data=options.data, test=options.test, columns=columns, **others)


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
    """List the recipes with the first line of their headers, print one, or copy one to a file.

    Raises:
        InputError: there is no such recipe; the target exists, is not a .py file, or cannot be written.
    """
    import ast

    spec = find_spec("multicl.recipes")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}
    if name is None:
        if copy is not None:
            raise InputError("--copy needs the recipe's name: multicl recipes NAME --copy")
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
        raise InputError(f"{target} exists already: give --copy another name")
    if not target.parent.is_dir():
        raise InputError(f"no such folder: {target.parent}")
    if target.suffix != ".py":
        raise InputError(f"--copy takes an existing folder or a FILE.py, got {copy}")
    with writing(target, "or give --copy another place"):
        shutil.copyfile(files[name], target)
    print(f"{target}: launch it with `accelerate launch {shlex.quote(str(target))}`")


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--columns takes NODE=COLUMN, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs)


if __name__ == "__main__":
    main()
