"""The thread on which control happens: it looks at the folder every now and then, and does what it is asked."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from serving.courtesy import gently, step_back
from serving.repository.control import Control
from serving.repository.later import NotYetError
from serving.status import Code, StatusError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

THREAD = "control"
"""Name of the thread: it may be busy with a model that never ends to load, and must not keep a process alive."""

MEND_SECONDS = 2.0
"""Before it is seen again whether all have what they should serve, where some did not."""

TRY_OUT_SECONDS = 2.0
"""After the start, before what was loaded then is tried out: who starts has better things to do first."""


class Watch:
    """Runs a `Control`, which only this thread touches."""

    def __init__(self, control: Control, poll_seconds: float = math.inf) -> None:
        """`poll_seconds` is infinite where the folder is not watched."""
        self._control = control
        self._poll_seconds = poll_seconds
        self._look_at = self._try_out_at = self._mend_at = math.inf
        self._waiting: list[tuple[Callable[[], None], Callable[[Any], None]]] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=THREAD, daemon=True).start()

    def ask(self, work: Callable[[Control], Result], done: Callable[[Result | BaseException], None]) -> None:
        """Have `work` done; `done` is called on the thread, with what it returned or raised. The start comes first.

        What is NotYetError is done again when a trial has ended, until it is something else.
        """

        def job() -> None:
            result: Any
            try:
                result = work(self._control)
            except NotYetError:
                self._waiting.append((job, done))
                return
            except BaseException as error:  # noqa: BLE001 - for who asked to see
                result = error
            self._mend_at = min(self._mend_at, time.monotonic() + MEND_SECONDS)
            done(result)

        with self._lock:
            if not self._stopped:
                self._asked.put(job)
                return
        done(_ending())

    def trial_ended(self) -> None:
        """There is news of a package: for those who wait for it, and for the next look."""
        self._asked.put(self._hear)

    def stop(self) -> None:
        """End as soon as what is under way is done; who asks from now on is told so."""
        with self._lock:
            self._stopped = True
            self._asked.put(None)

    def _run(self) -> None:
        job = self._asked.get()
        if job is None:
            return
        job()
        step_back()
        now = time.monotonic()
        self._look_at, self._try_out_at = now + self._poll_seconds, now + TRY_OUT_SECONDS
        while True:
            until = min(self._look_at, self._try_out_at, self._mend_at)
            try:
                job = self._asked.get(timeout=None if until == math.inf else max(0.0, until - time.monotonic()))
            except queue.Empty:
                timed = {self._try_out_at: self._try_out, self._mend_at: self._mend, self._look_at: self._look}
                job = timed[until]
            if job is None:
                break
            with gently():
                job()
        for _, done in self._waiting:
            done(_ending())

    def _hear(self) -> None:
        waiting, self._waiting = self._waiting, []
        for job, _ in waiting:
            job()
        self._try_out_at = time.monotonic()
        if self._poll_seconds < math.inf:
            try:
                self._control.hear()
            except Exception:
                log.exception("what was tried out could not be loaded")

    def _look(self) -> None:
        try:
            self._control.look()
        except Exception:
            log.exception("the models folder could not be looked at")
        self._look_at = time.monotonic() + self._poll_seconds

    def _mend(self) -> None:
        self._mend_at = math.inf
        try:
            if self._control.mend():
                self._mend_at = time.monotonic() + MEND_SECONDS
        except Exception:
            log.exception("what workers lack could not be mended")

    def _try_out(self) -> None:
        self._try_out_at = math.inf
        try:
            if self._control.try_out():
                self._try_out_at = time.monotonic() + TRY_OUT_SECONDS
        except Exception:
            log.exception("a model could not be tried out")


def _ending() -> StatusError:
    return StatusError(Code.UNAVAILABLE, "the server is shutting down", reason="draining")
