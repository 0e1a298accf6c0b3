"""What a trouble is, and what callers send."""

from collections.abc import Callable
from dataclasses import dataclass

TICKET, PAGE = "ticket", "page"

KNOWN = "this was a good film and the story is told very well by all who are in it"
GIBBERISH = "qwxz vrrk plimf zzot grumbq xxyl this was"
LONG = " ".join([KNOWN] * 60)


@dataclass(frozen=True)
class Fault:
    """A trouble."""

    alerts: tuple[tuple[str, str], ...]
    """Name and severity of those that should fire."""
    made: str
    mended: str
    make: Callable[[], object]
    mend: Callable[[], object]
    namespace: str
    """Of the server that has it."""
