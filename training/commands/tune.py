"""`tune`: search a model's hyperparameters on validation samples."""

import argparse
from pathlib import Path
from typing import get_args

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.errors import TrainingError
from training.models import RECIPES
from training.options import add_device, device_of
from training.placement import check
from training.process import run_in_own_process
from training.tuning.order import TRIALS, Kind, Search
from training.tuning.search import AT_BEST, Found, search

SHOWN = 10


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    tune = commands.add_parser(
        "tune", parents=[parents.data], help="search hyperparameters on validation samples; an interrupted one goes on"
    )
    tune.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    tune.add_argument("--search", choices=get_args(Kind), default="random", help="how trials are chosen (random)")
    tune.add_argument(
        "--trials", type=int, metavar="N", help=f"how many; default: {TRIALS}, or all that Hyperband has; more go on"
    )
    tune.add_argument(
        "--epochs", type=int, metavar="N", help="of a trial, at most; default: twice what the book's recipe has"
    )
    tune.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="the search is kept in DIR/tune/NAME (runs)"
    )
    tune.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the choices (0); networks have their recipe's"
    )
    add_device(tune)
    tune.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Search, and show the best trials beside the book's recipe."""
    for flag in ("trials", "epochs"):
        if (value := getattr(options, flag)) is not None and value < 1:
            raise TrainingError(f"--{flag} must be 1 or more")
    if not 0 <= options.seed < 2**32 - 1:
        raise TrainingError(f"--seed {options.seed}: expected a number from 0 to {2**32 - 2}")
    recipe = RECIPES[options.name]
    order = Search(
        recipe=recipe,
        data=options.data,
        runs=options.runs,
        kind=options.search,
        trials=options.trials,
        epochs=options.epochs or 2 * recipe.epochs,
        seed=options.seed,
        options=device_of(options),
    )
    check(order.options, recipe)
    found = run_in_own_process(search, order, recipe.name)
    show(_table(found, recipe.metric))
    print(f"{found.file}: the best; python -m training fit {recipe.name} --hyperparameters {found.file} takes it")
    return 0


def _table(found: Found, metric: str) -> Table:
    table = Table(
        "trial", f"validation {metric}", "hidden", "activation", "dropout", "l2", "optimizer", "epochs", "took"
    )
    for trial in found.trials[:SHOWN]:
        chosen = trial.hyperparameters
        table.add_row(
            trial.name,
            f"{trial.value:.4f}",
            "–".join(map(str, chosen.hidden)),
            chosen.hidden_activation,
            f"{chosen.dropout:g}",
            f"{chosen.l2:g}",
            chosen.optimizer,
            str(chosen.epochs),
            f"{trial.seconds:.1f} s",
        )
    book = found.book.recipe
    hidden = "–".join(map(str, book["hidden"]))
    table.add_section()
    table.add_row(
        "the book", f"{found.book.value:.4f}", hidden, "relu", "0", "0", book["optimizer"], str(book["epochs"]), ""
    )
    table.caption = f"{found.book.protocol}; trials{AT_BEST}"
    return table
