"""`package`: any Keras network of one's own becomes a package."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.table import Table

from serving.package.manifest import Task
from training.commands.common import Commands, Parents, show
from training.errors import TrainingError
from training.options import add_export_precision
from training.quiet import silent_stderr

if TYPE_CHECKING:
    from training.packaging.bring import Packaged


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    own = commands.add_parser(
        "package", parents=[parents.package], help="write the package of any Keras network of yours"
    )
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
        "--tolerance", type=float, metavar="X", help="refuse it if it is further from Keras (1e-5; float16: 2e-3)"
    )
    add_export_precision(own)
    own.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the package and show what it takes and gives."""
    if options.version is not None and options.version < 1:
        raise TrainingError("--version must be 1 or more")
    with silent_stderr():
        import tensorflow  # noqa: F401

    from training.packaging.bring import Order, package

    _show(
        package(
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
                export_precision=options.export_precision,
            )
        )
    )
    return 0


def _show(packaged: "Packaged") -> None:
    from training.packaging.signature import described

    table = Table("package", "takes", "gives", "agrees with Keras on", "model.onnx")
    table.add_row(
        str(packaged.folder),
        "\n".join(map(described, packaged.signature.inputs)),
        "\n".join(map(described, packaged.signature.outputs)),
        f"{packaged.rows:,} rows{packaged.told and f'; {packaged.told}'}",
        f"{packaged.model_bytes:,} bytes, {packaged.sha256[:12]}",
    )
    show(table)
