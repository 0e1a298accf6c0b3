"""The report: a table for the terminal, Markdown for people, JSON for programs."""

import itertools
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu.check.finding import Outcome, Table, text
from gpu.check.options import NOTHING, STEPS

REHEARSAL = "Rehearsal on the CPU: proves nothing about a GPU."

FILES = ("report.json", "report.md")

SAME = ("commit", "device", "models")
"""What runs must have in common to share a report."""

INDENT = "    "
WIDTH = 120
"""Of a terminal, in characters."""
_NARROW = 20
_WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}
"""What is not torn apart when lines are wrapped: paths, names of packages."""


def verdict(outcomes: Sequence[Outcome], rehearsal: bool) -> str:
    """All of it in one line."""
    count = {word: sum(one.verdict == word for one in outcomes) for word in ("passed", "failed", "skipped")}
    told = ", ".join(f"{number} {word}" for word, number in count.items() if number) or "nothing was run"
    whole = "FAILED" if count["failed"] else "passed" if count["passed"] else NOTHING
    return f"{REHEARSAL} {whole}: {told}" if rehearsal else f"{whole}: {told}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each step, for a terminal."""
    lines = []
    for one in outcomes:
        lines.append(f"  {one.name:<12} {one.verdict:<8} {one.seconds:>8.1f} s  {one.proves}")
        lines += [f"  {'':<12} {line}" for reason in one.reasons for line in reason.splitlines()]
        lines += [f"  {'':<12} not asked on the CPU: {assertion}" for assertion in one.unasked]
    return "\n".join(lines)


def earlier(folder: Path, about: dict[str, Any]) -> list[Outcome]:
    """What runs before this one left in `folder`, if they were of the same commit, device and packages."""
    try:
        record = json.loads((folder / FILES[0]).read_text("utf-8"))
        same = all(record[key] == about[key] for key in SAME)
        return [Outcome.from_dict(step) for step in record["steps"]] if same else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def merged(before: Sequence[Outcome], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Each step as it was last run, in the steps' order."""
    last = {one.name: one for one in (*before, *outcomes)}
    return [last[name] for name in STEPS if name in last]


def write(folder: Path, outcomes: Sequence[Outcome], about: dict[str, Any], rehearsal: bool) -> list[Path]:
    """Write both files into `folder`; `about` is what was run, and when."""
    record = {
        "verdict": verdict(outcomes, rehearsal),
        "rehearsal": rehearsal,
        **about,
        "steps": [one.as_dict() for one in outcomes],
    }
    pages = (json.dumps(record, indent=1, default=str) + "\n", markdown(outcomes, about, rehearsal))
    files = [folder / name for name in FILES]
    for file, page in zip(files, pages, strict=True):
        file.write_text(page, "utf-8")
    return files


def markdown(outcomes: Sequence[Outcome], about: dict[str, Any], rehearsal: bool) -> str:
    """The page: the verdict, a table of steps, then each with its figures."""
    rows = [(one.name, one.proves, one.verdict, one.began, f"{one.seconds:.1f}") for one in outcomes]
    parts = [
        "# Check of serving on a GPU",
        f"**{verdict(outcomes, rehearsal)}**",
        "\n".join(f"- {key}: {text(value)}" for key, value in about.items()),
        _table(Table(("step", "what it proves", "verdict", "began", "s"), rows)),
    ]
    for one in outcomes:
        parts.append(f"## {one.name}: {one.verdict}")
        lines = [f"- **{one.verdict}**: {reason}" for reason in one.reasons]
        lines += [f"- not asked on the CPU: {assertion}" for assertion in one.unasked]
        lines += [f"- {name}: {text(value)}" for name, value in one.figures.items()]
        parts.append("\n".join(lines))
        parts += [_table(table) for table in one.tables]
    return "\n\n".join(part for part in parts if part) + "\n"


def aligned(table: Table) -> list[str]:
    """For a terminal: numbers to the right, words to the left; the widest column is wrapped where it must be."""
    lines = [[text(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    words = [any(isinstance(row[column], str) for row in table.rows) for column in range(len(table.columns))]
    widest = widths.index(max(widths))
    others = sum(widths) - widths[widest] + 2 * (len(widths) - 1)
    widths[widest] = min(widths[widest], max(WIDTH - len(INDENT) - others, _NARROW))
    return [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(part, widths, words, strict=True)
        ).rstrip()
        for line in lines
        for part in itertools.zip_longest(*map(_wrapped, line, widths), fillvalue="")
    ]


def figure(name: str, value: Any) -> str:
    """One figure, for a terminal."""
    whole = f"{name}: {text(value)}"
    return textwrap.fill(whole, WIDTH, initial_indent=INDENT, subsequent_indent=2 * INDENT, **_WHOLE)


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, **_WHOLE) or [""]


def _table(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *([text(cell) for cell in row] for row in table.rows)]
    drawn = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return f"{drawn}\n\n{table.note}" if table.note else drawn
