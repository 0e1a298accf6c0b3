"""The command line: run benchmarks, show their tables, keep their results."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from benchmarks import (
    endurance,
    faults,
    fits,
    lifecycle,
    load,
    machine,
    neighbours,
    overload,
    profiles,
    protocols,
    quality,
    results,
    seeds,
    startup,
    traces,
    transports,
    versions,
)
from benchmarks.autoscale import bench as autoscale
from benchmarks.datasets import ENVIRONMENT, find_data
from benchmarks.gpu import bench as gpu
from benchmarks.gpu import page as gpu_page
from benchmarks.machine import Cores
from benchmarks.monitoring import check as monitoring
from benchmarks.peers import bench as peers
from benchmarks.peers.registry import BY_NAME
from benchmarks.scaling import bench as scaling
from benchmarks.scaling import page as scaling_page
from benchmarks.servers import ServerFailed
from benchmarks.session import Reporter, Session

BENCHMARKS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        startup,
        load,
        transports,
        protocols,
        lifecycle,
        profiles,
        overload,
        peers,
        traces,
        neighbours,
        quality,
        versions,
        seeds,
        fits,
        endurance,
        monitoring,
        scaling,
        autoscale,
        faults,
        gpu,
    )
}

_ON_REQUEST = {peers.NAME, seeds.NAME, fits.NAME, endurance.NAME, monitoring.NAME, gpu.NAME}
"""Run only when named: the first installs things, the second wants packages that take long to make, and the third
makes some; the fourth takes half an hour; the fifth wants a Prometheus, and is no question of speed; the last is for
machines with a GPU."""

_LISTEN_SECONDS = 1.0
_QUIET = 0.1
"""Busy cores, of others, below which figures are worth reading as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the server on this machine.")
    help_ = f"{', '.join(BENCHMARKS)} (default: all but {', '.join(sorted(_ON_REQUEST))})"
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=help_)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works; nothing is kept")
    parser.add_argument(
        "--data", type=Path, help=f"folder of the data sets (default: {ENVIRONMENT}, or ../shared/data)"
    )
    parser.add_argument("--show", action="store_true", help="only show the last results, and write the page from them")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PEER",
        choices=list(BY_NAME),
        help=f"of the peers: {', '.join(BY_NAME)}",
    )
    parser.add_argument(
        "--devices",
        type=lambda names: tuple(names.split(",")),
        default=(),
        metavar="NAMES",
        help="of gpu: cpu, or cpu,cuda:I (default: the CPU, and the first GPU if there is one)",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    console = Console(width=None if sys.stdout.isatty() else 180)
    if options.show:
        return _show(console, options.names or list(BENCHMARKS))
    names = options.names or [name for name in BENCHMARKS if name not in _ON_REQUEST]
    session = Session(
        *(options.quick, find_data(options.data), Reporter(console)),
        peers=tuple(options.only),
        devices=options.devices,
    )
    try:
        return _run(console, session, names)
    except ServerFailed as error:
        console.print(f"benchmarks: {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; what had been measured completely is kept")
        return 130


def _run(console: Console, session: Session, names: list[str]) -> int:
    started = time.monotonic()
    console.print(machine.summary(machine.describe()), highlight=False)
    if session.cores == Cores(None, None):
        console.print(str(session.cores))
    others = machine.Others()
    time.sleep(_LISTEN_SECONDS)
    if (busy := others.cores(0.0)) > _QUIET:
        console.print(f"other processes keep {busy:.1f} cores busy: read ratios, and latencies not at all")
    for name in names:
        module = BENCHMARKS[name]
        one = results.record(name, module.run(session))
        for table in module.tables(one):
            console.print(table.rich())
        if one["rounds"] and not session.quick:
            results.save(one)
            _draw(module, one)
            _write_page()
        if hasattr(module, "remark") and (remark := module.remark(one)):
            console.print(remark, highlight=False)
    console.print(f"{time.monotonic() - started:.0f} s")
    return 0


def _show(console: Console, names: list[str]) -> int:
    for name in names:
        one = results.load(name)
        if one is None:
            console.print(f"{name}: no results yet")
            continue
        console.print(f"{one['date']}, {machine.summary(one['machine'])}", highlight=False)
        for table in BENCHMARKS[name].tables(one):
            console.print(table.rich())
        _draw(BENCHMARKS[name], one)
    _write_page()
    return 0


def _draw(module: ModuleType, one: dict[str, Any]) -> None:
    """The picture of a benchmark that has one."""
    if hasattr(module, "draw"):
        module.draw(one)


def _write_page() -> None:
    records = [
        (one, module.tables(one))
        for name, module in BENCHMARKS.items()
        if not hasattr(module, "PAGE") and (one := results.load(name))
    ]
    results.write_page(records)
    scaling_page.write()
    gpu_page.write()


if __name__ == "__main__":
    sys.exit(main())
