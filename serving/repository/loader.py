"""Brings single versions into service: tried out, prepared, or refused with a reason that lasts or passes."""

import logging
from collections.abc import Callable
from pathlib import Path

from serving.repository import disk
from serving.repository.disk import LoadError
from serving.repository.routing import Fleet, Wanted
from serving.repository.state import Model, Pending, Seen
from serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

TryOut = Callable[[Path, str, int, str], bool]
"""Has a package (folder, name, version, digest) been run where it can do no harm? False where it still is; raises
LoadError where it is unfit."""

RETRY_SECONDS = 10.0
"""After which a version is tried again that failed for reasons which are not its own."""


class Loader:
    """Loads the versions of one models folder."""

    def __init__(
        self, folder: Path, fleet: Fleet, metrics: Metrics, try_out: TryOut, clock: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._fleet = fleet
        self._metrics = metrics
        self._try_out = try_out
        self._clock = clock

    def bring(
        self, name: str, model: Model, number: int, folder: Path, pending: Pending | None, *, trial: bool
    ) -> bool:
        """Load a version, unless it was tried as it is; whether a commit is needed.

        Args:
            name: of the model.
            model: takes note of what comes of it.
            number: of the version.
            folder: where it lies.
            pending: what is known of it from before, where its trial was under way.
            trial: is it to be tried out first?
        """
        mark, seen = disk.fingerprint(folder), model.seen.get(number)
        if seen is not None and (seen.mark == mark or (seen.mark is None and self._clock() < seen.retry_at)):
            return False
        asked = False
        try:
            digest = None
            if trial:
                if pending is not None and pending.mark == mark:
                    digest = pending.digest  # to read it is work
                else:
                    digest = disk.read(self._folder, folder, name, number).digest
                same = seen is not None and seen.ready and seen.digest == digest
                if not (same or self._try_out(folder, name, number, digest)):
                    model.pending[number] = Pending(folder, mark, digest)
                    return False
            asked = True
            prepared = self._fleet.prepare(Wanted(str(folder), name, number, digest))
        except LoadError as error:
            self._refuse(name, number, error, seen.reason if seen else "")
            # The one that is served lies in memory and goes on.
            kept = seen is not None and seen.ready
            model.seen[number] = Seen(
                mark if error.lasting else None,
                folder,
                kept,
                seen.digest if seen is not None and kept else "",
                str(error),
                seen.gpu_memory if seen is not None else {},
                tried_out=True,
                retry_at=self._clock() + RETRY_SECONDS,
            )
            return asked  # of several, some may have prepared it
        if prepared.fresh:
            self._metrics.loaded(name, "ready")
        memory = prepared.gpu_memory
        model.seen[number] = Seen(mark, folder, True, prepared.digest, gpu_memory=memory, tried_out=trial)
        return prepared.fresh

    def try_served(self, name: str, number: int, seen: Seen) -> bool:
        """Try out a version that is served already; False where it failed, and is not to be any more."""
        try:
            seen.tried_out = self._try_out(seen.folder, name, number, seen.digest)
        except LoadError as error:
            if disk.fingerprint(seen.folder) != seen.mark:
                seen.tried_out = True  # it is another by now
            elif not error.lasting:
                seen.retry_at = self._clock() + RETRY_SECONDS
            else:
                self._refuse(name, number, error)
                seen.ready, seen.tried_out, seen.reason = False, True, str(error)
                return False
        return True

    def _refuse(self, name: str, number: int, error: LoadError, before: str = "") -> None:
        """Log and count that a version is not served; not again and again, where it is for passing reasons."""
        about = {"model": name, "version": number, "reason": str(error)}
        if error.lasting:
            log.error("model refused", extra=about)
            self._metrics.loaded(name, error.outcome)
        elif str(error) != before:
            log.warning("model not loaded yet", extra=about)
