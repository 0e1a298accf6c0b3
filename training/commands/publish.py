"""`publish`: copy packages that were made and checked elsewhere into a model repository."""

import argparse
from pathlib import Path

from rich.table import Table

from training.commands.common import Commands, Parents, show


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    publish = commands.add_parser(
        "publish", parents=[parents.data], help="publish packages from another folder, each under the next number"
    )
    publish.add_argument("staged", type=Path, metavar="STAGED", help="folder of packages, the --out of an earlier fit")
    publish.add_argument("repository", type=Path, metavar="REPOSITORY", help="model repository")
    publish.add_argument(
        "--force", action="store_true", help="publish even what is significantly worse than what is there"
    )
    publish.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Publish the newest version of each model that is staged, and show how it compared."""
    from training.publishing import publish  # ONNX Runtime

    table = Table("package", "from", "against")
    for published in publish(options.staged, options.repository, options.data, options.force):
        table.add_row(str(published.package), str(published.staged), published.gate)
    show(table)
    return 0
