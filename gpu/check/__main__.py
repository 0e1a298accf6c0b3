"""Look for a GPU, make an environment of the wheels given, run the steps in it, report.

Until the environment is there, only the standard library is used.
"""

import argparse
import datetime
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpu.check import driver, libraries, run, venv
from gpu.check.driver import NoGpuError
from gpu.check.options import BENCHMARK, parse
from gpu.check.run import IMPOSSIBLE
from gpu.check.venv import CHECKOUT, VenvError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if no step failed, 1 if one did, 2 if nothing was checked."""
    told = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(told)
    try:
        if options.device != "cpu":
            driver.look(int(options.device.partition(":")[2] or 0))
        if not options.prepared:
            _again(_python(options), told)
        _complete(options)
    except (NoGpuError, VenvError) as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return IMPOSSIBLE
    return run.steps(options.steps, options)


def _python(options: argparse.Namespace) -> Path:
    """The interpreter to run the steps in."""
    if options.wheels is None:
        return Path(sys.executable)
    print(f"installing from {options.wheels} into {options.venv} …", flush=True)
    wheels = options.wheels.resolve()
    wanted = venv.requirements(options.device, wheels, BENCHMARK in options.steps)
    return venv.make(options.venv.resolve(), wheels, wanted)


def _again(python: Path, told: list[str]) -> None:
    """Begin anew in `python`, where the loader finds NVIDIA's wheels."""
    command = [str(python), "-m", "gpu.check", *told, "--prepared"]
    os.execve(python, command, libraries.environment(os.environ))


def _complete(options: argparse.Namespace) -> None:
    """Raises VenvError where this Python lacks what the steps need."""
    if lacking := venv.lacking():
        raise VenvError(
            f"{sys.executable} has no {', '.join(lacking)}: where there is internet, `make serve` makes an environment "
            f"that has (stop it when it serves); elsewhere, give a folder of wheels (make gpu-check WHEELS=DIR); "
            f"{venv.GATHER}"
        )
    if BENCHMARK in options.steps and (lacking := venv.lacking(venv.FOR_BENCHMARK)):
        raise VenvError(
            f"the benchmark needs {', '.join(lacking)}, too, which {sys.executable} has not: install them with its "
            "pip, or add them to the wheels (docs/gpu-check.md)"
        )
    if options.device != "cpu" and (lacking := libraries.missing()):
        raise VenvError(
            f"CUDA libraries are missing ({', '.join(lacking)}): the extra [cuda] brings them as wheels; {venv.GATHER}"
        )
    if options.out is None:
        now = datetime.datetime.now().astimezone()
        options.out = CHECKOUT / "runs/gpu-check" / now.strftime("%Y%m%d-%H%M%S")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    except OSError as error:
        raise VenvError(f"--out {options.out}: {error.strerror}") from error


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers end, too
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("gpu-check: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
