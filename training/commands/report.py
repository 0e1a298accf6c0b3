"""`report`: write the page of a run."""

import argparse
from pathlib import Path

from training.commands.common import Commands, Parents


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    parser = commands.add_parser("report", help="write the page of a run: HTML, and Markdown with its pictures")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, such as runs/sentiment/book-seed0")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pages go; default: into the run's folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write both pages and print where they are."""
    from training.report.render import write  # Matplotlib

    for page in write(options.folder, options.out):
        print(page)
    return 0
