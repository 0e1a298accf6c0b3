"""`python -m benchmarks.gpu`: the same as `python -m benchmarks gpu`, where there is only `[serve]`, psutil and rich.

For a machine with a GPU that has no more: the file of `--out` goes into benchmarks/results/ of a checkout, and
`python -m benchmarks --show gpu` makes docs/gpu.md of it. That of `--quick` is written as well, and says what it is.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import results
from benchmarks.datasets import find_data
from benchmarks.gpu import bench
from benchmarks.servers import ServerFailed
from benchmarks.session import Reporter, Session


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables as Markdown, write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=bench.__doc__)
    parser.add_argument("--quick", action="store_true", help="some seconds, to see that it works; marked so")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--devices", type=lambda names: tuple(names.split(",")), default=(), help="cpu, or cpu,cuda:I")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="for gpu.json (default: here)")
    options = parser.parse_args(arguments)
    console = Console(file=sys.stderr)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        console.print(f"benchmarks.gpu: --out {options.out}: {error.strerror}", highlight=False)
        return 2
    session = Session(options.quick, find_data(options.data), Reporter(console), devices=options.devices)
    try:
        one = results.record(bench.NAME, bench.run(session))
    except ServerFailed as error:
        console.print(f"benchmarks.gpu: {error}", highlight=False)
        return 1
    for table in bench.tables(one):
        print(table.markdown(), end="\n\n")
    results.save(one, options.out)
    if remark := bench.remark(one):
        console.print(f"benchmarks.gpu: {remark}", highlight=False)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers end, too
    sys.exit(main())
