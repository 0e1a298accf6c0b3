"""What the commands share: options that several take, and how tables are shown."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from training.data import ENVIRONMENT

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` gives; argparse has no public name for it."""


@dataclass(frozen=True)
class Parents:
    """Parsers whose options a command takes over."""

    data: argparse.ArgumentParser
    package: argparse.ArgumentParser


def parents() -> Parents:
    """The options for data sets and for packages."""
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
        "--force",
        action="store_true",
        help="replace the version if it exists, and publish even what is significantly worse than what is there",
    )
    return Parents(data, package)


def show(table: Table) -> None:
    """Print `table`, nothing in it cut short."""
    for column in table.columns:
        column.overflow = "fold"  # on a narrow terminal
    # Where nobody watches there is no width to fit into.
    Console(width=None if sys.stdout.isatty() else 260, markup=False).print(table)
