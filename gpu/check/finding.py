"""What a step finds: figures, tables, what fails, and what only a GPU could have shown."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Cell = str | int | float

Verdict = Literal["passed", "failed", "skipped"]


class StepSkipped(Exception):  # noqa: N818 - no error
    """A step has nothing to check here; the message says why."""


class StepFailed(Exception):  # noqa: N818 - reads better where it is raised
    """A step can't go on; the message says why."""


@dataclass(frozen=True)
class Table:
    """Figures side by side."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass
class Finding:
    """What one step finds, while it runs."""

    rehearsal: bool = False
    """It runs on the CPU: what only CUDA can show is not asked, and named."""
    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """Assertions that a rehearsal can't make."""

    def expect(self, holds: bool, otherwise: str) -> bool:
        """Go on either way, but fail the step unless it holds."""
        if not holds:
            self.failures.append(otherwise)
        return holds

    def on_cuda(self, assertion: str) -> bool:
        """Whether an assertion that only CUDA can meet is to be made; if not, it is named as not made."""
        if self.rehearsal:
            self.unasked.append(assertion)
        return not self.rehearsal


@dataclass(frozen=True)
class Outcome:
    """What one step came to."""

    name: str
    proves: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it failed, or was skipped."""
    seconds: float
    began: str = ""
    """In UTC."""
    figures: dict[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    unasked: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Self:
        """What `as_dict` gave."""
        sequences = {name: tuple(told[name]) for name in ("reasons", "unasked")}
        return cls(**{**told, **sequences, "tables": tuple(Table(**table) for table in told["tables"])})


def text(value: Any) -> str:
    """A figure in words: numbers with as many digits as they deserve."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "none"
    return str(value)
