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


def follow_none(_: str, answer: Any) -> Any:
    """Nobody follows requests."""
    return answer


def application(
    backend: Backend,
    management: Management,
    ready: Callable[[], bool],
    *,
    max_body_bytes: int,
    max_delay: float = 0.0,
    around: Callable[[str, Any], Any] = lambda _, endpoint: endpoint,
    follow: Callable[[str, Any], Any] = follow_none,
) -> Any:
    """An ASGI application, without a lifespan.

    Args:
        backend: what it answers from.
        management: whom it asks for what is about models.
        ready: is the server?
        max_body_bytes: of a request, compressed or not.
        max_delay: seconds for which a batch may wait for more rows.
        around: what answers a path, given the path, its variable parts in braces, and what would answer it by itself;
            None where nothing is to.
        follow: what is told of every request first, of what is no path of the API's, too, as "".
    """
    routes = TypedApi(backend).routes() | InferenceApi(backend, management, ready, max_delay).routes()
    description = Description((path, tuple(handlers)) for path, handlers in routes.items())
    routes |= {
        "/openapi.json": {"GET": description.document},
        "/": {"GET": description.page},
        "/docs": {"GET": description.page},
    }
    intake = Intake(max_body_bytes)
    # Endpoints are ASGI applications: no request or response objects come between.
    answered = {path: around(path, Endpoint(intake, handlers)) for path, handlers in routes.items()}
    return Router(
        [Route(path, follow(path, answer), name=path) for path, answer in answered.items() if answer is not None],
        redirect_slashes=False,
        default=follow("", not_found),
    )
