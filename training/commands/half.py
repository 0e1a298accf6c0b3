"""`half`: the float16 twin of a package, for GPUs."""

import argparse
import os
import time
from pathlib import Path

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.data import ENVIRONMENT
from training.errors import TrainingError


def add(commands: Commands, parents: Parents) -> None:
    """Register it."""
    half = commands.add_parser(
        "half", parents=[parents.data, parents.package], help="write the float16 twin of a package, without Keras"
    )
    half.add_argument("package", type=Path, metavar="PACKAGE", help="such as models/sentiment/1")
    half.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the twin and show how far it is from the package."""
    from training.packaging.package import target, write
    from training.packaging.twin import twin  # ONNX Runtime
    from training.provenance import run_json

    if options.version is not None and options.version < 1:
        raise TrainingError("--version must be 1 or more")
    started = time.perf_counter()
    package: Path = options.package.resolve()  # its last two parts are its name and version
    folder = target(options.out, package.parent.name, options.version, options.force)
    named = os.environ.get(ENVIRONMENT)
    made = twin(package, options.data or (Path(named) if named else None), int(folder.name))
    write(folder, {**made.files, "run.json": run_json(None, time.perf_counter() - started)}, replace=options.force)
    after = made.manifest.files["model.onnx"]
    table = Table("package", "of", "model.onnx", "float32", "how far")
    table.add_row(
        str(folder), str(options.package), f"{after.bytes:,} bytes", f"{made.bytes_before:,} bytes", made.told
    )
    show(table)
    return 0
