"""A served version whose batches fail one after the other: its golden examples say whether it is still sound."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from serving.engine.engine import Runner
from serving.repository import verify
from serving.repository.disk import LoadError

log = logging.getLogger(__name__)

HOLD_SECONDS = 10.0
"""After a check, until the next: callers whose requests can't be computed must not keep it busy."""


class Doubt:
    """Checks one version, on a thread of its own, when its engine asks for it."""

    def __init__(
        self, runners: Sequence[Runner], unsound: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`unsound` is called on the thread, with the reason, when one of `runners` does not reproduce the examples."""
        self._runners = runners
        self._unsound = unsound
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at = 0.0

    def __call__(self) -> None:
        """Too many batches failed."""
        with self._lock:
            if self._clock() < self._again_at:
                return
            self._again_at = self._clock() + HOLD_SECONDS
        try:
            threading.Thread(target=self._check, name="doubt", daemon=True).start()
        except RuntimeError as error:  # there is none to be had; who asks has callers to answer
            log.warning("batches fail, and there is no thread to check why", extra={"reason": str(error)})

    def _check(self) -> None:
        manifest = self._runners[0].manifest
        about = {"model": manifest.name, "version": manifest.version}
        try:
            for runner in self._runners:
                verify.reproduce(runner)
        except LoadError as error:
            self._unsound(str(error))
        else:
            log.warning("batches fail, and the golden examples hold: it is what was asked", extra=about)
