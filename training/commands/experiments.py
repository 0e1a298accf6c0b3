"""`experiments`: run the book's further experiments, and compare them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.errors import TrainingError
from training.experiments.variants import BOOK, VARIANTS, Variant, chosen
from training.models import RECIPES
from training.options import add_device, device_of
from training.placement import check

if TYPE_CHECKING:
    from training.experiments.comparison import Rows


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    parser = commands.add_parser(
        "experiments",
        parents=[parents.data],
        help="run the book's further experiments, and compare them",
        description="Run variants of the book's recipes on validation samples; what is done already is skipped. "
        "Without names and without --all, what is there is compared.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"models ({', '.join(VARIANTS)}), then experiments with each of them"
    )
    parser.add_argument("--all", action="store_true", help="all experiments with the models")
    parser.add_argument("--list", action="store_true", help="show the experiments, and run none")
    parser.add_argument("--again", action="store_true", help="run what is done already once more, too")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of run records (runs)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write experiments.md of all that is there, too")
    add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run what was asked for, each experiment in a process of its own, and compare what there is."""
    if not options.list and not any(name in RECIPES for name in options.names):
        raise TrainingError(f"name a model: {', '.join(VARIANTS)}; --list shows the experiments with each")
    asked = _asked(options)
    if options.list:
        _list(asked)
        return 0

    from training.experiments.run import run_all  # pulls in more than a list of names should wait for

    device = device_of(options)
    for model in asked:
        check(device, RECIPES[model])
    for model, variants in asked.items():
        run_all(model, variants, options.data, options.runs, options.again, device)
    _compare(options, list(asked))
    return 0


def _asked(options: argparse.Namespace) -> dict[str, list[Variant]]:
    """The experiments to run, by model; those to list, where they are to be listed."""
    models = [name for name in dict.fromkeys(options.names) if name in RECIPES]
    names = [name for name in options.names if name not in RECIPES]
    if options.all and names:
        raise TrainingError(f"--all or {' '.join(names)}: not both")
    everything = options.all or (options.list and not names)
    return {
        model: chosen(model, [variant.name for variant in VARIANTS.get(model, ())] if everything else names)
        for model in models or VARIANTS
    }


def _list(asked: dict[str, list[Variant]]) -> None:
    for model, variants in asked.items():
        table = Table("experiment", "asks", "changes", title=model, title_justify="left")
        for variant in variants:
            changes = ", ".join(f"{name}={value}" for name, value in variant.changes.items())
            table.add_row(variant.name, variant.asks, changes)
        show(table)


def _compare(options: argparse.Namespace, models: list[str]) -> None:
    """Show and write what the experiments with `models` came to."""
    from training.experiments.comparison import figures, found, read  # Matplotlib
    from training.experiments.page import write_comparison, write_page
    from training.experiments.run import folder

    for model in models:
        records = read(options.runs, model)
        if not records:
            raise TrainingError(f"{folder(options.runs, model)} holds no experiments: name some, or say --all")
        show(_rich(figures(model, records)))
        show(_rich(found(model, records)))
        if BOOK not in records:
            print(f"what is compared with: python -m training experiments {model} {BOOK}")
        print(f"{write_comparison(folder(options.runs, model), model, records)}: the same, with curves.svg beside it")
    if options.write is not None:
        every = {model: records for model in VARIANTS if (records := read(options.runs, model))}
        print(write_page(options.write, every))


def _rich(rows: "Rows") -> Table:
    table = Table(*rows.headings, title=rows.title, title_justify="left")
    for row in rows.rows:
        table.add_row(*row)
    return table
