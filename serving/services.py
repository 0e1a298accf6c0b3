"""What a server answers: the routes of its RPCs and the application behind its HTTP port, from one backend."""

from typing import Any

from serving.api.call import Routes
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

NAMES = ("", PREDICTION, INFERENCE, HEALTH, *REFLECTION)
"""Under which health speaks of the services; the empty one is the server itself."""


def routes(settings: Settings, backend: Backend, management: Management, health: Health) -> Routes:
    """Every RPC that is answered, by full method name."""
    services = (
        PredictionService(backend),
        InferenceService(backend, management, settings.max_batch_delay),
        health,
        Reflection([PREDICTION, INFERENCE, HEALTH]),
    )
    return {method: route for service in services for method, route in service.routes().items()}


def application(settings: Settings, backend: Backend, management: Management, health: Health) -> Any:
    """What is answered over HTTP, as an ASGI application."""
    # Late: it takes as long to import as a model to load, and is imported beside them.
    from serving.api.rest.application import application as rest

    return rest(
        backend,
        management,
        lambda: health.serving(READINESS) is True,
        max_body_bytes=settings.max_message_bytes,
        max_delay=settings.max_batch_delay,
    )
