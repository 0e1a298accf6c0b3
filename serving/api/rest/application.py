"""The whole API as one ASGI application: which path is answered by what."""

from collections.abc import Callable
from typing import Any

from starlette.routing import Route, Router

from serving.api.exchange import Backend
from serving.api.management import Management
from serving.api.rest.body import Intake
from serving.api.rest.endpoint import Endpoint, not_found
from serving.api.rest.inference import InferenceApi
from serving.api.rest.openapi import Description
from serving.api.rest.typed import TypedApi


def application(
    backend: Backend,
    management: Management,
    ready: Callable[[], bool],
    *,
    max_body_bytes: int,
    max_delay: float = 0.0,
) -> Any:
    """An ASGI application, without a lifespan.

    Args:
        backend: what it answers from.
        management: whom it asks for what is about models.
        ready: is the server?
        max_body_bytes: of a request, compressed or not.
        max_delay: seconds for which a batch may wait for more rows.
    """
    routes = TypedApi(backend).routes() | InferenceApi(backend, management, ready, max_delay).routes()
    description = Description((path, tuple(handlers)) for path, handlers in routes.items())
    routes |= {
        "/openapi.json": {"GET": description.document},
        "/": {"GET": description.page},
        "/docs": {"GET": description.page},
    }
    intake = Intake(max_body_bytes)
    return Router(
        # Endpoints are ASGI applications: no request or response objects come between.
        [Route(path, Endpoint(intake, handlers), name=path) for path, handlers in routes.items()],
        redirect_slashes=False,
        default=not_found,
    )
