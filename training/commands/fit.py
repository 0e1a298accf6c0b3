"""`fit` and `export`: train networks, or take saved ones, and publish their packages."""

import argparse
from pathlib import Path

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.errors import TrainingError
from training.job import Job, Outcome
from training.job import run as make
from training.models import RECIPES, Recipe
from training.process import run_in_own_process
from training.recipes import VARIANTS, recipe


def add(commands: Commands, parents: Parents) -> None:
    """Register both."""
    fit = commands.add_parser("fit", parents=[parents.data, parents.package], help="train models and publish packages")
    fit.add_argument("names", nargs="+", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    _recipe(fit)
    fit.add_argument("--seed", type=int, metavar="N", help="of everything random; default: the recipe's own, 0")
    fit.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of run records (runs)")
    fit.add_argument("--save-network", type=Path, metavar="DIR", help="save the Keras networks to this folder, too")
    fit.set_defaults(run=run, network=None)

    export = commands.add_parser(
        "export", parents=[parents.data, parents.package], help="publish the package of a saved Keras network"
    )
    export.add_argument("names", nargs=1, choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    export.add_argument("network", type=Path, metavar="NETWORK.keras")
    _recipe(export)
    export.set_defaults(run=run, save_network=None, runs=None, seed=None)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for, each model in a process of its own, and show what came of it."""
    if options.version is not None and options.version < 1:
        raise TrainingError("--version must be 1 or more")
    outcomes = [run_in_own_process(make, job, job.recipe.name) for job in _jobs(options)]
    _show(outcomes)
    return 0


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        choices=VARIANTS,
        default=VARIANTS[-1],
        help=f"the book's own, or the best that is known here (default: {VARIANTS[-1]}, where a model has one)",
    )


def _jobs(options: argparse.Namespace) -> list[Job]:
    return [
        Job(
            recipe=recipe(name, options.recipe, options.seed),
            data=options.data,
            out=options.out,
            version=options.version,
            force=options.force,
            network=options.network,
            save_network=options.save_network,
            runs=options.runs,
        )
        for name in dict.fromkeys(options.names)
    ]


def _show(outcomes: list[Outcome]) -> None:
    """The table at the end."""
    table = Table(
        "package", "recipe", "test metric", "book", "against", "model.onnx", "training", "total", "peak memory"
    )
    for outcome in outcomes:
        same = {None: "", True: ", same bytes as before", False: ", other bytes than before"}[outcome.same_as_before]
        table.add_row(
            str(outcome.package),
            outcome.recipe.variant,
            f"{_metric(outcome.recipe)} {outcome.test[outcome.recipe.metric]:.4f}",
            f"{outcome.recipe.book:g}",
            outcome.gate,
            f"{outcome.model_bytes / 1e6:.2f} MB, {outcome.sha256[:12]}{same}",
            "–" if outcome.training_seconds is None else f"{outcome.training_seconds:.1f} s",
            f"{outcome.wall_seconds:.1f} s",
            f"{outcome.peak_memory_bytes / 2**30:.2f} GiB",
        )
    show(table)
    for outcome in outcomes:
        if outcome.run is not None:
            print(f"{outcome.run}: the run's record; python -m training report {outcome.run} makes a page of it")


def _metric(recipe: Recipe) -> str:
    return "MAE k$" if recipe.metric == "mae" else recipe.metric
