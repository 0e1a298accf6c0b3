"""Request log and traces, as the settings want them."""

import asyncio
from functools import partial
from typing import Final

from serving.api.exchange import Backend
from serving.config import Settings
from serving.observing.following import Follower, Following, Witness
from serving.observing.request_log import RequestLog
from serving.repository.models import Models

FLUSH_SECONDS: Final = 5.0
"""At the end, in which the collector must have taken the last spans."""

LEAST_FLUSH_SECONDS: Final = 1.0
"""The same, where draining took all its time."""


class Observing:
    """What watches one server's requests."""

    def __init__(self, settings: Settings, worker: int | None, loop: asyncio.AbstractEventLoop) -> None:
        """`worker`: which of several processes this is."""
        followers = list[Follower]()
        self._tracer = None
        if settings.otlp_endpoint:
            # Late: nobody else need have it installed, or wait for it.
            from serving.observing.tracing import Tracer

            self._tracer = Tracer(settings.otlp_endpoint, settings.trace_sample_ratio, worker)
            followers.append(self._tracer)
        if settings.log_requests != "off":
            followers.append(RequestLog(failed_only=settings.log_requests == "failed"))
        self.following = Following(followers, loop.call_soon) if followers else None
        """None where nobody wants to know of requests."""

    def attach(self, backend: Backend, models: Models) -> None:
        """Watch what goes through them."""
        if self.following is not None:
            backend.exchange = partial(self.following.exchange, backend)
            models.observe = Witness

    async def close(self, left: float) -> None:
        """Send the last spans; `left` are the seconds of the drain that are."""
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close, max(LEAST_FLUSH_SECONDS, min(FLUSH_SECONDS, left)))
