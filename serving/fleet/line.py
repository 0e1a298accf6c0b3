"""A pipe between a supervisor and a worker, on which either may ask the other something, as often as it likes.

Messages are `(ASK, number, what, argument)` and `(TELL, number, result)`; results come in the order they are ready.
"""

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

log = logging.getLogger(__name__)

ASK, TELL = "ask", "tell"

Answer = Callable[[Any], None]


class LineEndedError(Exception):
    """The other end is gone."""


class Line:
    """One end."""

    def __init__(self, pipe: Connection, asked: Callable[[str, Any, Answer], None], name: str) -> None:
        """`asked` gets what the other end asks, its argument, and what to call with the answer, now or later.

        It is called on the line's own thread, and must not keep it.
        """
        self._pipe = pipe
        self._asked = asked
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def ask(self, what: str, argument: Any = None) -> "Future[Any]":
        """Ask; the future gets the answer, or LineEndedError where none will come."""
        number, future = next(self._numbers), Future[Any]()
        with self._lock:
            if self._ended:
                future.set_exception(LineEndedError())
                return future
            self._waiting[number] = future
        self._send((ASK, number, what, argument))
        return future

    def wait_until_ended(self) -> None:
        """Return once the other end is gone."""
        self._thread.join()

    def _tell(self, number: int, result: Any) -> None:
        self._send((TELL, number, result))

    def _send(self, message: tuple[Any, ...]) -> None:
        # Where it fails, the thread that reads sees the same.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._pipe.send(message)

    def _read(self) -> None:
        try:
            while True:
                kind, number, *rest = self._pipe.recv()
                if kind == ASK:
                    what, argument = rest
                    self._asked(what, argument, partial(self._tell, number))
                else:
                    self._waiting.pop(number).set_result(*rest)
        except (EOFError, OSError):
            pass
        except Exception:
            log.exception("a line between supervisor and worker broke")
        with self._lock:
            self._ended = True
            left = list(self._waiting.values())
        for future in left:
            future.set_exception(LineEndedError())
        self._pipe.close()
