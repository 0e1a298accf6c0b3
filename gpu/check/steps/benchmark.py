"""The benchmark of CPU beside GPU, for whoever has the time."""

import subprocess
import sys

from gpu.check.context import Context
from gpu.check.finding import Finding
from gpu.check.venv import CHECKOUT

SECONDS = 7200.0


def run(context: Context, found: Finding) -> None:
    """Run `python -m benchmarks.gpu`, which needs no more than that, and keep what it prints."""
    devices = "cpu" if context.rehearsal else f"cpu,cuda:{context.index}"
    command = [sys.executable, "-m", "benchmarks.gpu", "--devices", devices, "--out", str(context.out)]
    command += ["--quick"] if context.rehearsal else []
    with (context.out / "benchmark.txt").open("wb") as file:
        done = subprocess.run(command, cwd=CHECKOUT, stdout=file, stderr=file, timeout=SECONDS, check=False)
    found.figures["printed"] = "benchmark.txt"
    found.figures["figures"] = "gpu.json"
    found.expect(done.returncode == 0, f"it ended with {done.returncode} (benchmark.txt)")
