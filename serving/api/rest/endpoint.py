"""A path of the API as an ASGI application: it reads the body, calls the handler of the method, sends the answer."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from serving.api.rest.ask import Ask, Handler
from serving.api.rest.body import GoneError, Intake, UnreadError
from serving.api.rest.coding import MAX_BYTES, MIN_BYTES, accepted, encoded
from serving.api.rest.errors import CLOSE, Fields, HttpError, Reply
from serving.request_id import HEADER
from serving.status import StatusError, fault, shown

ON_DISCONNECT: Final = "on_disconnect"
"""Key in a scope's `state` under which an endpoint that waits for its answer leaves what is to be called when the
client is gone: ASGI itself would have it wait for that in a task of its own, one for each request."""

FOLLOWER: Final = "follower"
"""Key in a scope's `state` under which whoever follows the request is found (`serving.observing.following`)."""

LINGER_SECONDS: Final = 2.0
"""For which the rest of a refused body is discarded: a connection closed on unread data is reset, and what was
answered may be lost with it."""

PASSED_OVER_BYTES: Final = 64 * 1024
"""Of a body that is refused, for which its connection is kept; it must come within the time that any has."""

_REQUEST_ID: Final = HEADER.encode()


class Endpoint:
    """One path."""

    def __init__(self, intake: Intake, handlers: Mapping[str, Handler]) -> None:
        """`handlers` by method; that of GET also answers HEAD."""
        self._intake = intake
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        arrival = time.monotonic()
        fields: dict[bytes, bytes] = dict(scope["headers"])
        ask = Ask(scope.get("path_params") or {}, fields, arrival)
        ask.follower = scope.setdefault("state", {}).get(FOLLOWER)
        try:
            handler = self._handlers.get(scope["method"])
            if handler is None:
                raise self._not_allowed()
            body = b"" if scope["method"] in ("GET", "HEAD") else await self._intake.read(fields, receive)
            handler(ask, body)
        except GoneError:
            return
        except UnreadError as error:
            ask.end(error.error)
            await _turn_away(_reply(ask), receive, send)
            return
        except (StatusError, HttpError) as error:
            ask.end(error)
        except Exception as error:  # noqa: BLE001 - the caller must be answered, whatever it is
            ask.end(fault(f"{scope['method']} {scope['path']}", error, ask.ids()))
        body = b""  # it may be large, and the wait long
        if ask.reply is None:
            await _answer(ask, scope["state"])
            if ask.reply is None:
                return
        reply = ask.reply
        if _REQUEST_ID in fields and reply.status < HTTPStatus.BAD_REQUEST:  # errors have it in any case
            reply = reply._replace(fields=(*reply.fields, (_REQUEST_ID, ask.request_id.encode())))
        await _send(reply, fields, send)

    def _not_allowed(self) -> HttpError:
        methods = ", ".join(self._handlers)
        return HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"this path takes: {methods}", ((b"allow", methods.encode()),))


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    """ASGI: the answer for any path that is none of the API's."""
    message = f"there is nothing at {shown(scope['path'])}; GET /openapi.json tells what there is"
    ask = Ask({}, dict(scope["headers"]), 0.0)
    ask.end(HttpError(HTTPStatus.NOT_FOUND, message))
    await _send(_reply(ask), {}, send)


async def refuse(ask: Ask, error: StatusError, challenge: Fields, receive: Any, send: Any) -> None:
    """Answer a request that is refused for its head: a small body is passed over, a large one not waited for.

    `challenge` are fields that the answer has beside those of any such error.
    """
    ask.end(error)
    reply = _reply(ask)
    reply = reply._replace(fields=(*reply.fields, *challenge))
    length = ask.fields.get(b"content-length", b"0")
    if b"transfer-encoding" in ask.fields or not length.isdigit() or int(length) > PASSED_OVER_BYTES:
        await _turn_away(reply, receive, send)
        return
    while (await receive()).get("more_body", False):
        pass
    await _send(reply, {}, send)


def _reply(ask: Ask) -> Reply:
    assert ask.reply is not None  # noqa: S101 - to be asked of what has ended
    return ask.reply


async def _answer(ask: Ask, state: dict[str, Any]) -> None:
    """Wait for the answer, or for the client to go."""
    ended = asyncio.get_running_loop().create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    ask.when_ended(tell)
    state[ON_DISCONNECT] = ask.cancel
    try:
        await ended
    except asyncio.CancelledError:
        ask.cancel()
        raise


async def _send(reply: Reply, fields: Mapping[bytes, bytes], send: Any) -> None:
    body, headers = reply.body, [*reply.fields]
    if MIN_BYTES <= len(body) <= MAX_BYTES:
        coding = accepted(fields.get(b"accept-encoding", b""))
        if coding:
            body = encoded(body, coding)
            headers.append((b"content-encoding", coding))
        headers.append((b"vary", b"accept-encoding"))
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _turn_away(reply: Reply, receive: Any, send: Any) -> None:
    """Say what is wrong, and discard what still comes, for a moment."""
    headers = [*reply.fields, CLOSE, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b""})
