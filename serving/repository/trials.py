"""Trials, one after the other on a thread of their own: control goes on meanwhile, whatever a package does in one."""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serving.courtesy import LAST_NICE, step_back
from serving.repository.disk import LoadError

MAX_REMEMBERED = 1024

FRESH_SECONDS = 5.0
"""In which who waited for a trial asks what came of it."""

Run = Callable[[Path, str, int, str], object]
"""Tries out a package (folder, name, version, digest) and takes its time; raises LoadError where it is unfit."""


class Trials:
    """What was tried out, by digest: a package that is the same is not tried twice."""

    def __init__(self, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._results: dict[str, tuple[LoadError | None, float]] = {}
        self._under_way: set[str] = set()
        self._wanted: queue.SimpleQueue[tuple[Path, str, int, str]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.ended: Callable[[], None] = _nobody
        """Called on that thread after each."""

    def __call__(self, folder: Path, name: str, version: int, digest: str) -> bool:
        """Has the package passed? False where its trial is not over, which begins if it has not.

        Raises:
            LoadError: it failed.
        """
        if digest in self._results:
            error, when = self._results[digest]
            if error is None:
                return True
            if error.lasting:
                raise error
            del self._results[digest]  # it is told once, to who waited for it, and next time tried again
            if self._clock() - when < FRESH_SECONDS:
                raise error
        if digest not in self._under_way:
            self._under_way.add(digest)
            self._wanted.put((folder, name, version, digest))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="trials", daemon=True)
                self._thread.start()
        return False

    def _work(self) -> None:
        step_back(LAST_NICE)  # as its children do from their very beginning
        while True:
            folder, name, version, digest = self._wanted.get()
            result: LoadError | None = None
            try:
                self._run(folder, name, version, digest)
            except LoadError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - a fault of ours says nothing of the package
                result = LoadError("load_error", f"its trial failed: {error}", lasting=False)
            while len(self._results) >= MAX_REMEMBERED:
                del self._results[next(iter(self._results))]
            self._results[digest] = result, self._clock()
            self._under_way.discard(digest)
            self.ended()


def _nobody() -> None:
    """Wants to know."""
