"""`fit` and `export`: train networks, or take saved ones, and publish their packages."""

import argparse
from pathlib import Path
from typing import get_args

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.errors import TrainingError
from training.job import Job, Outcome
from training.job import run as make
from training.models import RECIPES, Recipe
from training.options import DEFAULT, add_arguments, add_export_precision, from_arguments, of_model
from training.placement import check
from training.process import run_in_own_process
from training.recipes import FOLDS, ITERATIONS, VARIANTS, Protocol, recipe, with_protocol
from training.speed import Speed, duration
from training.tuning.best import apply

NONE = "–"


def add(commands: Commands, parents: Parents) -> None:
    """Register both."""
    fit = commands.add_parser("fit", parents=[parents.data, parents.package], help="train models and publish packages")
    fit.add_argument("names", nargs="+", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    _recipe(fit)
    seeds = fit.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, metavar="N", help="of everything random; default: the recipe's own, 0")
    seeds.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="to see the spread: fit seeds 0 to N - 1 as versions 1 to N of --out, without comparing them",
    )
    fit.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of run records (runs)")
    fit.add_argument(
        "--hyperparameters", type=Path, metavar="FILE", help="of the book's recipe, as `tune` found them best"
    )
    fit.add_argument(
        "--protocol",
        choices=get_args(Protocol),
        help="how to validate: hold out the first samples, K folds, or iterated K folds; default: as the recipe says",
    )
    fit.add_argument("--folds", type=int, metavar="K", help=f"of K-fold validation ({FOLDS})")
    fit.add_argument("--iterations", type=int, metavar="P", help=f"of iterated K-fold ({ITERATIONS})")
    add_arguments(fit)
    add_export_precision(fit)
    fit.add_argument("--save-network", type=Path, metavar="DIR", help="save the Keras networks to this folder, too")
    fit.set_defaults(run=run, network=None)

    export = commands.add_parser(
        "export", parents=[parents.data, parents.package], help="publish the package of a saved Keras network"
    )
    export.add_argument("names", nargs=1, choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    export.add_argument("network", type=Path, metavar="NETWORK.keras")
    _recipe(export)
    add_export_precision(export)
    export.set_defaults(
        run=run, save_network=None, runs=None, seed=None, seeds=None, hyperparameters=None, protocol=None
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked for, each model in a process of its own, and show what came of it."""
    if options.version is not None and options.version < 1:
        raise TrainingError("--version must be 1 or more")
    if options.seeds is not None and (options.seeds < 2 or options.version is not None):
        raise TrainingError(
            "--seeds must be 2 or more, and goes without --version: seed 0 becomes version 1, and so on"
        )
    if options.network is None and options.distribute == "multi-worker" and len(options.names) > 1:
        raise TrainingError("--distribute multi-worker: expected one model, for its workers meet at fixed ports")
    if options.network is None and options.protocol is None and (options.folds or options.iterations):
        raise TrainingError("--folds and --iterations say how --protocol k-fold or iterated-k-fold validates: add it")
    jobs = _jobs(options)
    for job in jobs:  # at once, and not when those before it are done
        check(job.options, job.recipe)
    made = [run_in_own_process(make, job, job.recipe.name) for job in jobs]
    if not (outcomes := [outcome for outcome in made if outcome is not None]):
        return 0  # a worker that is not the chief
    _show(outcomes)
    if options.seeds is not None:
        _show_spread(outcomes)
    for outcome in outcomes:
        if outcome.run is not None:
            print(f"{outcome.run}: the run's record; python -m training report {outcome.run} makes a page of it")
    return 0


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        choices=VARIANTS,
        help=f"the book's own, or the best that is known here (default: {VARIANTS[-1]}, where a model has one)",
    )


def _jobs(options: argparse.Namespace) -> list[Job]:
    of_seeds = [(options.seed, options.version)]
    if options.seeds is not None:
        of_seeds = [(seed, seed + 1) for seed in range(options.seeds)]
    return [
        Job(
            recipe=_chosen(options, name, seed),
            data=options.data,
            out=options.out,
            version=version,
            force=options.force,
            gate=options.seeds is None,
            network=options.network,
            save_network=options.save_network,
            runs=options.runs,
            options=DEFAULT
            if options.network is not None
            else of_model(from_arguments(options), name if options.seeds is None else f"{name}-seed{seed}"),
            export_precision=options.export_precision,
        )
        for name in dict.fromkeys(options.names)
        for seed, version in of_seeds
    ]


def _chosen(options: argparse.Namespace, name: str, seed: int | None) -> Recipe:
    """The recipe that the flags ask for."""
    if options.hyperparameters is not None:
        if options.recipe == "best":
            raise TrainingError("--hyperparameters are of the book's recipe: leave out --recipe best")
        chosen = apply(recipe(name, "book", seed), options.hyperparameters)
    else:
        chosen = recipe(name, options.recipe or VARIANTS[-1], seed)
    if options.protocol is None:
        return chosen
    return with_protocol(chosen, options.protocol, options.folds or FOLDS, options.iterations or ITERATIONS)


def _show(outcomes: list[Outcome]) -> None:
    """The table at the end, without the columns in which no row has anything."""
    columns = (
        *("package", "recipe", "test metric", "book", "against", "model.onnx"),
        *("device", "epoch", "samples/s", "training", "total", "peak memory"),
    )
    rows = []
    for outcome in outcomes:
        same = {None: "", True: ", same bytes as before", False: ", other bytes than before"}[outcome.same_as_before]
        row = (
            str(outcome.package),
            outcome.recipe.variant,
            f"{_metric(outcome.recipe)} {outcome.test[outcome.recipe.metric]:.4f}",
            f"{outcome.recipe.book:g}",
            outcome.gate,
            f"{outcome.model_bytes / 1e6:.2f} MB, {outcome.sha256[:12]}{same}",
            ", ".join(device.name for device in outcome.devices) or NONE,
            *_pace(outcome.speed),
            NONE if outcome.training_seconds is None else f"{outcome.training_seconds:.1f} s",
            f"{outcome.wall_seconds:.1f} s",
            f"{outcome.peak_memory_bytes / 2**30:.2f} GiB",
        )
        rows.append(row)
    kept = [place for place in range(len(columns)) if any(row[place] not in ("", NONE) for row in rows)]
    table = Table(*(columns[place] for place in kept))
    for row in rows:
        table.add_row(*(row[place] for place in kept))
    show(table)


def _pace(speed: Speed | None) -> tuple[str, str]:
    """How long an epoch of the final network took, and how many samples a second that is."""
    if speed is None or speed.median is None or speed.samples_per_second is None:
        return NONE, NONE
    return duration(speed.median), f"{speed.samples_per_second:,.0f}"


def _show_spread(outcomes: list[Outcome]) -> None:
    """Mean and spread over the seeds of each model."""
    from training.measure.bootstrap import mean_sd

    table = Table("model", "recipe", "seeds", "test metric", "mean", "sd", "lowest", "highest", "book")
    for name in dict.fromkeys(outcome.recipe.name for outcome in outcomes):
        its = [outcome for outcome in outcomes if outcome.recipe.name == name]
        recipe = its[0].recipe
        values = [outcome.test[recipe.metric] for outcome in its]
        mean, sd = mean_sd(values)
        figures = (mean, sd or 0.0, min(values), max(values))
        table.add_row(
            name,
            recipe.variant,
            str(len(its)),
            _metric(recipe),
            *(f"{figure:.4f}" for figure in figures),
            f"{recipe.book:g}",
        )
    show(table)


def _metric(recipe: Recipe) -> str:
    return "MAE k$" if recipe.metric == "mae" else recipe.metric
