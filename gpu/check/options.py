"""The command line: which steps, on which device, with what. What is wrong is refused before anything begins."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path

from gpu.check import venv
from gpu.check.venv import CHECKOUT

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

BENCHMARK = "benchmark"
"""Run only when asked for: it takes long, and needs more packages."""

NOTHING = "NOTHING CHECKED"

_ABOUT = """Shows, on a machine with an NVIDIA GPU, that serving on it is correct and verified, and how fast beside the
CPU. Exit code 0: no step failed; 1: one did; 2: nothing was checked. docs/gpu-check.md has the rest."""
_PACKAGES = ("*/*/model.json", "*/model.json", "model.json")
"""Where packages may lie in a models folder (serving/repository/disk.py)."""


def parse(told: Sequence[str]) -> argparse.Namespace:
    """What was asked for, with `steps`, in order; ends with exit code 2 where it can't be done."""
    parser = _parser()
    options = parser.parse_args(told)
    for name in (*options.only, *options.skip):
        if name not in STEPS:
            parser.error(f"no step {name!r}: there are {', '.join(STEPS)}")
    wanted = options.only or [name for name in STEPS if name != BENCHMARK]
    if options.with_benchmark:
        wanted = [*wanted, BENCHMARK]
    options.steps = [name for name in STEPS if name in wanted and name not in options.skip]
    if not options.steps:
        parser.error(f"{NOTHING}: --only and --skip leave no step")
    if not any(path for pattern in _PACKAGES for path in options.models.glob(pattern)):
        parser.error(f"--models {options.models}: there are no packages")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: not a folder")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gpu.check", usage="%(prog)s [OPTION …] (--help lists them)", description=_ABOUT
    )
    parser.add_argument(
        "--device", type=_device, default="cuda", help="cuda, cuda:I, or cpu to rehearse (default: cuda)"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install from here into an environment of its own")
    parser.add_argument("--venv", type=Path, default=venv.DEFAULT, metavar="DIR", help="that environment")
    parser.add_argument("--models", type=Path, default=CHECKOUT / "models", metavar="DIR", help="packages to check")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for reports and logs (default: runs/gpu-check/TIME)")
    parser.add_argument("--only", type=_names, default=[], metavar="STEP[,STEP]", help=", ".join(STEPS))
    parser.add_argument("--skip", type=_names, default=[], metavar="STEP[,STEP]", help="leave these out")
    parser.add_argument(
        "--load-seconds", type=_seconds, default=1.0, metavar="S", help="of each measurement of `load` (default: 1)"
    )
    parser.add_argument("--soak-seconds", type=_seconds, default=600.0, metavar="S", help="of `soak` (default: 600)")
    parser.add_argument(
        "--with-benchmark", action="store_true", help="run `python -m benchmarks.gpu`, too; needs psutil and rich"
    )
    parser.add_argument("--prepared", action="store_true", help=argparse.SUPPRESS)
    return parser


def _device(text: str) -> str:
    if re.fullmatch(r"cpu|cuda(:[0-9]+)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected cuda, cuda:I or cpu")
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, more than 0")
    return seconds
