"""`half`: the float16 twin of a package, for GPUs."""

import argparse
import os
import time
from pathlib import Path

from rich.table import Table

from training.commands.common import Commands, Parents, show
from training.data import ENVIRONMENT
from training.errors import TrainingError


def add(commands: Commands, _: Parents) -> None:
    """Register it."""
    half = commands.add_parser(
        "half",
        help="write the float16 twin of a package, without Keras",
        description="Write the float16 twin of a package, for GPUs with tensor cores; on a CPU it takes up to 1.6 "
        "times as long.",
    )
    half.add_argument("package", type=Path, metavar="PACKAGE", help="such as models/sentiment/1")
    half.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of the data sets, Keras's files, to hold the twin to the package on the whole test set; default: "
        f"${ENVIRONMENT}, else its golden examples are all that is compared",
    )
    half.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="model repository; where it has versions of that model, the twin must not be significantly worse than the "
        "one that it takes over from (what it replaces, else the highest), which needs --data",
    )
    half.add_argument("--version", type=int, metavar="N", help="version of the twin; default: the next number")
    half.add_argument(
        "--force",
        action="store_true",
        help="replace the version if it exists, and publish even what is significantly worse than what is there, or "
        "not compared with it",
    )
    half.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the twin and show how far it is from the package."""
    from training.packaging.package import target, write
    from training.packaging.twin import judged, twin  # ONNX Runtime
    from training.provenance import run_json

    if options.version is not None and options.version < 1:
        raise TrainingError("--version must be 1 or more")
    started = time.perf_counter()
    package: Path = options.package.resolve()  # its last two parts are its name and version
    folder = target(options.out, package.parent.name, options.version, options.force)
    named = os.environ.get(ENVIRONMENT)
    made = twin(package, options.data or (Path(named) if named else None), int(folder.name))
    made, gate = judged(made, folder, options.force)
    write(folder, {**made.files, "run.json": run_json(None, time.perf_counter() - started)}, replace=options.force)
    after = made.manifest.files["model.onnx"]
    table = Table("package", "of", "model.onnx", "float32", "how far", "against")
    table.add_row(
        str(folder), str(options.package), f"{after.bytes:,} bytes", f"{made.bytes_before:,} bytes", made.told, gate
    )
    show(table)
    return 0
