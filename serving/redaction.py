"""Exceptions on their way into the log without their words: those may be a client's, its data or line breaks.

Where an exception was raised, and of what kind it is, tells most of what there is to know of a fault.
"""

import logging
import re
from types import TracebackType
from typing import Any, Final

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_LIBRARIES: Final = ("asyncio", "concurrent", "uvicorn", "grpc")

_LOOP: Final = "asyncio"
_LOOPS_WORDS: Final = re.compile(r"[^\n(<]*")
"""Of the event loop's messages: on the rest of their lines stand callbacks and tasks, arguments and errors included."""

_MOST: Final = 8
"""Exceptions of a chain."""

_shows = False


def show_content(shows: bool) -> None:
    """Whether this process's log may hold what is in requests."""
    global _shows
    _shows = shows


class Foreign(logging.Filter):
    """Does the same to what libraries log of exceptions that reach them: they know nothing of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        if record.exc_info and record.exc_info[1] is not None and record.name.startswith(_LIBRARIES):
            record.exc_info = exc_info(record.exc_info[1])
        if record.name == _LOOP and not _shows and (words := _LOOPS_WORDS.match(record.getMessage())) is not None:
            record.msg, record.args = words[0].rstrip(), ()
        return True


def exc_info(error: BaseException) -> ExcInfo:
    """What `logging` takes for `exc_info`: the exception and those that led to it, their words left out."""
    shown = error if _shows else _wordless(error, _MOST)
    return type(shown), shown, error.__traceback__


def _wordless(error: BaseException, most: int) -> BaseException:
    kind: Any = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
    made: BaseException = kind().with_traceback(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and most > 1:
        # As a context: a cause would suppress what stands behind it.
        made.__context__ = _wordless(cause, most - 1)
    return made
