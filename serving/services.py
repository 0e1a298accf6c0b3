"""What a server answers, on each of its ports: the RPCs and the paths, from one backend, behind one gate."""

import asyncio
from dataclasses import dataclass
from typing import Any

from serving.access import rights
from serving.access.gate import Gate
from serving.access.rpcs import guarded, without_management
from serving.api.call import ANY, Receiver, Routes, Stream, Streaming, not_offered
from serving.api.exchange import Backend
from serving.api.health import READINESS, Health
from serving.api.health import SERVICE as HEALTH
from serving.api.inference.service import SERVICE as INFERENCE
from serving.api.inference.service import InferenceService
from serving.api.management import Management
from serving.api.prediction import SERVICE as PREDICTION
from serving.api.prediction import PredictionService
from serving.api.reflection import SERVICES as REFLECTION
from serving.api.reflection import Reflection
from serving.config import Settings
from serving.observing.following import Following
from serving.status import Code
from serving.telemetry.metrics import UNKNOWN

NAMES = ("", PREDICTION, INFERENCE, HEALTH, *REFLECTION)
"""Under which health speaks of the services; the empty one is the server itself."""


@dataclass(frozen=True)
class Services:
    """All of it."""

    settings: Settings
    backend: Backend
    management: Management
    health: Health
    gate: Gate | None
    """None where anybody may ask anything."""
    following: Following | None = None
    """None where nobody follows requests."""

    @property
    def _apart(self) -> bool:
        """Are models managed at an address of its own?"""
        return bool(self.settings.management_address or self.settings.management_http_address)

    def routes(self) -> Routes:
        """The RPCs of the port for everybody, by full method name."""
        routes = self._all()
        return self._guarded(without_management(routes) if self._apart else routes)

    def management_routes(self) -> Routes:
        """Those of the port for management: what needs its scope, and health."""
        return self._guarded({method: route for method, route in self._all().items() if rights.managing(method)})

    def application(self) -> Any:
        """What is answered over HTTP, as an ASGI application."""
        return self._rest(management_only=False)

    def management_application(self) -> Any:
        """What is answered over HTTP on the port for management."""
        return self._rest(management_only=True)

    def _all(self) -> Routes:
        services = (
            PredictionService(self.backend),
            InferenceService(self.backend, self.management, self.settings.max_batch_delay),
            self.health,
            Reflection([PREDICTION, INFERENCE, HEALTH]),
        )
        routes = {method: route for service in services for method, route in service.routes().items()}
        return {**routes, ANY: Streaming(self._not_offered)}

    def _not_offered(self, stream: Stream) -> Receiver:
        self.backend.metrics.answered(UNKNOWN, UNKNOWN, UNKNOWN, Code.UNIMPLEMENTED.name, 0.0)
        return not_offered(stream)

    def _guarded(self, routes: Routes) -> Routes:
        if self.gate is not None:
            routes = guarded(routes, self.gate, asyncio.get_running_loop().call_later)
        return routes if self.following is None else self.following.routes(routes)

    def _rest(self, *, management_only: bool) -> Any:
        # Late: it takes as long to import as a model to load, and is imported beside them.
        from serving.access.paths import Elsewhere, GuardedPath
        from serving.api.rest.application import application, follow_none

        def around(path: str, endpoint: Any) -> Any:
            if management_only and not rights.managing(path):
                return None
            if self._apart and not management_only and rights.manages(path):
                return Elsewhere()
            scopes = rights.needed(path)
            return endpoint if self.gate is None or scopes is None else GuardedPath(path, scopes, endpoint, self.gate)

        return application(
            self.backend,
            self.management,
            lambda: self.health.serving(READINESS) is True,
            max_body_bytes=self.settings.max_message_bytes,
            max_delay=self.settings.max_batch_delay,
            around=around,
            follow=follow_none if self.following is None else self.following.path,
        )
