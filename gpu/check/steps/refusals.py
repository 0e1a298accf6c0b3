"""A device that can't be had is refused: at once, by a process that ends, and with the reason."""

import json
import os
import subprocess
import time

from gpu.check import server
from gpu.check.context import Context
from gpu.check.finding import Finding, Table
from gpu.check.venv import CHECKOUT

SECONDS = 2.0
"""In which a server must have refused."""

HOPELESS_SECONDS = 60.0
HIDDEN = "CUDA_VISIBLE_DEVICES"

CASES: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("every device hidden", "cuda", {HIDDEN: ""}, "no device is visible"),
    ("a device that is not there", "cuda:99", {}, "there is no cuda:99"),
)
"""What is done, and which reason is due where there is a driver."""


def run(context: Context, found: Finding) -> None:
    """Start a server for each case."""
    rows = []
    strict = found.on_cuda(f"the very reason, within {SECONDS:g} s")
    for what, device, variables, reason in CASES:
        code, seconds, said = _refusal(context, device, variables)
        rows.append((what, f"{seconds:.2f}", str(code), said))
        judge(found, what, code, seconds, said, *((reason, SECONDS) if strict else ()))
    found.tables.append(Table(("case", "s", "exit code", "said"), rows))


def judge(
    found: Finding,
    what: str,
    code: int,
    seconds: float,
    said: str,
    reason: str = "can't be had",
    limit: float = HOPELESS_SECONDS,
) -> None:
    """Hold one refusal against what is promised."""
    found.expect(code > 0, f"{what}: ended with {code}, expected a refusal")
    found.expect(reason in said, f"{what}: does not say why: {said}")
    found.expect(seconds < limit, f"{what}: took {seconds:.2f} s, more than {limit:g}")


def _refusal(context: Context, device: str, variables: dict[str, str]) -> tuple[int, float, str]:
    """Exit code, seconds and last words of a server that should not start; 0 for one that did."""
    addresses = [f"--{port}-address=127.0.0.1:0" for port in ("grpc", "http", "metrics")]
    started = time.monotonic()
    process = subprocess.Popen(
        server.command("--device", device, "--models", str(context.models), *addresses),
        cwd=CHECKOUT,
        env=server.settings_free(os.environ) | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            _, written = process.communicate(timeout=HOPELESS_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return 0, time.monotonic() - started, "nothing: it serves"
    return process.returncode, time.monotonic() - started, _reason(written)


def _reason(written: str) -> str:
    """What was said outside of the log, which may have several lines; else the log's last event."""
    lines = written.strip().splitlines()
    if outside := [line for line in lines if not line.startswith("{")]:
        return " ".join(outside)
    event = json.loads(lines[-1]) if lines else {}
    return " ".join(str(event[key]) for key in ("event", "reason", "error") if key in event)
