"""Runs the steps, one after the other, says what becomes of each, and writes the report."""

import argparse
import datetime
import importlib
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence

from gpu.check import report
from gpu.check.context import Context
from gpu.check.finding import Finding, Outcome, StepFailed, StepSkipped, Verdict
from gpu.check.options import STEPS
from gpu.check.venv import CHECKOUT

Step = Callable[[Context, Finding], None]

FAILED, IMPOSSIBLE = 1, 2
"""Exit codes: a step failed; nothing could be checked."""


def steps(names: Sequence[str], options: argparse.Namespace) -> int:
    """Run these; returns the exit code, which is of these alone, whatever else the report has."""
    context = Context.of(options)
    if context.rehearsal:
        print(report.REHEARSAL)
    about = {
        "date": _now(),
        "commit": _commit(),
        "device": context.device,
        "python": platform.python_version(),
        "models": str(context.models),
    }
    before = report.earlier(context.out, about)
    outcomes: list[Outcome] = []
    for name in names:
        print(f"{name}: {STEPS[name]} …", flush=True)
        outcomes.append(one(name, importlib.import_module(f"gpu.check.steps.{name}").run, context))
        _tell(outcomes[-1])
        # A step that hangs or takes the machine with it leaves what was found before.
        files = report.write(context.out, report.merged(before, outcomes), about, context.rehearsal)
    print(f"\n{report.summary(outcomes)}\n\n{report.verdict(outcomes, context.rehearsal)}")
    print("report:", *files)
    if kept := [outcome.name for outcome in before if outcome.name not in names]:
        print(f"it keeps what was found before of {', '.join(kept)}")
    verdicts = {outcome.verdict for outcome in outcomes}
    return FAILED if "failed" in verdicts else 0 if "passed" in verdicts else IMPOSSIBLE


def one(name: str, step: Step, context: Context) -> Outcome:
    """Run one step; whatever it raises is a failure, and no other step's."""
    found = Finding(context.rehearsal)
    began, started = _now(), time.monotonic()
    skipped = []
    trace = context.out / f"{name}.traceback"
    trace.unlink(missing_ok=True)
    try:
        step(context, found)
    except StepSkipped as reason:
        skipped = [str(reason)]
    except StepFailed as error:
        found.failures.append(str(error))
    except Exception as error:  # noqa: BLE001 - the others are to be run all the same
        trace.write_text(traceback.format_exc())
        found.failures.append(f"{type(error).__name__}: {error} ({trace.name} has where)")
    verdict: Verdict = "failed" if found.failures else "skipped" if skipped else "passed"
    return Outcome(
        name,
        STEPS[name],
        verdict,
        (*found.failures, *skipped),
        time.monotonic() - started,
        began,
        found.figures,
        tuple(found.tables),
        tuple(found.unasked),
    )


def _tell(outcome: Outcome) -> None:
    for name, value in outcome.figures.items():
        print(report.figure(name, value))
    for table in outcome.tables:
        print(*(f"{report.INDENT}{line}" for line in report.aligned(table)), sep="\n")
    for reason in outcome.reasons:
        print(f"    {outcome.verdict}: {reason}")
    print(f"  {outcome.verdict}, {outcome.seconds:.1f} s", flush=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str:
    """Of the checkout; "unknown" where there is no Git."""
    command = ["git", "describe", "--always", "--exclude", "*", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
