"""The command line: fit, evaluate, export, package.

python -m training fit sentiment topic house_price --data DIR --out models/
python -m training evaluate models/sentiment/1 --data DIR
python -m training export sentiment sentiment.keras --data DIR --out models/
python -m training package any.keras --name any --task regression --examples rows.npz --out models/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.package.manifest import Task
from training.data import ENVIRONMENT
from training.errors import TrainingError
from training.job import Job, Outcome, run_in_own_process
from training.models import RECIPES, Recipe
from training.quiet import silent_stderr

if TYPE_CHECKING:
    from training.bring import Packaged

INTERRUPTED = 130  # what a shell gives for SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "evaluate":
            _evaluate(options.package, options.data)
            return 0
        if options.version is not None and options.version < 1:
            raise TrainingError("--version must be 1 or more")
        if options.command == "package":
            _show_packaged(_package(options))
        else:
            jobs = _jobs(options)
            _show([run_in_own_process(job) for job in jobs])
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the package in work was not written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Make and measure model packages.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"folder of the data sets, Keras's files; default: ${ENVIRONMENT}, else Keras's cache, downloading",
    )
    package = argparse.ArgumentParser(add_help=False)
    package.add_argument("--out", type=Path, default=Path("models"), metavar="DIR", help="model repository (models)")
    package.add_argument("--version", type=int, metavar="N", help="version of the package; default: the next number")
    package.add_argument(
        "--force", action="store_true", help="replace the version if it exists, and say whether model.onnx is the same"
    )

    fit = commands.add_parser("fit", parents=[data, package], help="train models and write their packages")
    fit.add_argument("names", nargs="+", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    fit.add_argument("--save-network", type=Path, metavar="DIR", help="save the Keras networks to this folder, too")

    evaluate = commands.add_parser("evaluate", parents=[data], help="measure a package on its test set")
    evaluate.add_argument("package", type=Path, metavar="PACKAGE", help="such as models/sentiment/1")

    export = commands.add_parser("export", parents=[data, package], help="write the package of a saved Keras network")
    export.add_argument("names", nargs=1, choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    export.add_argument("network", type=Path, metavar="NETWORK.keras")
    export.set_defaults(save_network=None)
    fit.set_defaults(network=None)

    own = commands.add_parser("package", parents=[package], help="write the package of any Keras network of yours")
    own.add_argument("network", type=Path, metavar="NETWORK.keras")
    own.add_argument("--name", required=True, help="of the model, as clients will ask for it")
    own.add_argument("--task", required=True, choices=get_args(Task), metavar="TASK", help=", ".join(get_args(Task)))
    own.add_argument(
        "--examples",
        type=Path,
        required=True,
        metavar="EXAMPLES.npz",
        help="real rows, an array for each input; all are checked against Keras, the first become golden examples",
    )
    own.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one on each line")
    own.add_argument(
        "--tolerance", type=float, default=1e-5, metavar="X", help="refuse it if it is further from Keras (1e-5)"
    )
    return parser


def _jobs(options: argparse.Namespace) -> list[Job]:
    return [
        Job(
            recipe=RECIPES[name],
            data=options.data,
            out=options.out,
            version=options.version,
            force=options.force,
            network=options.network,
            save_network=options.save_network,
        )
        for name in dict.fromkeys(options.names)
    ]


def _evaluate(package: Path, data: Path | None) -> None:
    from training.evaluate import evaluate  # ONNX Runtime: not wanted in the process that fits are spawned from

    manifest, recipe, test = evaluate(package, data)
    table = Table("package", "test metric", "measured now", "in its manifest", "book")
    for name, value in test.items():
        stated = manifest.metrics.get(f"test_{name}")
        table.add_row(
            f"{manifest.name}/{manifest.version}",
            name,
            f"{value:.4f}",
            f"{stated:.4f}" if isinstance(stated, float) else "–",
            _book(recipe) if name == recipe.metric else "",
        )
    _print(table)


def _package(options: argparse.Namespace) -> "Packaged":
    with silent_stderr():
        import tensorflow  # noqa: F401

    from training.bring import Order, package  # TensorFlow: not wanted in the process that fits are spawned from

    return package(
        Order(
            network=options.network,
            name=options.name,
            task=options.task,
            examples=options.examples,
            out=options.out,
            labels=options.labels,
            version=options.version,
            force=options.force,
            tolerance=options.tolerance,
        )
    )


def _show_packaged(packaged: "Packaged") -> None:
    from training.signature import described

    table = Table("package", "takes", "gives", "agrees with Keras on", "model.onnx")
    table.add_row(
        str(packaged.folder),
        escape("\n".join(map(described, packaged.signature.inputs))),
        escape("\n".join(map(described, packaged.signature.outputs))),
        f"{packaged.rows:,} rows",
        f"{packaged.model_bytes:,} bytes, {packaged.sha256[:12]}",
    )
    _print(table)


def _show(outcomes: list[Outcome]) -> None:
    """The table at the end."""
    table = Table("package", "test metric", "book", "model.onnx", "training", "total", "peak memory")
    for outcome in outcomes:
        recipe = outcome.recipe
        same = {None: "", True: ", same bytes as before", False: ", other bytes than before"}[outcome.same_as_before]
        table.add_row(
            str(outcome.package),
            f"{_metric(recipe)} {outcome.test[recipe.metric]:.4f}",
            _book(recipe),
            f"{outcome.model_bytes / 1e6:.2f} MB, {outcome.sha256[:12]}{same}",
            "–" if outcome.training_seconds is None else f"{outcome.training_seconds:.1f} s",
            f"{outcome.wall_seconds:.1f} s",
            f"{outcome.peak_memory_bytes / 2**30:.2f} GiB",
        )
    _print(table)


def _print(table: Table) -> None:
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal; never cut short
    # Where nobody watches there is no width to fit into.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _metric(recipe: Recipe) -> str:
    return "MAE k$" if recipe.metric == "mae" else recipe.metric


def _book(recipe: Recipe) -> str:
    return f"{recipe.book:g}"


if __name__ == "__main__":
    sys.exit(main())
