"""`evaluate`: measure a package on its test set."""

import argparse
from pathlib import Path

from rich.table import Table

from training.commands.common import Commands, Parents, show


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    evaluate = commands.add_parser("evaluate", parents=[parents.data], help="measure a package on its test set")
    evaluate.add_argument("package", type=Path, metavar="PACKAGE", help="such as models/sentiment/1")
    evaluate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print each figure beside the one in the package's manifest and the book's."""
    from training.evaluate import evaluate  # ONNX Runtime: not wanted in the process that fits are spawned from

    manifest, recipe, test = evaluate(options.package, options.data)
    table = Table("package", "test metric", "measured now", "in its manifest", "book")
    for name, value in test.items():
        stated = manifest.metrics.get(f"test_{name}")
        table.add_row(
            f"{manifest.name}/{manifest.version}",
            name,
            f"{value:.4f}",
            f"{stated:.4f}" if isinstance(stated, float) else "–",
            f"{recipe.book:g}" if name == recipe.metric else "",
        )
    show(table)
    return 0
