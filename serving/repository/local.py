"""The fleet of one: the models of this very process, committed on its event loop."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

from serving.repository.models import Models
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Prepared

SWITCH_SECONDS = 0.0005
"""After which the thread that loads a model lets the event loop go on, instead of Python's 5 ms: that would be seen in
the latency of every request meanwhile."""


NICE = 10
"""Once requests are served, a thread that loads models has a tenth of the weight of one that answers (sched(7))."""


class Local:
    """What control changes where there are no workers."""

    def __init__(self, models: Models, loop: asyncio.AbstractEventLoop) -> None:
        self._models = models
        self._loop = loop

    @property
    def lacking(self) -> Mapping[tuple[str, int], str]:
        """One has what it serves."""
        return {}

    def prepare(self, wanted: Wanted) -> Prepared:
        """Load and verify on the calling thread."""
        with gently():
            return self._models.prepare(wanted)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        """Change what is served, and return when it is."""
        done: Future[None] = Future()

        def change() -> None:
            try:
                self._models.commit(routings)
            except BaseException as error:  # noqa: BLE001 - for who waits to see
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(change)
        done.result()


def step_back() -> None:
    """Let the calling thread's work wait for that of others, from now on: there is no way back without privileges."""
    with contextlib.suppress(OSError, AttributeError):  # it is a courtesy
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


@contextlib.contextmanager
def gently() -> Iterator[None]:
    """Work on the calling thread that others, which serve, hardly notice."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
