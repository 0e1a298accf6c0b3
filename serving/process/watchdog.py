"""The watchdog: ends batches that take too long, and a process of which nothing else is to be hoped.

It is a thread of its own, since an event loop that hangs can't notice it. What takes too long is logged with where
every thread stands, and the process is not live meanwhile; a batch is told to end; what then still does not end takes
the process with it, so that its supervisor, or Kubernetes, starts another.
"""

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final, Protocol

from serving.engine.runs import Run

log = logging.getLogger(__name__)

EXIT_CODE: Final = 70
"""Of a process that hung: EX_SOFTWARE of sysexits(3)."""

MAX_GRACE_SECONDS: Final = 10.0
"""In which what was too long must have come to its end; where less is too long, as much as that."""

SAY_SECONDS: Final = 1.0
"""In which the log must have taken what is said."""

_LOOP: Final = "event loop"
_MAX_FRAMES: Final = 20
"""Of one thread, the innermost."""


class UnderWay(Protocol):
    """Where the runs are seen."""

    @property
    def under_way(self) -> list[Run]:
        """Those that began and have not ended."""


class Watchdog:
    """Watches over the batches of a process and its event loop."""

    def __init__(
        self,
        seconds: float,
        runs: UnderWay,
        call: Callable[[Callable[[], None]], object],
        told: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """Nothing is watched before `start`.

        Args:
            seconds: what is too long; 0 is never.
            runs: the batches.
            call: has the loop call back, from any thread.
            told: gets `batch` or `loop` whenever one is found to take too long.
            changed: called when `hung` has changed.
            clock: seconds, as `time.monotonic` counts them.
            leave: ends the process.

        """
        self._seconds = seconds
        self._grace = min(seconds, MAX_GRACE_SECONDS)
        self.tick = min(max(seconds / 10, 0.05), 1.0)
        """Seconds from one look to the next."""
        self._runs = runs
        self._call = call
        self._told = told
        self._changed = changed
        self._clock = clock
        self._leave = leave
        self._looked = clock()
        self._awake = 0.0
        """Seconds for which the process could have got on: while it was stopped as a whole, nobody could."""
        self._since: dict[Run, float] = {}
        """When each run was seen first, ..."""
        self._asked = 0.0
        """... and when the loop was asked to turn, ..."""
        self._has_turned = True
        """... and whether it has: all that the loop itself ever sets."""
        self._loop_hung = False
        self.hung = False
        """Is something under way that takes too long?"""
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch from now on."""
        if self._seconds:
            self._looked = self._clock()
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def look(self) -> None:
        """One look, of those that come a tick apart."""
        now = self._clock()
        self._awake += min(now - self._looked, 2 * self.tick)
        self._looked = now
        slow = self._look_at_runs()
        self._look_at_loop(blameless=slow)
        if self.hung and not (slow or self._loop_hung):
            self._set(hung=False)
            log.warning("hangs no more")

    def _watch(self) -> None:
        while not self._stopped.wait(self.tick):
            self.look()

    def _look_at_runs(self) -> bool:
        """Does any take too long?"""
        self._since = {run: self._since.get(run, self._awake) for run in self._runs.under_way}
        slow = False
        for run, since in self._since.items():
            age = self._awake - since
            if age < self._seconds:
                continue
            slow = True
            if not run.told:
                run.end()
                self._report("batch", run.name, age)
            elif age >= self._seconds + self._grace:
                self._give_up(run.name, age)
        return slow

    def _look_at_loop(self, *, blameless: bool) -> None:
        """Does the loop turn? It is `blameless` while it may itself be waiting for a batch."""
        if self._has_turned:
            self._asked, self._has_turned, self._loop_hung = self._awake, False, False
            try:
                self._call(self._turned)
            except RuntimeError:  # it is closed: the end is near
                self._has_turned = True
                self.stop()
            return
        if blameless:
            self._asked = self._awake
        age = self._awake - self._asked
        if age >= self._seconds and not self._loop_hung:
            self._loop_hung = True
            self._report("loop", _LOOP, age)
        elif age >= self._seconds + self._grace:
            self._give_up(_LOOP, age)

    def _turned(self) -> None:
        self._has_turned = True

    def _set(self, *, hung: bool) -> None:
        self.hung = hung
        self._changed()

    def _report(self, kind: str, what: str, age: float) -> None:
        self._told(kind)
        if not self.hung:
            self._set(hung=True)
        say("hangs", {"what": what, "seconds": round(age, 1), "threads": stacks()})

    def _give_up(self, what: str, age: float) -> None:
        say("hangs for good: exiting", {"what": what, "seconds": round(age, 1), "exit_code": EXIT_CODE})
        self._leave(EXIT_CODE)


def say(event: str, about: dict[str, Any]) -> None:
    """Log it from another thread, and don't wait for ever: what hangs may be the log, whose lock nobody gets then."""
    saying = threading.Thread(target=log.critical, args=(event,), kwargs={"extra": about}, name="say", daemon=True)
    with contextlib.suppress(RuntimeError):  # there is no thread to be had, and worse to be done
        saying.start()
        saying.join(SAY_SECONDS)


def stacks() -> dict[str, list[str]]:
    """Where every thread stands, by name, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, 'foreign')} ({ident})": [
            f"{found.filename}:{found.lineno} {found.name}" for found in traceback.extract_stack(frame)[-_MAX_FRAMES:]
        ]
        for ident, frame in sys._current_frames().items()
    }
