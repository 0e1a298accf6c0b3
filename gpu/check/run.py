"""Runs the steps, one after the other, says what becomes of each, and writes the report."""

import argparse
import datetime
import importlib
import platform
import time
import traceback
from collections.abc import Callable, Sequence

from gpu.check import report
from gpu.check.__main__ import STEPS
from gpu.check.context import Context
from gpu.check.finding import Finding, Outcome, StepFailed, StepSkipped, Verdict, text

Step = Callable[[Context, Finding], None]


def steps(names: Sequence[str], options: argparse.Namespace) -> bool:
    """Run these; returns whether one failed."""
    context = Context.of(options)
    if context.rehearsal:
        print(report.REHEARSAL)
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": context.device,
        "python": platform.python_version(),
        "soak seconds": context.soak_seconds,
        "load seconds": context.load_seconds,
    }
    outcomes: list[Outcome] = []
    for name in names:
        print(f"{name}: {STEPS[name]} …", flush=True)
        outcomes.append(one(name, importlib.import_module(f"gpu.check.steps.{name}").run, context))
        _tell(outcomes[-1])
        # A step that hangs or takes the machine with it leaves what was found before.
        files = report.write(context.out, outcomes, about, context.rehearsal)
    print(f"\n{report.summary(outcomes)}\n\n{report.verdict(outcomes, context.rehearsal)}")
    if outcomes:
        print("report:", *files)
    return any(outcome.verdict == "failed" for outcome in outcomes)


def one(name: str, step: Step, context: Context) -> Outcome:
    """Run one step; whatever it raises is a failure, and no other step's."""
    found = Finding(context.rehearsal)
    started = time.monotonic()
    skipped = []
    try:
        step(context, found)
    except StepSkipped as reason:
        skipped = [str(reason)]
    except StepFailed as error:
        found.failures.append(str(error))
    except Exception as error:  # noqa: BLE001 - the others are to be run all the same
        (context.out / f"{name}.traceback").write_text(traceback.format_exc())
        found.failures.append(f"{type(error).__name__}: {error} ({name}.traceback has where)")
    verdict: Verdict = "failed" if found.failures else "skipped" if skipped else "passed"
    return Outcome(
        name,
        STEPS[name],
        verdict,
        (*found.failures, *skipped),
        time.monotonic() - started,
        found.figures,
        tuple(found.tables),
        tuple(found.unasked),
    )


def _tell(outcome: Outcome) -> None:
    for name, value in outcome.figures.items():
        print(f"    {name}: {text(value)}")
    for table in outcome.tables:
        print(*(f"    {line}" for line in report.aligned(table)), sep="\n")
    for reason in outcome.reasons:
        print(f"    {outcome.verdict}: {reason}")
    print(f"  {outcome.verdict}, {outcome.seconds:.1f} s", flush=True)
