"""Where results stay: one JSON file a benchmark, and the tables in docs/performance.md made from them."""

import datetime
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, summary
from benchmarks.servers import REPOSITORY
from benchmarks.tables import Table

RESULTS = Path(__file__).parent / "results"
PAGE = REPOSITORY / "docs" / "performance.md"

BEGIN = "<!-- measured: begin. Made by `make bench`; what is written here by hand is lost. -->"
END = "<!-- measured: end -->"


def record(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A result with what makes it worth anything later: when, and on what."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"benchmark": name, "date": today, "machine": describe(), **result}


def save(one: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write a record in place of the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_tidy(one), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{one['benchmark']}.json").write_text(text + "\n", encoding="utf-8")


def load(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The last record of a benchmark, if it ever ran."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_page(measured: Iterable[tuple[dict[str, Any], list[Table]]], page: Path = PAGE) -> None:
    """Replace what stands between the marks of the page.

    Raises:
        ValueError: the marks are not there.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} lacks one of the lines {BEGIN!r} and {END!r}")
    sections = []
    for one, tables in measured:
        sections += [f"## {one['benchmark'].capitalize()}", *(table.markdown() for table in tables)]
        sections.append(f"*{one['date']}. {summary(one['machine'])}.{_noise(one)}*")
    page.write_text("\n\n".join([before.rstrip(), BEGIN, *sections, END]) + after, encoding="utf-8")


def _noise(one: dict[str, Any]) -> str:
    """How busy others kept the machine, as far as it is known."""
    cores = [value for round_ in one["rounds"] for value in _find(round_, "other_cores")]
    if not cores:
        return ""
    return f" Other processes kept {sum(cores) / len(cores):.2f} cores busy on average, {max(cores):.2f} at most."


def _find(value: Any, name: str) -> list[float]:
    if not isinstance(value, dict):
        return []
    return [found for key, inner in value.items() for found in ([inner] if key == name else _find(inner, name))]


def _tidy(value: Any) -> Any:
    """As JSON can hold it, with as many digits as were measured."""
    if isinstance(value, dict):
        return {key: _tidy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
