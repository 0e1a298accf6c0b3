"""The command line: look for a GPU, make an environment of the wheels given, run the steps in it, report.

Until the environment is there, only the standard library is used.
"""

import argparse
import datetime
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu.check import driver, libraries, venv
from gpu.check.driver import NoGpuError
from gpu.check.venv import CHECKOUT, VenvError

STEPS = {
    "environment": "what was checked: driver, device, libraries",
    "refusals": "a device that can't be had is refused at once, with the reason",
    "verified": "every package reproduces its golden examples, and how exactly",
    "placement": "the arithmetic runs on the device, and what stays on the CPU has a reason",
    "serving": "answers over gRPC are those of a server on the CPU, and the metrics tell of the GPU",
    "load": "throughput and latency beside the CPU, and the share of the ceiling that is reached",
    "soak": "GPU memory stays flat while shapes vary",
    "kill": "killed under load, its memory comes back and the next one serves; stopped, no accepted call is lost",
    "devices": "several devices share the work",
    "benchmark": "what CPU and GPU compute side by side, batch by batch",
}
"""Each step and what it proves, in the order in which they run. Each is the module of its name in `gpu.check.steps`."""

FAILED, IMPOSSIBLE = 1, 2
"""Exit codes: a step failed; nothing could be checked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every step that ran has passed, 1 if one failed, 2 if none could be run."""
    told = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(told)
    for name in (*options.only, *options.skip):
        if name not in STEPS:
            parser.error(f"no step {name!r}: there are {', '.join(STEPS)}")
    try:
        if options.device != "cpu":
            driver.look(int(options.device.partition(":")[2] or 0))
        if not options.prepared:
            _again(_python(options), told)
        _complete(options)
    except (NoGpuError, VenvError) as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return IMPOSSIBLE
    from gpu.check import run

    wanted = [name for name in STEPS if (not options.only or name in options.only) and name not in options.skip]
    return FAILED if run.steps(wanted, options) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpu.check", description=__doc__)
    parser.add_argument(
        "--device", type=_device, default="cuda", help="cuda, cuda:I, or cpu to rehearse (default: cuda)"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install from here into an environment of its own")
    parser.add_argument("--venv", type=Path, default=venv.DEFAULT, metavar="DIR", help="that environment")
    parser.add_argument("--models", type=Path, default=CHECKOUT / "models", metavar="DIR", help="packages to check")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for reports and logs (default: runs/gpu-check/TIME)")
    parser.add_argument("--only", type=_names, default=[], metavar="STEP[,STEP]", help=", ".join(STEPS))
    parser.add_argument("--skip", type=_names, default=[], metavar="STEP[,STEP]", help="leave these out")
    parser.add_argument("--load-seconds", type=float, default=3.0, help="of each measurement of `load` (default: 3)")
    parser.add_argument("--soak-seconds", type=float, default=600.0, help="of `soak` (default: 600)")
    parser.add_argument("--with-benchmark", action="store_true", help="run `python -m benchmarks gpu` as well")
    parser.add_argument("--prepared", action="store_true", help=argparse.SUPPRESS)
    return parser


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|cuda(:[0-9]+)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected cuda, cuda:I or cpu")
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _python(options: argparse.Namespace) -> Path:
    """The interpreter to run the steps in."""
    if options.wheels is None:
        return Path(sys.executable)
    print(f"installing from {options.wheels} into {options.venv} …", flush=True)
    wheels = options.wheels.resolve()
    return venv.make(options.venv.resolve(), wheels, venv.requirements(options.device, wheels))


def _again(python: Path, told: list[str]) -> None:
    """Begin anew in `python`, where the loader finds NVIDIA's wheels."""
    command = [str(python), "-m", "gpu.check", *told, "--prepared"]
    os.execve(python, command, libraries.environment(os.environ))


def _complete(options: argparse.Namespace) -> None:
    """Raises VenvError where this Python lacks what the steps need."""
    if lacking := venv.lacking():
        raise VenvError(
            f"{sys.executable} has no {', '.join(lacking)}: give a folder of wheels (make gpu-check WHEELS=DIR); "
            f"{venv.GATHER}"
        )
    if options.device != "cpu" and (lacking := libraries.missing()):
        raise VenvError(
            f"CUDA libraries are missing ({', '.join(lacking)}): the extra [cuda] brings them as wheels; {venv.GATHER}"
        )
    if options.out is None:
        now = datetime.datetime.now().astimezone()
        options.out = CHECKOUT / "runs/gpu-check" / now.strftime("%Y%m%d-%H%M%S")
    options.out.mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
