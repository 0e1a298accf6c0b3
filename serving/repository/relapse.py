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


@dataclass(slots=True)
class _Relapse:
    """One version."""

    seen: Seen
    backoff: float = FIRST_BACKOFF_SECONDS
    again_at: float = -math.inf


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

    def __bool__(self) -> bool:
        return bool(self._out)

    def take_out(self, name: str, number: int, model: Model, digest: str, reason: str) -> None:
        """Serve a version no more, if it is still the one that failed."""
        seen = model.seen.get(number)
        if seen is None or not seen.ready or seen.digest != digest:
            return
        log.error("model failed", extra={"model": name, "version": number, "reason": reason})
        self._metrics.failed(name, number)
        seen.ready, seen.reason = False, f"it failed while it served: {reason}"
        self._out[name, number] = _Relapse(seen)
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
                relapse.again_at = self._clock() + relapse.backoff
                relapse.backoff = min(2 * relapse.backoff, LAST_BACKOFF_SECONDS)
                continue
            del self._out[name, number]
            seen.ready, seen.reason = True, ""
            self._metrics.loaded(name, "ready")
            self._serve(name, model)
            log.info("model recovered", extra=about)
