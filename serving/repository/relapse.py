"""Versions that failed while they served: out of service until a fresh session of theirs is sound."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.repository.disk import LoadError
from serving.repository.routing import Fleet, Wanted
from serving.repository.state import Model, Seen
from serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 2.0
LAST_BACKOFF_SECONDS = 60.0

STALE_SECONDS = 5.0
"""After a recovery, in which a report is taken for one of the session before: of several workers each makes its own.
Should it be about the new one, it is repeated (`serving.repository.doubt`)."""

STEADY_SECONDS = 60.0
"""After which a version that came back, and fails again, is tried again at once, as for the first time."""


@dataclass(slots=True)
class _Relapse:
    """One version."""

    seen: Seen
    backoff: float = FIRST_BACKOFF_SECONDS
    again_at: float = -math.inf
    back_at: float = -math.inf
    """When it was served again."""

    def wait(self, now: float) -> None:
        """Try it later; the next time later still."""
        self.again_at = now + self.backoff
        self.backoff = min(2 * self.backoff, LAST_BACKOFF_SECONDS)


class Relapses:
    """All of them."""

    def __init__(
        self, fleet: Fleet, metrics: Metrics, serve: Callable[[str, Model], None], clock: Callable[[], float]
    ) -> None:
        """`serve` commits what is ready of a model."""
        self._fleet = fleet
        self._metrics = metrics
        self._serve = serve
        self._clock = clock
        self._out: dict[tuple[str, int], _Relapse] = {}
        self._back: dict[tuple[str, int], _Relapse] = {}
        """Those that recovered, not long ago."""

    def __bool__(self) -> bool:
        return bool(self._out)

    def take_out(self, name: str, number: int, model: Model, digest: str, reason: str) -> None:
        """Serve a version no more, if it is still the one that failed."""
        seen = model.seen.get(number)
        if seen is None or not seen.ready or seen.digest != digest:
            return
        now = self._clock()
        relapse = self._back.pop((name, number), None)
        if relapse is None or relapse.seen is not seen or now >= relapse.back_at + STEADY_SECONDS:
            relapse = _Relapse(seen)
        elif now < relapse.back_at + STALE_SECONDS:
            self._back[name, number] = relapse
            return
        else:
            relapse.wait(now)  # it loads, and fails again and again
        log.error("model failed", extra={"model": name, "version": number, "reason": reason})
        self._metrics.failed(name, number)
        seen.ready, seen.reason = False, f"it failed while it served: {reason}"
        self._out[name, number] = relapse
        self._serve(name, model)

    def recover(self, models: Mapping[str, Model]) -> None:
        """Load those whose time has come anew, and serve again what proves sound."""
        for (name, number), relapse in list(self._out.items()):
            model, seen = models.get(name), relapse.seen
            if model is None or model.seen.get(number) is not seen:
                del self._out[name, number]  # it was removed, or is another by now
                continue
            if self._clock() < relapse.again_at:
                continue
            about = {"model": name, "version": number}
            try:
                self._fleet.prepare(Wanted(str(seen.folder), name, number, seen.digest))
            except LoadError as error:
                log.warning("model not recovered", extra={**about, "reason": str(error), "backoff": relapse.backoff})
                relapse.wait(self._clock())
                self._fleet.commit({name: model.routing})  # of several, some may have prepared it: they let it go
                continue
            self._back[name, number] = self._out.pop((name, number))
            relapse.back_at = self._clock()
            seen.ready, seen.reason = True, ""
            self._metrics.loaded(name, "ready")
            self._serve(name, model)
            log.info("model recovered", extra=about)
