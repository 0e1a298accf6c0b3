"""Faults, with calls in flight: how long until all is back, which calls were lost, and what the others saw.

The faults are the tests in `tests/chaos`, which assert that each is survived; here they are run for their figures.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.machine import Others
from benchmarks.results import write_page
from benchmarks.servers import REPOSITORY, ServerFailed
from benchmarks.session import Session
from benchmarks.stats import median
from benchmarks.tables import Cell, Table

NAME = "faults"

PAGE = REPOSITORY / "docs" / "faults.md"
"""Where its table stands: each of its faults is explained there."""

_CONNECTIONS = 10_000
"""Idle ones."""
_FAULT = "fault"


def run(session: Session) -> dict[str, Any]:
    """Have everything go wrong, several times.

    Raises:
        ServerFailed: a fault was not survived.
    """
    rounds = int(session.pick(3, 1))
    connections = int(session.pick(_CONNECTIONS, _CONNECTIONS / 10))
    raw: list[dict[str, Any]] = []
    with session.reporter.benchmark(NAME, rounds):
        for number in range(rounds):
            raw.append(_round(connections))
            session.reporter.step(f"round {number + 1} of {rounds}")
    return {"settings": {"rounds": rounds, "connections": connections}, "summary": summary(raw), "rounds": raw}


def summary(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each fault as the median of its rounds."""
    found = []
    for position, case in enumerate(rounds[0]["cases"]):
        same = [one["cases"][position]["figures"] for one in rounds]
        figures = {name: median([one[name] for one in same]) for name in case["figures"]}
        found.append({**case, "figures": figures})
    return found


def tables(record: dict[str, Any]) -> list[Table]:
    """A line for each figure of each fault."""
    rows: list[list[Cell]] = []
    for case in record["summary"]:
        what = f"{case['fault']} ({case['variant']})" if case["variant"] else case["fault"]
        if case["skipped"]:
            rows.append([what, f"not here: {case['skipped']}", None])
        for name, value in case["figures"].items():
            rows.append([what, name, value])
            what = ""
    note = (
        f"Medians of {record['settings']['rounds']} rounds; real servers, real signals, callers without retries unless "
        "it says otherwise. Calls lost are those that were not answered and may have been begun."
    )
    return [Table("Every fault", ("fault", "figure", "measured"), rows, note, labels=2)]


def draw(record: dict[str, Any]) -> None:
    """Write the table into its page."""
    write_page([(record, tables(record))], PAGE)


def _round(connections: int) -> dict[str, Any]:
    others, used = Others(), _children_seconds()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/chaos", "-p", "no:cacheprovider", f"--junitxml={report}"],
            cwd=REPOSITORY,
            env={**os.environ, "TESTS_CHAOS_CONNECTIONS": str(connections)},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise ServerFailed(f"a fault was not survived: {ended.stdout[-2000:]}")
        return {"cases": cases(report), "other_cores": others.cores(_children_seconds() - used)}


def _children_seconds() -> float:
    """CPU time of all that was started here, and has ended."""
    times = os.times()
    return times.children_user + times.children_system


def cases(report: Path) -> list[dict[str, Any]]:
    """The faults of a JUnit report, in order: those of its tests that have figures."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        properties = {str(one.get("name")): str(one.get("value")) for one in case.iter("property")}
        fault = properties.pop(_FAULT, None)
        skipped = case.find("skipped")
        if fault is not None:
            found.append(
                {
                    "fault": fault,
                    "variant": str(case.get("name")).partition("[")[2].rstrip("]"),
                    "skipped": "" if skipped is None else str(skipped.get("message")),
                    "figures": {name: float(value) for name, value in properties.items()},
                }
            )
    return found
